"""Steps along measured updates, and the losses of some examples where they end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsadvisor.measure.gradients import GradientProbe, gradients_of
from bsadvisor.measure.hessian import Hessian
from bsadvisor.measure.norms import PIECE
from bsadvisor.measure.preserve import buffers_kept
from bsadvisor.measure.problem import Problem
from bsadvisor.measure.statistics import noise_trace, squared_norm
from bsadvisor.theory.noise_scale import Array, t_quantile

DIRECTIONS = 8
"""Chunks whose updates show the curvature of the noise."""

READERS = 1
"""Chunks on which the ends of one direction's steps are read: the next ones, never its own. Two do no better."""

KEPT_PARAMETERS = 2**20
"""Of models up to this size the chunks' gradients are kept, instead of being computed for every round."""

LEVEL = 0.95
"""Of the intervals from which standard errors are taken: any would do."""

Parts = Mapping[str, Tensor | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanGradient:
    """What the gradient phase found, in the geometry of the optimizer's D."""

    total: Mapping[str, Tensor]
    """`weight` times the mean gradient g, by parameter name."""
    weight: float
    examples: int
    slope: float | None
    """G'DG of the population, without bias; None where it was not resolved."""
    slope_error: float
    """Its standard error."""
    trace: float
    """tr(D Sigma)."""
    reduction: str = "mean"
    """How the loss reduces over a batch: `mean`, `sum` or `token_mean`."""


def mean_gradient(probe: GradientProbe) -> MeanGradient:
    """Of a probe that is done."""
    sums = probe.accumulator.sums(preconditioned=probe.problem.preconditioner is not None)
    slope = squared_norm(sums, LEVEL)
    spread = math.inf if slope.low is None or slope.high is None else (slope.high - slope.low) / 2
    return MeanGradient(
        total=probe.accumulator.total_gradient(),
        weight=probe.accumulator.total_weight,
        examples=probe.accumulator.num_examples,
        slope=slope.value,
        slope_error=spread / t_quantile(LEVEL, max(sums.num_blocks - 1, 1)),
        trace=noise_trace(sums, LEVEL).value or 0.0,
        reduction=probe.reduction,
    )


class StepTrial:
    """Moves the parameters and reads the losses of all chunks there."""

    def __init__(
        self,
        problem: Problem,
        batches: Sequence[Any],
        mean: MeanGradient,
        *,
        size: int,
        seed: int,
        origin: Sequence[Tensor],
    ) -> None:
        self.problem = problem
        self.batches = batches
        self.mean = mean
        self.size = size
        self._origin = origin
        self._function = Hessian(problem=problem, seed=seed, divide_by=size if mean.reduction == "sum" else 1)
        counts = [problem.weight(batch) if mean.reduction == "token_mean" else None for batch in batches]
        weights = np.array([size if count is None else count for count in counts], dtype=float)
        self.shares: Array = weights / weights.sum()
        """Of the chunks in a mean over all of them."""
        count = len(batches)
        ahead = (np.arange(count) - np.arange(min(DIRECTIONS, count))[:, None]) % count
        self.seen = (ahead > 0) & (ahead <= READERS)
        """(J, C) whether a direction's steps are read on a chunk."""
        few = sum(part.numel() for part in problem.parameters.values()) <= KEPT_PARAMETERS
        self._num_kept = len(self.seen) if few else 0
        self._kept: list[Parts] = []
        """Gradients of the first chunks."""

    def losses(self, rate: float) -> Array:
        """(C,) at theta - eta D g."""
        self._move(rate)
        return self._read(range(len(self.batches))).cpu().double().numpy()

    def start(self) -> tuple[Array, Array]:
        """(C,) the losses at eta = 0, and (C,) what each falls there per unit of eta."""
        self._move(0.0)
        losses, slopes = [], []
        for number in range(len(self.batches)):
            loss, own = self._gradient(number)
            losses.append(loss)
            slopes.append(self._slope(own))
            if number < self._num_kept:
                self._kept.append(own)
            del own  # before the next one is made
        found: Array = torch.stack([*losses, *slopes]).cpu().double().numpy()
        return found[: len(losses)], found[len(losses) :] / self.mean.weight

    def noise(self, rate: float) -> Array:
        """(J, C) curvature of chunk c's loss along the noise of one example, as chunk j's update shows it.

        Zero where `seen` is: it was not read there.
        """
        losses = [self._around(rate, number) for number in range(len(self.seen))]
        found = np.zeros(self.seen.shape)
        found[self.seen] = torch.cat(losses).cpu().double().numpy()
        with np.errstate(invalid="ignore"):  # of two losses that overflow
            excess = np.where(self.seen, found - self.losses(rate), 0.0)
        return np.asarray(2 * self.size * excess / rate**2)

    def _around(self, rate: float, number: int) -> Tensor:
        """(readers,) mean loss at the ends of g + e and g - e, with e as noisy as the update of a chunk."""
        if number < len(self._kept):
            own = self._kept[number]
        else:
            self._move(0.0)
            _, own = self._gradient(number)
        readers = self.seen[number].nonzero()[0].tolist()
        total = torch.zeros(len(readers), device=self.problem.device)
        for sign in (1, -1):
            self._move(rate, own, sign * self._stretch())
            total = total + self._read(readers) / 2
        return total

    def _stretch(self) -> float:
        """What a chunk's deviation from g is short of its deviation from G."""
        share = self.size / self.mean.examples
        inside = self.problem.data.size is not None
        return 1 / math.sqrt(1 - share if inside else 1 + share)

    def _move(self, rate: float, own: Parts | None = None, share: float = 0.0) -> None:
        """To theta - eta D (g + share * (own - g)); no direction is formed."""
        with torch.no_grad():
            for (name, parameter), origin in zip(self.problem.parameters.items(), self._origin, strict=True):
                factor = -rate * (1 - share) / self.mean.weight
                self._step(parameter, origin, name, self.mean.total[name], factor)
                if own is not None:
                    self._step(parameter, parameter, name, own[name], -rate * share)

    def _step(self, parameter: Tensor, start: Tensor, name: str, part: Tensor | None, factor: float) -> None:
        """parameter = start + factor * D part, in one pass over memory."""
        diagonal = self.problem.preconditioner
        if part is None or factor == 0:
            if parameter is not start:
                parameter.copy_(start)
            return
        step = part.to(parameter.dtype)
        if diagonal is None:
            torch.add(start, step, alpha=factor, out=parameter)
        else:
            torch.addcmul(start, diagonal[name].to(parameter.dtype), step, value=factor, out=parameter)

    def _read(self, chunks: Sequence[int]) -> Tensor:
        """Losses of some chunks where the parameters are now; nothing is synchronised."""
        with torch.no_grad(), buffers_kept(self.problem.model):
            found = [
                self._function.loss_with_graph(self.batches[number], number).float().reshape(())
                for number in chunks
            ]
        return torch.stack(found)

    def _gradient(self, number: int) -> tuple[Tensor, Parts]:
        """A chunk's loss and gradient where the parameters are now."""
        with buffers_kept(self.problem.model):
            loss = self._function.loss_with_graph(self.batches[number], number)
            found = gradients_of(loss, self.problem.parameters)
        return loss.detach().float().reshape(()), {
            name: part.to_dense() if part is not None and part.is_sparse else part
            for name, part in found.items()
        }

    def _slope(self, own: Parts) -> Tensor:
        """own' D g, times the weight of g; a piece at a time, so that no tensor as large as a layer is made."""
        diagonal, products = self.problem.preconditioner, []
        some = next(part for part in own.values() if part is not None)
        room = some.new_empty(PIECE)  # used again and again: as many small ones would lie scattered
        for name, part in own.items():
            if part is None:
                continue
            room = room if room.dtype == part.dtype else part.new_empty(PIECE)
            factors = [part, self.mean.total[name], *([] if diagonal is None else [diagonal[name]])]
            for first, *others in zip(*(factor.reshape(-1).split(PIECE) for factor in factors), strict=True):
                product = first
                for other in others:
                    product = torch.mul(product, other, out=room[: len(first)])
                products.append(product.sum().float())
        return torch.stack(products).sum()
