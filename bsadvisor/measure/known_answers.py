"""Problems whose every answer is known in closed form: for `selftest` and for our own tests.

A noisy quadratic has the loss  w'Hw / 2 + x'w  on an example x ~ N(0, Sigma): its gradient at w is
Hw + x, so G = Hw, the covariance of one example's gradient is Sigma, and the Hessian is H. Both are
diagonal here; a negative entry in H makes a saddle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn


class Table:
    """Examples (N, d) under their numbers, or arriving in order when `endless`."""

    def __init__(self, examples: Tensor, *, endless: bool = False) -> None:
        self._examples = examples
        self._endless = endless

    @property
    def size(self) -> int | None:
        return None if self._endless else len(self._examples)

    @property
    def dropped(self) -> int:
        return 0

    def fetch(self, groups: Sequence[Sequence[int]]) -> Iterator[Any]:
        """The rows of each group; ends where the table does."""
        for group in groups:
            if group[-1] >= len(self._examples):
                return
            yield self._examples[torch.as_tensor(list(group))]


class Point(nn.Module):
    """A model that is nothing but the position w."""

    def __init__(self, position: Tensor) -> None:
        super().__init__()
        self.position = nn.Parameter(position.clone())


@dataclass(kw_only=True)
class NoisyQuadratic:
    """A `Problem` with known G, Sigma and H.

    Args:
        hessian: (d,) diagonal of H.
        position: (d,) w, in the type and on the device that is tested.
        deviations: (d,) square roots of the diagonal of Sigma.
        examples: N, the rows of the table that is drawn from.
        diagonal: (d,) preconditioner D, or None.
        heavy_tailed: a tenth of the examples carry 70 % of the noise.
        reduction: how the loss reduces over a batch.
        endless: numbers arrive as a stream.
    """

    hessian: Tensor
    position: Tensor
    deviations: Tensor
    examples: int = 4096
    seed: int = 0
    diagonal: Tensor | None = None
    heavy_tailed: bool = False
    reduction: Literal["mean", "sum"] = "mean"
    endless: bool = False

    @cached_property
    def model(self) -> nn.Module:
        return Point(self.position)

    @property
    def device(self) -> torch.device:
        return self.position.device

    @cached_property
    def data(self) -> Table:
        return Table(self._draw(), endless=self.endless)

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    @property
    def preconditioner(self) -> dict[str, Tensor] | None:
        return None if self.diagonal is None else {"position": self.diagonal.to(self.device)}

    def loss(self, batch: Tensor, *, full_precision: bool = False) -> Tensor:
        """w'Hw / 2 + x'w, reduced over the batch."""
        w = self.parameters["position"]
        losses = 0.5 * (self.hessian.to(w) * w * w).sum() + batch.to(w) @ w
        return losses.sum() if self.reduction == "sum" else losses.mean()

    def weight(self, batch: Tensor) -> int | None:
        return None

    def labels(self, batch: Tensor) -> Tensor | None:
        return None

    @property
    def gradient(self) -> Tensor:
        """G in float64."""
        return (self.hessian.to(self.position) * self.position).double().cpu()

    @property
    def squared_norm(self) -> float:
        """|G|^2."""
        return float(self.gradient.square().sum())

    @property
    def noise_trace(self) -> float:
        """tr(Sigma)."""
        return float(self.deviations.double().square().sum())

    @property
    def noise_scale_simple(self) -> float:
        """B_simple."""
        return self.noise_trace / self.squared_norm

    @property
    def noise_scale_preconditioned(self) -> float:
        """tr(D Sigma) / (G'DG)."""
        diagonal = torch.ones_like(self.gradient) if self.diagonal is None else self.diagonal.double()
        noise = (diagonal * self.deviations.double().square()).sum()
        return float(noise / (diagonal * self.gradient.square()).sum())

    @property
    def noise_scale_training_set(self) -> float:
        """B_simple of the table itself: its covariance (with N - 1) over its squared mean gradient."""
        rows = self.data._examples.double() + self.gradient
        mean = rows.mean(0)
        return float((rows - mean).square().sum() / (len(rows) - 1) / mean.square().sum())

    @property
    def max_learning_rate(self) -> float:
        """Best single step along G: |G|^2 / G'HG."""
        return self.squared_norm / float((self.hessian.double() * self.gradient.square()).sum())

    @property
    def noise_scale(self) -> float:
        """B_noise = tr(H Sigma) / G'HG."""
        hessian = self.hessian.double().cpu()
        noise = (hessian * self.deviations.double().cpu().square()).sum()
        return float(noise / (hessian * self.gradient.square()).sum())

    @property
    def eigenvalues(self) -> Tensor:
        """(d,): of H, or of D^1/2 H D^1/2; ascending, in float64."""
        scale = 1.0 if self.diagonal is None else self.diagonal.double().cpu()
        return (self.hessian.double().cpu() * scale).sort().values

    def _draw(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.examples, len(self.deviations))
        noise = torch.randn(shape, generator=generator)
        if self.heavy_tailed:
            loud = torch.rand(self.examples, 1, generator=generator) < 0.1
            noise *= torch.where(loud, 7.0**0.5, (0.3 / 0.9) ** 0.5)
        return noise * self.deviations.float().cpu()
