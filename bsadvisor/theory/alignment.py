"""How far the training gradient points where held-out examples want to go.

Training micro-batches have gradients of mean G_t, held-out ones of mean G_v. The alignment G_t'G_v / |G_v|^2
is 1 where both are the same, 0 where a small step for the training examples does nothing for the others.
"""

from __future__ import annotations

import math

import numpy as np

from bsadvisor.theory.noise_scale import (
    Array,
    BlockSums,
    Interval,
    jackknife_variance,
    leave_one_out,
    moments,
    t_quantile,
)


def alignment(
    training: BlockSums,
    heldout: BlockSums,
    *,
    total: float,
    cross: Array,
    confidence: float,
    unseen: float = 1.0,
) -> Interval:
    """G_t'G_v / |G_v|^2 with Fieller's interval from a two-sample jackknife.

    Args:
        training: sums of the training micro-batches.
        heldout: sums of the held-out ones, which share no example with them.
        total: inner product of the two sums of all w_k h_k.
        cross: (J_t, J_v), inner products of the blocks' sums.
        confidence: of the two-sided interval, in (0, 1).
        unseen: share of a finite training set that was not drawn; G_t is then the gradient of that set.

    Returns:
        Numerator and denominator are each unbiased. Ends are infinite, and the value NaN, where the held-out
        gradient cannot be told from noise.

    Source: Fieller 1954; delete-one jackknife over either sample (Arvesen 1969).
    """
    weight_t, weight_v = float(training.weight.sum()), float(heldout.weight.sum())
    norm = float(moments(heldout).squared_norm)
    product = total / (weight_t * weight_v)
    without_t = (total - cross.sum(1)) / ((weight_t - training.weight) * weight_v)
    without_v = (total - cross.sum(0)) / ((weight_v - heldout.weight) * weight_t)
    norms = leave_one_out(heldout).squared_norm
    return ratio_interval(
        product,
        norm,
        variance=unseen * float(jackknife_variance(without_t)) + float(jackknife_variance(without_v)),
        covariance=_covariance(without_v, norms),
        denominator_variance=float(jackknife_variance(norms)),
        quantile=t_quantile(confidence, min(training.num_blocks, heldout.num_blocks) - 1),
    )


def ratio_interval(
    numerator: float,
    denominator: float,
    *,
    variance: float,
    covariance: float,
    denominator_variance: float,
    quantile: float,
) -> Interval:
    """All a for which `numerator - a denominator` is within `quantile` standard errors of 0.

    Source: Fieller 1954. Where that set has no ends the ratio is not resolved.

    Example:
        >>> found = ratio_interval(1.0, 2.0, variance=0.0, covariance=0.0, denominator_variance=0.04, quantile=2.0)
        >>> [round(end, 3) for end in (found.low, found.value, found.high)]
        [0.417, 0.5, 0.625]
    """
    square = quantile**2
    a = denominator**2 - square * denominator_variance
    if denominator <= 0 or a <= 0:
        return Interval(value=math.nan, low=-math.inf, high=math.inf)
    b = numerator * denominator - square * covariance
    c = numerator**2 - square * variance
    root = math.sqrt(max(b**2 - a * c, 0.0))
    return Interval(value=numerator / denominator, low=(b - root) / a, high=(b + root) / a)


def _covariance(first: Array, second: Array) -> float:
    """Of two estimates, from their replicates."""
    j = len(first)
    return float((j - 1) / j * np.dot(first - first.mean(), second - second.mean()))
