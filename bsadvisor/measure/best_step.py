"""The best single step along the optimizer's own direction at any batch size, by forward passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from bsadvisor.errors import DataError
from bsadvisor.measure.preserve import in_full_precision, parameters_kept, preserved
from bsadvisor.measure.problem import Problem
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.step_trial import MeanGradient, StepTrial
from bsadvisor.random_state import seed_everything
from bsadvisor.theory.local import StepModel, saturation
from bsadvisor.theory.noise_scale import Array, jackknife_variance, symmetric_interval
from bsadvisor.values import Estimate

EXAMPLES = 256
"""On which steps are tried."""

MIN_CHUNKS, CHUNKS = 4, 8
"""Of these examples: the jackknife's units."""

MAX_MOVES = 8
"""Steps from 4^-9 to 4^9 of the first guess, which takes a tenth off the loss to first order, are tried."""

NODES = (1 / 2, 2.0)
"""Of the best step tried: where the line is seen too, beside its factors of 4."""

MAX_EXTENSIONS = 4
"""Doublings of the longest step, where the noise-free best step is longer still."""

ROUNDS = 2
"""In which the noise is measured: the second one at the step that the first one finds best."""

NEAR = 2.0
"""Noise measured at a step within this factor of the best one counts as measured there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestStep:
    """The loss along the measured update and the cost of its noise, with what their errors make of both."""

    direction: Literal["gradient", "optimizer"]
    loss: Estimate
    """At the checkpoint."""
    confidence: float
    model: StepModel | None = None
    """None where the gradient points nowhere."""
    without_chunk: tuple[StepModel, ...] = ()
    """The model with each chunk of examples left out."""
    slope_error: float = 0.0
    """Standard error of the model's slope."""

    def at(self, batch_size: float) -> tuple[Estimate, Estimate]:
        """The best step and its loss decrease; without a value where there is none, or it was not seen."""
        rates = self._interval(lambda model: model.best(batch_size)[0])
        return rates, self._interval(lambda model: model.best(batch_size)[1])

    @property
    def noise_free(self) -> tuple[Estimate, Estimate]:
        """The best step and its loss decrease with B -> infinity."""
        return self.at(math.inf)

    @property
    def noise_scale(self) -> Estimate:
        """eta_max tr(DHD Sigma) / G'DG."""
        return self._interval(StepModel.noise_scale)

    def _interval(self, quantity: Callable[[StepModel], float]) -> Estimate:
        """On a logarithmic scale: the jackknife over chunks, and the error of the slope beside it."""
        value = math.nan if self.model is None else quantity(self.model)
        if self.model is None or not 0 < value < math.inf:
            return Estimate(value=None, low=None, high=None, confidence=self.confidence)
        kept = [quantity(model) for model in self.without_chunk]
        ends = [quantity(self.model.tilted(sign * self.slope_error)) for sign in (-1, 1)]
        if not all(0 < one < math.inf for one in (*kept, *ends)):
            return Estimate(value=value, low=None, high=None, confidence=self.confidence)
        variance = float(jackknife_variance(np.log(kept))) + (math.log(ends[1] / ends[0]) / 2) ** 2
        logs = symmetric_interval(math.log(value), variance, self.confidence, len(kept) - 1)
        low, high = (math.exp(min(end, 700.0)) for end in (logs.low, logs.high))
        return Estimate(value=value, low=low, high=high, confidence=self.confidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """Equal batches of examples on which steps are tried."""

    draw: Callable[[], Iterable[Any]]
    """Only called where random state is kept."""
    size: int


def tried_examples(sampler: Sampler, *, measured: int, micro_batch: int, couples: bool) -> Chunks:
    """Chunks of the gradient's own examples, or the next ones of a stream.

    Args:
        measured: examples of the gradient.
        micro_batch: its size, which chunks keep where examples are coupled within a batch.
    """
    size = micro_batch if couples else max(1, min(micro_batch, min(EXAMPLES, measured) // CHUNKS))
    count = min(max(EXAMPLES // size, MIN_CHUNKS), measured // size)
    return Chunks(draw=lambda: sampler.curvature(0, count, size), size=size)


def best_step(
    problem: Problem,
    tried: Chunks,
    mean: MeanGradient,
    *,
    confidence: float,
    seed: int,
    should_stop: Callable[[], bool],
) -> BestStep | None:
    """The fall of the loss along theta - eta D g, and what the noise of a batch's update takes from it.

    Steps are tried on examples that made g, so that the line begins with a slope that those examples
    owe to it: the unbiased slope takes its place. Steps along g + e and g - e end, for a chunk's update
    g + e, at a mean loss that is eta^2 tr(DHD Sigma) / 2b above that of g: with the curvature where
    the step ends. It is read on the other chunks.

    Args:
        tried: at least `MIN_CHUNKS` of them, the jackknife's units. Those of a stream are none of g's.
        mean: the gradient.
        seed: of dropout masks, equal at every step.

    Returns:
        None where there are too few batches, or `should_stop` said so.

    Raises:
        DataError: the loss at the checkpoint is not finite.

    Cost: about 20 forward passes over the tried examples (at most 31) and 1 to 3 gradients of them: up to
        as much as the gradients of 4,096 examples; one copy of the parameters and the gradient of one batch,
        or of a small model the gradients of all.
    """
    name: Literal["gradient", "optimizer"] = "gradient" if problem.preconditioner is None else "optimizer"
    with (
        preserved(problem.model),
        in_full_precision(problem.model),
        parameters_kept(_leaves(problem)) as origin,
    ):
        seed_everything(seed)
        ready = list(tried.draw())
        if len(ready) < MIN_CHUNKS or should_stop():
            return None
        trial = StepTrial(problem, ready, mean, size=tried.size, seed=seed, origin=origin)
        resolved = mean.slope is not None and mean.slope > 0
        start, slopes = trial.start() if resolved else (trial.losses(0.0), None)
        if not np.isfinite(start).all():
            raise DataError(
                "the loss is not finite on some of the examples on which steps are tried",
                "look for NaN or infinity in the data",
            )
        loss = _plain_interval(start, trial.shares, confidence)
        slope = (mean.slope or 0.0) + mean.trace / (problem.data.size or math.inf)
        if slopes is None:
            return BestStep(direction=name, loss=loss, confidence=confidence)
        search = _Search(trial, start, slopes, slope, should_stop)
        if not search.run():
            return None
        if search.noise is None:
            return BestStep(direction=name, loss=loss, confidence=confidence)
    return BestStep(
        direction=name,
        loss=loss,
        confidence=confidence,
        model=search.model(),
        without_chunk=tuple(search.model(without=chunk) for chunk in range(len(ready))),
        slope_error=mean.slope_error,
    )


class _Search:
    """Tries steps until the best one at every batch size lies between two of them."""

    def __init__(
        self,
        trial: StepTrial,
        start: Array,
        own_slopes: Array,
        slope: float,
        should_stop: Callable[[], bool],
    ) -> None:
        self._trial = trial
        self._start = start
        self._slope = slope
        self._slope_error = trial.mean.slope_error
        self._should_stop = should_stop
        self._tried: dict[float, Array] = {}
        self._own_slopes = own_slopes
        self.noise: Array | None = None
        """None where every step ended at a loss that is not finite."""

    def run(self) -> bool:
        """Whether it came to its end."""
        self._bracket()
        if not self._tried or self._should_stop():
            return False
        noise_scale = self._trial.mean.trace / self._slope
        step = self._best_tried() * saturation(self._trial.size, max(noise_scale, 0.0))
        for _ in range(ROUNDS):
            if self._should_stop():
                return False
            found = self._trial.noise(step)
            if not np.isfinite(found).all():
                step /= 4
                continue
            self.noise = found
            better, _ = self.model().best(self._trial.size)
            better = step / 4 if math.isnan(better) else better
            if 1 / NEAR <= better / step <= NEAR:
                break
            step = better
        for _ in range(MAX_EXTENSIONS):
            if self._is_closed():
                break
            self._decrease(2 * max(self._tried))
        best, _ = self.model().best(math.inf)
        if math.isfinite(best):
            self._decrease(best)
        return not self._should_stop()

    def model(self, without: int | None = None) -> StepModel:
        """From all chunks, or all but one: of its losses, and of its update."""
        shares = self._trial.shares.copy()
        if without is not None:
            shares[without] = 0
        shares /= shares.sum()
        rates = np.array(sorted(self._tried))
        found = np.array([self._tried[rate] for rate in rates]) @ shares
        decreases = found + rates * (self._slope - self._own_slopes @ shares)
        return StepModel(
            rates=rates,
            decreases=decreases,
            slope=self._slope,
            noise_curvature=self._noise_curvature(shares, without),
            examples=self._trial.mean.examples,
        )

    def _noise_curvature(self, shares: Array, without: int | None) -> float:
        """The mean over directions, each on the chunks that did not make it."""
        if self.noise is None:
            return 0.0
        seen = self._trial.seen * shares
        if without is not None and without < len(seen):
            seen[without] = 0
        return float((self.noise * seen).sum() / seen.sum())

    def _bracket(self) -> None:
        """Walk in factors of 4 until the best step has worse ones on both sides, then fill in."""
        best = 0.1 * (abs(float(self._start @ self._trial.shares)) or 1.0) / self._slope
        for _ in range(MAX_MOVES):
            if self._should_stop():
                return
            here, below, above = (self._decrease(best * factor) for factor in (1.0, 0.25, 4.0))
            if here <= 0 or below > here:
                best /= 4
            elif above > here:
                best *= 4
            else:
                break
        for factor in NODES:
            self._decrease(best * factor)

    def _is_closed(self) -> bool:
        """Whether the noise-free best step is shorter than the longest one tried, whatever the errors."""
        models = [self.model(), *(self.model(without=chunk) for chunk in range(len(self._start)))]
        if math.isfinite(self._slope_error):
            models.append(models[0].tilted(self._slope_error))
        return all(math.isfinite(model.best(math.inf)[0]) for model in models)

    def _best_tried(self) -> float:
        return max(self._tried, key=self._decrease)

    def _decrease(self, rate: float) -> float:
        """Of the loss at a step, with the unbiased slope."""
        if rate not in self._tried:
            losses = self._trial.losses(rate)
            # One that overflows counts as a rise as steep as the fall at the start.
            wall = rate * (self._own_slopes - 2 * self._slope)
            self._tried[rate] = self._start - losses if np.isfinite(losses).all() else wall
        shares = self._trial.shares
        return float(self._tried[rate] @ shares) + rate * (self._slope - float(self._own_slopes @ shares))


def _leaves(problem: Problem) -> list[Tensor]:
    return list(problem.parameters.values())


def _plain_interval(chunks: Array, shares: Array, confidence: float) -> Estimate:
    value = float(chunks @ shares)
    kept = (value - chunks * shares) / (1 - shares)
    interval = symmetric_interval(value, float(jackknife_variance(kept)), confidence, len(chunks) - 1)
    return Estimate(value=value, low=interval.low, high=interval.high, confidence=confidence)
