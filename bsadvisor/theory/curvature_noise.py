"""The noise scale with curvature, B_noise = tr(H Sigma) / G'HG, from inner products.

Micro-batch k of b examples has gradient h_k and Hessian H_k; u_k = H_k h_(k+1), counted in a circle, is
one Hessian-vector product. H_k comes from other examples than h_(k+1) and than every other gradient, so

    E u_k . h_(k+1) = G'HG + tr(H Sigma) / b,      E u_k . h_j = G'HG for the others j != k

also where an example's Hessian depends on its gradient. Intervals come from deleting one micro-batch
at a time, with its gradient and both products that used it; those of B_noise as `_linked_variance` says.

Source: McCandlish et al. 2018, equation 2.8; U-statistics over two and three distinct micro-batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bsadvisor.theory.noise_scale import (
    MIN_MICRO_BATCHES,
    Array,
    Interval,
    invert,
    jackknife_variance,
    symmetric_interval,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvatureProducts:
    """Inner products of K micro-batches; what is not said to be exact may come from a sketch."""

    products: Array
    """(K, K): u_k . h_j; exact at j = k and at j = k + 1."""
    summed_product: float
    """(sum of u_k) . (sum of h_j), exact."""
    gram: Array
    """(K, K): h_k . h_j; exact on the diagonal."""
    summed_squared_norm: float
    """|sum of h_k|^2, exact."""
    examples: float
    """b, in every micro-batch."""

    def __post_init__(self) -> None:
        if len(self.products) < MIN_MICRO_BATCHES:
            raise ValueError(f"{len(self.products)} micro-batches are fewer than {MIN_MICRO_BATCHES}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvatureMoments:
    """Of the whole probe, shape (), or with one micro-batch deleted, shape (K,); all unbiased."""

    along_gradient: Array
    """G'HG."""
    noise: Array
    """tr(H Sigma), per example."""
    squared_norm: Array
    """|G|^2."""
    trace: Array
    """tr(Sigma), per example."""


def moments(sums: CurvatureProducts) -> CurvatureMoments:
    """G'HG, tr(H Sigma), |G|^2 and tr(Sigma).

    Args:
        sums: inner products, in gradient units squared (times curvature).

    Returns:
        Moments of shape ().

    Source: see the module.
    """
    k = len(sums.products)
    own, following = _exact(sums.products)
    diagonal = np.diag(sums.gram).sum()
    return _moments(
        following=following.mean(),
        others=np.asarray(sums.summed_product - own.sum() - following.sum()) / (k * (k - 2)),
        norm=diagonal / k,
        squared_norm=(sums.summed_squared_norm - diagonal) / (k * (k - 1)),
        examples=sums.examples,
    )


def leave_one_out(sums: CurvatureProducts, *, own_product: bool = True) -> CurvatureMoments:
    """The moments without micro-batch j, for every j.

    Args:
        sums: inner products.
        own_product: also without H_j h_(j+1); H_(j-1) h_j goes with h_j in any case.

    Returns:
        Moments of shape (K,).

    Source: see the module.
    """
    k = len(sums.products)
    own, following = _exact(sums.products)
    others = sums.products.sum(1) - own - following
    as_gradient = sums.products.sum(0) - own - np.roll(following, 1)
    diagonal = np.diag(sums.gram)
    rows = sums.gram.sum(1) - diagonal
    total = sums.summed_product - own.sum() - following.sum()
    return _moments(
        following=(following.sum() - _of_unit(following, own_product)) / (k - 1 - own_product),
        others=(total - _of_unit(others, own_product) - as_gradient) / ((k - 2) * (k - 2 - own_product)),
        norm=(diagonal.sum() - diagonal) / (k - 1),
        squared_norm=(sums.summed_squared_norm - diagonal.sum() - 2 * rows) / ((k - 1) * (k - 2)),
        examples=sums.examples,
    )


def _of_unit(per_product: Array, own_product: bool) -> Array:
    """What H_(j-1) h_j and, where asked for, H_j h_(j+1) contribute."""
    return np.roll(per_product, 1) + own_product * per_product


def _exact(products: Array) -> tuple[Array, Array]:
    """u_k . h_k and u_k . h_(k+1)."""
    index = np.arange(len(products))
    return products[index, index], products[index, np.roll(index, -1)]


def _moments(
    *, following: Array, others: Array, norm: Array, squared_norm: Array, examples: float
) -> CurvatureMoments:
    return CurvatureMoments(
        along_gradient=others,
        noise=examples * (following - others),
        squared_norm=squared_norm,
        trace=examples * (norm - squared_norm),
    )


def along_gradient(sums: CurvatureProducts, confidence: float) -> Interval:
    """G'HG with a t interval.

    Args:
        sums: inner products.
        confidence: of the two-sided interval, in (0, 1).

    Returns:
        Interval in loss per squared learning rate; also negative.

    Source: jackknife over micro-batches.
    """
    return _interval(moments(sums).along_gradient, leave_one_out(sums).along_gradient, confidence)


def bends_up(sums: CurvatureProducts) -> bool:
    """Whether the estimate of G'HG is positive at all: else no B_noise is defined."""
    return bool(moments(sums).along_gradient > 0)


def noise_curvature(sums: CurvatureProducts, confidence: float) -> Interval:
    """tr(H Sigma) with a t interval.

    Args:
        sums: inner products.
        confidence: of the two-sided interval, in (0, 1).

    Returns:
        Interval per example, in the unit of G'HG; also negative where H is indefinite.

    Source: jackknife over micro-batches.
    """
    return _interval(moments(sums).noise, leave_one_out(sums).noise, confidence)


def curvature_along_gradient(sums: CurvatureProducts, confidence: float) -> Interval:
    """G'HG / |G|^2, the curvature in the direction of the gradient, with a t interval.

    Args:
        sums: inner products.
        confidence: of the two-sided interval, in (0, 1).

    Returns:
        Interval in the unit of H. NaN without limits where |G|^2 is not resolved from 0.

    Source: jackknife of the ratio.
    """
    whole, deleted = moments(sums), leave_one_out(sums)
    if not _interval(whole.squared_norm, deleted.squared_norm, confidence).low > 0:
        return Interval(value=math.nan, low=-math.inf, high=math.inf)
    ratios = deleted.along_gradient / deleted.squared_norm
    return _interval(whole.along_gradient / whole.squared_norm, ratios, confidence)


def curvature_along_noise(sums: CurvatureProducts, confidence: float) -> Interval:
    """tr(H Sigma) / tr(Sigma), the mean curvature in the directions of the noise, with a t interval.

    Args:
        sums: inner products.
        confidence: of the two-sided interval, in (0, 1).

    Returns:
        Interval in the unit of H; also negative where H is indefinite. NaN without noise.

    Source: jackknife of the ratio.
    """
    whole, deleted = moments(sums), leave_one_out(sums, own_product=False)
    if not whole.trace > 0:
        return Interval(value=math.nan, low=-math.inf, high=math.inf)
    degrees = len(deleted.noise) // 2 - 1
    variance = _linked_variance(deleted.noise / deleted.trace)
    return symmetric_interval(float(whole.noise / whole.trace), variance, confidence, degrees)


def curvature_noise_scale(sums: CurvatureProducts, confidence: float) -> Interval:
    """B_noise = tr(H Sigma) / G'HG with a t interval on its inverse.

    Args:
        sums: inner products.
        confidence: of the two-sided interval, in (0, 1).

    Returns:
        Interval in examples. `value` is NaN and `high` infinite where G'HG is not resolved from 0; all
        but `high` are NaN where tr(H Sigma) is not, which an indefinite H allows.

    Source: Fieller's interval by the jackknife of the ratio.
    """
    whole, deleted = moments(sums), leave_one_out(sums, own_product=False)
    degrees = len(deleted.noise) // 2 - 1
    noise = symmetric_interval(float(whole.noise), _linked_variance(deleted.noise), confidence, degrees)
    if not noise.low > 0:
        return Interval(value=math.nan, low=math.nan, high=math.inf)
    variance = _linked_variance(deleted.along_gradient / deleted.noise)
    q = symmetric_interval(float(whole.along_gradient / whole.noise), variance, confidence, degrees)
    scale = invert(q)
    return scale if q.low > 0 else Interval(value=math.nan, low=scale.low, high=math.inf)


def _linked_variance(replicates: Array) -> float:
    """Jackknife variance plus what neighbours share, H_j with h_j; never less than without it.

    Deleting both products of a micro-batch covers that too, but upsets the balance by which
    h_j drops out of tr(H Sigma) to first order: its intervals of B_noise are up to 2.8 times too wide.
    """
    k = len(replicates)
    centred = replicates - replicates.mean()
    shared = 2 * (k - 1) / k * float((centred * np.roll(centred, 1)).sum())
    return float(jackknife_variance(replicates)) + max(0.0, shared)


def _interval(value: Array, replicates: Array, confidence: float) -> Interval:
    """Neighbouring replicates share a Hessian-vector product: about half of them are independent."""
    degrees = len(replicates) // 2 - 1
    return symmetric_interval(float(value), float(jackknife_variance(replicates)), confidence, degrees)


def mean_interval(values: Array, confidence: float, *, one_sided: bool = False) -> Interval:
    """The mean of independent values with its t interval.

    Args:
        values: (K,), one per micro-batch.
        confidence: in (0, 1); of the interval, or of either of its ends.
        one_sided: each end by itself is exceeded with probability 1 - confidence.

    Returns:
        Interval in the unit of the values.

    Source: Student 1908.

    Example:
        >>> interval = mean_interval(np.array([1.0, 3.0]), 0.5)
        >>> round(interval.low, 6), interval.value, round(interval.high, 6)
        (1.0, 2.0, 3.0)
    """
    two_sided = 2 * confidence - 1 if one_sided else confidence
    variance = float(values.var(ddof=1)) / len(values)
    return symmetric_interval(float(values.mean()), variance, two_sided, len(values) - 1)
