"""The covariance of an example's gradient, split into data, augmentation and dropout masks.

The gradient of micro-batch k is measured over D draws of the augmentation, R masks on each:
h_kdr = h(x_k, a_kd, m_kdr). By the law of total variance

    tr(Sigma) = data + augmentation + mask
              = tr Var_x E[g | x] + E_x tr Var_a E[g | x, a] + E_x,a tr Var_m(g)

Masks that a whole batch shares leave a floor: tr Var_m(h) is  floor + rest / b  on batches of b, where the
floor is the mean covariance of two different examples' gradients over the mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bsadvisor.theory.noise_scale import (
    Array,
    BlockSums,
    Interval,
    jackknife_variance,
    leave_one_out,
    moments,
    symmetric_interval,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepeatedSums:
    """Of K micro-batches whose gradients were measured several times."""

    mean: BlockSums
    """Of each micro-batch's mean gradient, a block each."""
    draws: int
    """D, at least 1."""
    masks: int
    """R, at least 1; D R is at least 2."""
    between_masks: Array
    """(K,): sample variance over masks, summed over coordinates, the mean over draws; 0 where R = 1."""
    between_draws: Array
    """(K,): sample variance over draws of the mean over masks, summed over coordinates; 0 where D = 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Traces per example, each unbiased: shape () of the whole, (K,) with one micro-batch deleted."""

    data: Array
    augmentation: Array
    mask: Array

    @property
    def total(self) -> Array:
        """tr(Sigma)."""
        return np.asarray(self.data + self.augmentation + self.mask)


Statistic = Callable[[Parts], Array]


def split(sums: RepeatedSums, statistic: Statistic, confidence: float) -> Interval:
    """A statistic of the three traces with its jackknife interval.

    Args:
        statistic: of traces in gradient units squared, per example.
        confidence: of the two-sided interval, in (0, 1).

    Returns:
        Unbiased where the statistic is linear.

    Source: law of total variance; nested analysis of variance with the micro-batch as the unit.
    """
    replicates = np.asarray(statistic(_parts(sums, deleted=True)))
    value = float(statistic(_parts(sums, deleted=False)))
    return symmetric_interval(value, float(jackknife_variance(replicates)), confidence, len(replicates) - 1)


def _parts(sums: RepeatedSums, *, deleted: bool) -> Parts:
    weights = sums.mean.weight * (sums.mean.examples.sum() / sums.mean.weight.sum())
    average = _leave_one_out_mean if deleted else np.mean
    found = leave_one_out(sums.mean) if deleted else moments(sums.mean)
    mask = np.asarray(average(weights * sums.between_masks))
    spread = np.asarray(average(weights * sums.between_draws))
    augmentation = spread - mask / sums.masks if sums.draws > 1 else np.zeros_like(mask)
    seen = augmentation / sums.draws + mask / (sums.draws * sums.masks)
    return Parts(data=found.noise_trace - seen, augmentation=augmentation, mask=mask)


def _leave_one_out_mean(values: Array) -> Array:
    return np.asarray((values.sum() - values) / (len(values) - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskVariances:
    """tr Var_m(h) of micro-batches at two sizes, shape (K,) each."""

    large: Array
    small: Array
    large_size: float
    small_size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """tr Var_m(h) = floor + rest / b."""

    floor: Array
    rest: Array


def floor_of(found: MaskVariances, statistic: Callable[[Floor], Array], confidence: float) -> Interval:
    """A statistic of the floor and the rest, jackknifed over pairs of a large and a small micro-batch.

    Source: the line through the two mean variances in 1/b.
    """

    def line(large: Array, small: Array) -> Floor:
        b, s = found.large_size, found.small_size
        floor = (b * large - s * small) / (b - s)
        return Floor(floor=floor, rest=b * (large - floor))

    value = statistic(line(np.asarray(found.large.mean()), np.asarray(found.small.mean())))
    replicates = statistic(line(_leave_one_out_mean(found.large), _leave_one_out_mean(found.small)))
    variance = float(jackknife_variance(np.asarray(replicates)))
    return symmetric_interval(float(value), variance, confidence, len(found.large) - 1)


def sharing(single: Array, copies: Array, count: int, confidence: float) -> Interval:
    """The share of an example's mask noise that another copy of it in the same batch has, too.

    1 where a batch has one mask, 0 where every example has its own: the variance over masks of a batch of c
    copies is  1/c + (1 - 1/c) share  of that of the example alone.

    Args:
        single: (K,) tr Var_m of each example's gradient.
        copies: (K,) of a batch of `count` copies of it.

    Returns:
        Unbiased but for the ratio's bias of order 1/K; negative where copies vary less than independent
        masks do, NaN where nothing varies.

    Source: ratio of means, jackknifed over examples on its logarithm.
    """
    if not (single.mean() > 0 and copies.mean() > 0):
        return Interval(value=math.nan, low=math.nan, high=math.nan)
    value = math.log(count * copies.mean() / single.mean())
    replicates = np.log(_leave_one_out_mean(copies) / _leave_one_out_mean(single))
    found = symmetric_interval(value, float(jackknife_variance(replicates)), confidence, len(single) - 1)
    low, value, high = (
        math.expm1(end) / (count - 1) for end in (found.low, found.value, min(found.high, 700.0))
    )
    return Interval(value=value, low=low, high=high)


def ridge_strength(keep: float, square: float) -> float:
    """The ridge that inverted dropout of an input makes of half the squared error.

    E_m (y - w'(m x / q))^2 / 2 = (y - w'x)^2 / 2 + sum_j strength_j w_j^2 / 2.

    Args:
        keep: q, in (0, 1].
        square: E x_j^2 of the feature before dropout.

    Returns:
        In units of the squared feature; exact for a linear model, else of first order.

    Source: Wager et al. 2013; expectation of the square.

    Example:
        >>> ridge_strength(0.5, 2.0)
        2.0
    """
    return (1 - keep) / keep * square


def floor_batch_size(floor: Interval, averaged: float) -> Interval:
    """The batch size at which what falls as 1/B is as large as the floor.

    Args:
        floor: of tr Var(g_B).
        averaged: trace per example of all the rest.

    Returns:
        Examples; NaN where the floor is not positive, without an upper end where it may be 0.
    """

    def size(part: float) -> float:
        return averaged / part if part > 0 else math.nan

    high = size(floor.low)
    return Interval(
        value=size(floor.value), low=size(floor.high), high=math.inf if math.isnan(high) else high
    )
