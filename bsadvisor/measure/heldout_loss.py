"""The mean loss as it is judged, and how it changes as the weights grow: in evaluation mode, by forward passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from bsadvisor.errors import DataError, TargetError
from bsadvisor.measure.preserve import in_full_precision, parameters_kept, preserved
from bsadvisor.measure.problem import Problem, Source
from bsadvisor.measure.sampler import Sampler
from bsadvisor.random_state import seed_everything
from bsadvisor.theory.noise_scale import Array, jackknife_variance, symmetric_interval
from bsadvisor.values import Estimate

EXAMPLES = 1024
"""On which a loss is measured, at most."""

CHUNKS = 32
"""Of these examples, where there are as many: the jackknife's units."""

ALL = 2**62
"""No example is held back for another use."""

GROWTH = 0.005
"""Of all weights, to either side, relative: the loss is smooth enough there, and float32 fine enough."""

Reduction = Literal["mean", "sum", "token_mean"]
Mode = Literal["eval", "train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanLoss:
    """The mean loss over a set of examples, or over those that it was drawn from."""

    loss: Estimate
    variance: float
    """Of the estimated mean; infinite where one chunk is all there is."""
    chunks: int
    examples: int
    mode: Mode
    """Of the model: `train` where its loss cannot be had in evaluation mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossGrowth:
    """The mean of d loss / d log c where all trainable weights are multiplied by c, at c = 1."""

    slope: Estimate
    variance: float
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedOn:
    """Examples on which the loss is judged, and how: the first `EXAMPLES` of a sampler, the same for the same seed."""

    sampler: Sampler
    """Of training or of held-out examples."""
    micro_batch: int
    """That fits in memory; smaller ones are used where examples are few."""
    confidence: float
    """Of the two-sided intervals."""
    seed: int
    """Of whatever is random in the loss."""
    reduction: Reduction = "mean"
    """What the loss does over a batch; sums are divided, token means weighted."""
    couples: bool = False
    """Whether a batch of another size has another loss: then every one has `micro_batch` examples."""
    population: int | None = None
    """How many examples the mean is meant of, where these are drawn from so many without replacement; None:
    from infinitely many."""
    should_stop: Callable[[], bool] = lambda: False

    @property
    def size(self) -> int:
        """Examples of a chunk."""
        return self.micro_batch if self.couples else max(1, min(self.micro_batch, self._examples // CHUNKS))

    @property
    def chunks(self) -> int:
        return self._examples // self.size

    @property
    def _examples(self) -> int:
        return min(self.sampler.num_certain, EXAMPLES)


def heldout_sampler(source: Source, *, seed: int) -> Sampler:
    """All of the held-out examples, in random order."""
    return Sampler(source, seed=seed, min_gradient=ALL)


def mean_loss(problem: Problem, on: JudgedOn, *, mode: Mode = "eval") -> MeanLoss | None:
    """The mean loss over the examples that it is judged on.

    Args:
        mode: of the model, to begin with.

    Returns:
        None where there is not one micro-batch, or it was to stop before the first. Unbiased (of a token
        mean: consistent); the jackknife over chunks with a finite population correction.

    Raises:
        DataError: a loss that is not finite.
        TargetError: the loss fails in training mode, too.

    Cost: at most `EXAMPLES` forward passes; the user's model is as before afterwards.
    """
    for tried in (mode, "train"):
        with _in_mode(problem, tried, on.seed):
            try:
                losses, weights = _losses(problem, on)
            except DataError:
                raise
            except TargetError:  # many detectors, for one, return no loss in evaluation mode
                if tried == "train":
                    raise
                continue
        return _mean_loss(losses, weights, on, tried) if len(losses) else None
    raise AssertionError("training mode is the last resort")


def _mean_loss(losses: Array, weights: Array, on: JudgedOn, mode: Mode) -> MeanLoss:
    value, variance = _mean(losses, weights, on)
    return MeanLoss(
        loss=_interval(value, variance, on.confidence, len(losses)),
        variance=variance,
        chunks=len(losses),
        examples=len(losses) * on.size,
        mode=mode,
    )


def loss_growth(problem: Problem, on: JudgedOn, *, mode: Mode = "eval") -> LossGrowth | None:
    """How the mean loss changes as all trainable weights grow, example by example.

    Training to fit makes weights grow, and a net of larger weights is surer of its answers. Where that lowers
    the training loss and raises the held-out loss, the net is surer than unseen examples bear out.

    Args:
        mode: of the model.

    Returns:
        In units of the loss, unbiased but for the third derivative; None where it was stopped, or a loss was
        not finite.

    Source: Euler's identity for homogeneous nets, theta' dL/dtheta; Guo et al. 2017 on the calibration of
        nets that overfit their likelihood.

    Cost: at most twice `EXAMPLES` forward passes and one copy of the parameters, in float32 at least.
    """
    changed = _at_sizes(problem, on, mode, (1 + GROWTH, 1 - GROWTH))
    if changed is None:
        return None
    (more, less), weights = changed
    value, variance = _mean((more - less) / (2 * GROWTH), weights, on)
    slope = _interval(value, variance, on.confidence, len(weights))
    return LossGrowth(slope=slope, variance=variance, chunks=len(weights))


def gain_of_shrinking(
    problem: Problem, on: JudgedOn, factor: float, *, mode: Mode = "eval"
) -> Estimate | None:
    """By how much the mean loss falls where all trainable weights are multiplied by `factor`.

    Args:
        factor: and no logarithm of it.
        mode: of the model.

    Returns:
        Paired example by example; None where it was stopped, or a loss was not finite.

    Cost: as `loss_growth`.
    """
    changed = _at_sizes(problem, on, mode, (1.0, factor))
    if changed is None:
        return None
    (here, there), weights = changed
    value, variance = _mean(here - there, weights, on)
    return _interval(value, variance, on.confidence, len(weights))


def _at_sizes(
    problem: Problem, on: JudgedOn, mode: Mode, factors: tuple[float, float]
) -> tuple[tuple[Array, Array], Array] | None:
    """The chunks' losses with all trainable weights multiplied by either factor; their weights."""
    parameters: list[Tensor] = list(problem.parameters.values())
    found = []
    for factor in factors:
        with (
            _in_mode(problem, mode, on.seed),
            in_full_precision(problem.model),
            parameters_kept(parameters),
        ):
            torch._foreach_mul_(parameters, factor)
            try:
                found.append(_losses(problem, on, full_precision=True))
            except DataError:
                return None
    (first, weights), (second, _) = found
    if len(first) < 2 or len(first) != len(second) or on.should_stop():
        return None
    return (first, second), weights


def difference(first: MeanLoss | LossGrowth, second: MeanLoss | LossGrowth, confidence: float) -> Estimate:
    """First minus second, of independent samples.

    Source: Welch 1947.
    """
    values = [one.loss.value if isinstance(one, MeanLoss) else one.slope.value for one in (first, second)]
    assert values[0] is not None and values[1] is not None
    parts = [(one.variance, max(one.chunks - 1, 1)) for one in (first, second)]
    variance = sum(part for part, _ in parts)
    spread = sum(part**2 / degrees for part, degrees in parts)
    degrees = variance**2 / spread if 0 < spread < math.inf else min(degrees for _, degrees in parts)
    return _interval(values[0] - values[1], variance, confidence, degrees + 1)


@contextmanager
def _in_mode(problem: Problem, mode: Mode, seed: int) -> Iterator[None]:
    with preserved(problem.model), torch.no_grad():
        problem.model.train(mode == "train")
        seed_everything(seed)
        yield


def _losses(problem: Problem, on: JudgedOn, *, full_precision: bool = False) -> tuple[Array, Array]:
    """Of every micro-batch its mean loss, and what that mean was taken over."""
    losses: list[Tensor] = []
    weights: list[float] = []
    for batch in on.sampler.first(on.chunks, on.size):
        if on.should_stop():
            break
        losses.append(problem.loss(batch, full_precision=full_precision).float())
        weights.append(float(problem.weight(batch) or 0) if on.reduction == "token_mean" else on.size)
    found = torch.stack(losses).cpu().double().numpy() if losses else np.empty(0)
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        raise DataError(
            f"the loss is {found[bad[0]]} on micro-batch {bad[0] + 1} of those it is judged on",
            "look for NaN or infinity in the data and held-out data",
        )
    return found / (on.size if on.reduction == "sum" else 1), np.array(weights)


def _mean(values: Array, weights: Array, on: JudgedOn) -> tuple[float, float]:
    """Weighted mean over the chunks, and its variance; infinite where one chunk is all there is."""
    total = weights.sum()
    value = float(values @ weights / total)
    if len(values) < 2:
        return value, math.inf
    kept = (value * total - values * weights) / (total - weights)
    seen = 0.0 if on.population is None else min(len(values) * on.size / on.population, 1.0)
    return value, (1 - seen) * float(jackknife_variance(kept))


def _interval(value: float, variance: float, confidence: float, chunks: float) -> Estimate:
    ends = symmetric_interval(value, variance, confidence, max(chunks - 1, 1))
    low, high = (end if math.isfinite(end) else None for end in (ends.low, ends.high))
    return Estimate(value=value, low=low, high=high, confidence=confidence)
