"""Targets whose every answer is known in closed form: the oracle of the tests.

The noisy quadratic itself ships with the package, because `bsadvisor selftest` asks it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from bsadvisor.measure.gradients import GradientProbe
from bsadvisor.measure.known_answers import NoisyQuadratic, Table
from bsadvisor.measure.sampler import Sampler


def quadratic(
    *, noise_scale: float = 50.0, dimensions: int = 60, spread: float = 0.5, **kind: Any
) -> NoisyQuadratic:
    """A noisy quadratic with the B_simple asked for and noise variances falling as i^-spread."""
    deviations = torch.arange(1, dimensions + 1).float() ** (-spread / 2)
    hessian = torch.linspace(0.5, 1.5, dimensions)
    direction = 1 / hessian / dimensions**0.5
    scale = (float(deviations.square().sum()) / noise_scale) ** 0.5
    return NoisyQuadratic(hessian=hessian, position=direction * scale, deviations=deviations, **kind)


def probe(
    problem: Any, *, examples: int, micro_batch: int, seed: int = 0, reduction: str = "mean"
) -> GradientProbe:
    """Run the real gradient phase without limits."""
    sampler = Sampler(problem.data, seed=seed, min_gradient=examples)
    measured = GradientProbe(problem, sampler, micro_batch=micro_batch, seed=seed, reduction=reduction)
    measured.run(examples, time_left=lambda: 1e9, stop=lambda: False, progress=lambda done: None)
    return measured


@dataclass(kw_only=True)
class BentQuadratic(NoisyQuadratic):
    """Every example has a Hessian H + S of its own: its loss is  w'(H + S)w / 2 + x'w.

    S is symmetric with entries of variance `bending`^2 / 2, twice that on the diagonal, so that one
    example's gradient Hw + Sw + x has the covariance  diag(deviations^2) + bending^2 (|w|^2 + ww') / 2.
    """

    bending: float

    def loss(self, batch: Tensor, *, full_precision: bool = False) -> Tensor:
        w = self.parameters["position"]
        size = len(w)
        mean = batch.to(w).mean(0)
        bent = torch.diag(self.hessian.to(w)) + mean[size:].view(size, size)
        loss = w @ bent @ w / 2 + mean[:size] @ w
        return loss * len(batch) if self.reduction == "sum" else loss

    @property
    def covariance(self) -> Tensor:
        """(d, d): Sigma in float64."""
        w = self.position.double()
        own = (w @ w) * torch.eye(len(w), dtype=torch.float64) + torch.outer(w, w)
        return torch.diag(self.deviations.double().square()) + self.bending**2 / 2 * own

    @property
    def gradient_curvature(self) -> float:
        """G'HG."""
        return float((self.hessian.double() * self.gradient.square()).sum())

    @property
    def noise_scale(self) -> float:
        """B_noise = tr(H Sigma) / G'HG."""
        return float((self.hessian.double() * self.covariance.diagonal()).sum()) / self.gradient_curvature

    def _draw(self) -> Tensor:
        size = len(self.position)
        generator = torch.Generator().manual_seed(self.seed + 1)
        square = torch.randn(self.examples, size, size, generator=generator)
        bends = self.bending * (square + square.mT) / 2
        return torch.cat([super()._draw(), bends.flatten(1)], dim=1)


@dataclass(kw_only=True)
class ShakenQuadratic(NoisyQuadratic):
    """Its gradient has more noise than that of the data: Hw + x + augmentation + mask.

    Args:
        augmentation: deviation of what every fetch of an example adds to each coordinate of x.
        mask: deviation of what every forward pass adds, for each example by itself.
        shared: deviation of what it adds to all examples of a batch alike.
    """

    augmentation: float = 0.0
    mask: float = 0.0
    shared: float = 0.0

    def loss(self, batch: Tensor, *, full_precision: bool = False) -> Tensor:
        w = self.parameters["position"]
        own = self.mask * torch.randn(batch.shape).mean(0)
        return super().loss(batch) + (own + self.shared * torch.randn(len(w))) @ w

    @cached_property
    def data(self) -> Table:
        return ShakenTable(self._draw(), self.augmentation)

    def trace(self, deviation: float) -> float:
        """Of an isotropic covariance."""
        return deviation**2 * len(self.position)


class ShakenTable(Table):
    """Every fetch of a row is another one."""

    def __init__(self, examples: Tensor, deviation: float) -> None:
        super().__init__(examples)
        self._deviation = deviation

    def fetch(self, groups: Sequence[Sequence[int]]) -> Iterator[Any]:
        for rows in super().fetch(groups):
            yield rows + self._deviation * torch.randn(rows.shape) if self._deviation else rows


def bent_quadratic(kind: str, **options: Any) -> BentQuadratic:
    """A small world whose mean Hessian is definite, indefinite, degenerate or ill-conditioned."""
    spectra = {
        "definite": torch.linspace(0.5, 2.0, 8),
        "indefinite": torch.tensor([-1.0, -0.5, -0.2, 0.3, 0.8, 1.5, 2.0, 3.0]),
        "degenerate": torch.tensor([-1.0, -1.0, 0.0, 0.0, 0.0, 2.0, 2.0, 2.0]),
        "ill-conditioned": torch.logspace(-6, 0, 8),
    }
    hessian = spectra[kind]
    # A gradient of length one, mostly where the loss bends most.
    position = torch.sign(hessian) * hessian.abs() ** 0.5
    position /= (hessian * position).norm()
    deviations = torch.linspace(1.0, 2.0, 8)
    return BentQuadratic(hessian=hessian, position=position, deviations=deviations, bending=0.3, **options)
