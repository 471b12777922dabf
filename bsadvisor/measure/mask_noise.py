"""Gradients of the same examples under several dropout masks and augmentations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bsadvisor.measure.accumulator import GradientAccumulator
from bsadvisor.measure.gradients import gradients_of
from bsadvisor.measure.preserve import preserved
from bsadvisor.measure.problem import Problem
from bsadvisor.measure.sampler import Sampler
from bsadvisor.random_state import seed_everything
from bsadvisor.theory.mask_noise import MaskVariances, RepeatedSums
from bsadvisor.theory.noise_scale import MIN_MICRO_BATCHES, Array

ANOTHER_DRAW = 2**20
"""Between the seeds of two fetches of the same examples."""

Gradient = list[Tensor]


SHARING_EXAMPLES = 32
"""That are repeated in a batch, to see whether the batch shares its masks."""

MOST_COPIES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedGradients:
    """What was measured."""

    sums: RepeatedSums
    floor: MaskVariances | None
    """None: without masks, or at one size only."""
    sharing: Sharing | None
    """None: without masks, or not sought, or not in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """tr Var_m of single examples' gradients, and of batches of copies of them."""

    single: Array
    copies: Array
    count: int


class MaskProbe:
    """Measures each of some micro-batches of the gradient's examples several times.

    Args:
        problem: model in the state to be measured.
        sampler: owner of the data's splits.
        micro_batch: examples per gradient.
        small: examples per gradient of those that the floor is seen by; None: it is not sought.
        masks: of every micro-batch, 1 or 2.
        draws: of its augmentation, 1 or 2.
        seed: of all of them.
        reduction: what the loss does over a batch, as in the gradient phase.

    Cost: `masks` times `draws` passes over each micro-batch, `masks` over each small one and over a few
        batches of copies; a running sum, and a copy of the parameters for each but the last gradient of a
        micro-batch.
    """

    def __init__(
        self,
        problem: Problem,
        sampler: Sampler,
        *,
        micro_batch: int,
        small: int | None,
        masks: int,
        draws: int,
        seed: int,
        reduction: str,
    ) -> None:
        self._problem = problem
        self._sampler = sampler
        self._micro_batch = micro_batch
        self._small = small if masks > 1 else None
        self._masks = masks
        self._draws = draws
        self._seed = seed
        self._reduction = reduction
        self._accumulator = GradientAccumulator(problem.parameters, seed=seed)
        self._between_masks: list[Tensor] = []
        self._between_draws: list[Tensor] = []
        self._small_variances: list[Tensor] = []
        self._single_variances: list[Tensor] = []
        self._copies_variances: list[Tensor] = []
        self._copies = min(MOST_COPIES, micro_batch)

    def run(
        self, micro_batches: int, *, time_left: Callable[[], float], stop: Callable[[], bool]
    ) -> RepeatedGradients | None:
        """Measure until all are in or time is up; None where that is before the least number.

        Raises:
            torch.OutOfMemoryError: two gradients and their difference do not fit.
        """
        with preserved(self._problem.model):
            if self._small is not None and self._copies > 1:
                self._measure_sharing(lambda: stop() or time_left() <= 0)
            large = [self._batches(draw, micro_batches, self._micro_batch) for draw in range(self._draws)]
            small = iter(()) if self._small is None else self._batches(0, micro_batches, self._small)
            seed_everything(self._seed)
            for done in range(micro_batches):
                if stop() or (done >= MIN_MICRO_BATCHES and time_left() <= 0):
                    break
                if not self._measure_next([next(batches, None) for batches in large], small):
                    break
                if done == 0:  # workers have started, kernels are loaded
                    began = time.perf_counter()
                    continue
                each = (time.perf_counter() - began) / done
                if each * (MIN_MICRO_BATCHES - done - 1) > max(time_left(), 0.0):
                    return None
        return self._found()

    def _measure_sharing(self, should_stop: Callable[[], bool]) -> None:
        seed_everything(self._seed)
        alone = self._sampler.copies(SHARING_EXAMPLES, 1)
        together = self._sampler.copies(SHARING_EXAMPLES, self._copies)
        for single, copies in zip(alone, together, strict=False):
            if should_stop():
                return
            self._single_variances.append(self._over_masks(single, 1)[1])
            self._copies_variances.append(self._over_masks(copies, self._copies)[1])

    def _batches(self, draw: int, micro_batches: int, size: int) -> Iterator[Any]:
        seed_everything(self._seed + draw * ANOTHER_DRAW)  # of the loader's workers, if there are any
        return self._sampler.gradient(0, micro_batches, size)

    def _measure_next(self, drawn: list[Any], small: Iterator[Any]) -> bool:
        if any(batch is None for batch in drawn):
            return False
        if self._small is not None:
            batch = next(small, None)
            if batch is None:
                return False
            _, variance = self._over_masks(batch, self._small)
            self._small_variances.append(variance)
        found = [self._over_masks(batch, self._micro_batch) for batch in drawn]
        self._between_masks.append(torch.stack([variance for _, variance in found]).mean())
        mean, variance = _mean_and_variance([mean for mean, _ in found])
        self._between_draws.append(variance)
        weight = self._weight(drawn[0], self._micro_batch)
        named = dict(zip(self._accumulator.names, mean, strict=True))
        self._accumulator.add(named, weight, self._micro_batch)
        return True

    def _over_masks(self, batch: Any, size: int) -> tuple[Gradient, Tensor]:
        return _mean_and_variance([self._gradient(batch, size) for _ in range(self._masks)])

    def _gradient(self, batch: Any, size: int) -> Gradient:
        loss = self._problem.loss(batch)
        found = gradients_of(loss / size if self._reduction == "sum" else loss, self._problem.parameters)
        parameters = self._problem.parameters
        return [
            torch.zeros_like(parameters[name], dtype=torch.float32) if gradient is None else _dense(gradient)
            for name, gradient in found.items()
        ]

    def _weight(self, batch: Any, size: int) -> float:
        return float(self._problem.weight(batch) or 0) if self._reduction == "token_mean" else float(size)

    def _found(self) -> RepeatedGradients | None:
        if self._accumulator.num_micro_batches < MIN_MICRO_BATCHES:
            return None
        between_masks = _numbers(self._between_masks)
        sums = RepeatedSums(
            mean=self._accumulator.sums(),
            draws=self._draws,
            masks=self._masks,
            between_masks=between_masks,
            between_draws=_numbers(self._between_draws),
        )
        if self._small is None:
            return RepeatedGradients(sums=sums, floor=None, sharing=None)
        floor = MaskVariances(
            large=between_masks,
            small=_numbers(self._small_variances),
            large_size=self._micro_batch,
            small_size=self._small,
        )
        return RepeatedGradients(sums=sums, floor=floor, sharing=self._sharing())

    def _sharing(self) -> Sharing | None:
        if len(self._single_variances) < MIN_MICRO_BATCHES:
            return None
        return Sharing(
            single=_numbers(self._single_variances),
            copies=_numbers(self._copies_variances),
            count=self._copies,
        )


def _dense(gradient: Tensor) -> Tensor:
    return (gradient.to_dense() if gradient.is_sparse else gradient).float()


def _mean_and_variance(gradients: list[Gradient]) -> tuple[Gradient, Tensor]:
    """Of one or two gradients; the variance, summed over coordinates, stays on the device."""
    first = gradients[0]
    if len(gradients) == 1:
        return first, torch.zeros((), device=first[0].device)
    torch._foreach_sub_(gradients[1], first)  # now the difference
    norms = torch._foreach_norm(gradients[1])
    torch._foreach_add_(first, gradients[1], alpha=0.5)
    return first, torch.stack(norms).double().square().sum() / 2


def _numbers(values: list[Tensor]) -> Array:
    return torch.stack(values).double().cpu().numpy()
