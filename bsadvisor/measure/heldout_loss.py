"""The mean loss as it is judged: in evaluation mode, by forward passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from bsadvisor.errors import DataError, TargetError
from bsadvisor.measure.preserve import preserved
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


def heldout_sampler(source: Source, *, seed: int) -> Sampler:
    """All of the held-out examples, in random order."""
    return Sampler(source, seed=seed, min_gradient=ALL)


def mean_loss(
    problem: Problem,
    sampler: Sampler,
    *,
    micro_batch: int,
    confidence: float,
    seed: int,
    reduction: Reduction = "mean",
    couples: bool = False,
    population: int | None = None,
    mode: Mode = "eval",
    should_stop: Callable[[], bool] = lambda: False,
) -> MeanLoss | None:
    """The mean loss over the first `EXAMPLES` of a sampler: the same ones for the same seed.

    Args:
        sampler: of training or of held-out examples.
        micro_batch: that fits in memory; smaller ones are used where examples are few.
        confidence: of the two-sided interval.
        seed: of whatever is random in the loss.
        reduction: what the loss does over a batch; sums are divided, token means weighted.
        couples: whether a batch of another size has another loss: then every one has `micro_batch` examples.
        population: how many examples the mean is meant of, where these are drawn from so many without
            replacement; None: from infinitely many.
        mode: to begin with.

    Returns:
        None where there is not one micro-batch, or `should_stop` said so before the first. Unbiased (of a
        token mean: consistent); the jackknife over chunks with a finite population correction.

    Raises:
        DataError: a loss that is not finite.
        TargetError: the loss fails in training mode, too.

    Cost: at most `EXAMPLES` forward passes; the user's model is as before afterwards.
    """
    count = min(sampler.num_certain, EXAMPLES)
    size = micro_batch if couples else max(1, min(micro_batch, count // CHUNKS))
    for tried in (mode, "train"):
        with _in_mode(problem, tried, seed):
            try:
                losses, weights = _losses(problem, sampler, count // size, size, reduction, should_stop)
            except DataError:
                raise
            except TargetError:  # many detectors, for one, return no loss in evaluation mode
                if tried == "train":
                    raise
                continue
        return _mean(losses, weights, size, confidence, population, tried) if len(losses) else None
    raise AssertionError("training mode is the last resort")


@contextmanager
def _in_mode(problem: Problem, mode: Mode, seed: int) -> Iterator[None]:
    with preserved(problem.model), torch.no_grad():
        problem.model.train(mode == "train")
        seed_everything(seed)
        yield


def _losses(
    problem: Problem,
    sampler: Sampler,
    count: int,
    size: int,
    reduction: Reduction,
    should_stop: Callable[[], bool],
) -> tuple[Array, Array]:
    """Of every micro-batch its mean loss, and what that mean was taken over."""
    losses: list[Tensor] = []
    weights: list[float] = []
    for batch in sampler.first(count, size):
        if should_stop():
            break
        losses.append(_loss(problem, batch).float())
        weights.append(float(problem.weight(batch) or 0) if reduction == "token_mean" else size)
    found = torch.stack(losses).cpu().double().numpy() if losses else np.empty(0)
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        raise DataError(
            f"the loss is {found[bad[0]]} on micro-batch {bad[0] + 1} of those it is judged on",
            "look for NaN or infinity in the data and held-out data",
        )
    return found / (size if reduction == "sum" else 1), np.array(weights)


def _loss(problem: Problem, batch: Any) -> Tensor:
    return problem.loss(batch).detach().reshape(())


def _mean(
    losses: Array, weights: Array, size: int, confidence: float, population: int | None, mode: Mode
) -> MeanLoss:
    total, examples = weights.sum(), len(losses) * size
    value = float(losses @ weights / total)
    variance = math.inf
    if len(losses) > 1:
        kept = (value * total - losses * weights) / (total - weights)
        unseen = 1.0 if population is None else max(0.0, 1 - examples / population)
        variance = unseen * float(jackknife_variance(kept))
    ends = symmetric_interval(value, variance, confidence, max(len(losses) - 1, 1))
    low, high = (end if math.isfinite(end) else None for end in (ends.low, ends.high))
    return MeanLoss(
        loss=Estimate(value=value, low=low, high=high, confidence=confidence),
        variance=variance,
        chunks=len(losses),
        examples=examples,
        mode=mode,
    )
