"""Which coordinates of the gradient are mostly noise at a batch size, and which are mostly signal.

A coordinate with mean mu and variance sigma^2 per example is mostly noise at B where  B (mu / sigma)^2 < 1 / 4
and mostly signal where it is above 4: there the update of an adaptive optimizer follows the square root of B,
and here it no longer depends on B. K micro-batches of n examples in all give a squared t statistic, which is
noncentral F with (1, K - 1) degrees of freedom and noncentrality  n (mu / sigma)^2.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ncfdtr, ncfdtri

from bsadvisor.theory.noise_scale import Array, Interval
from bsadvisor.theory.scaling import WELL_BELOW


def squared_t(mean: Array, mean_square: Array, micro_batches: int) -> Array:
    """Squared t statistic of every coordinate's mean; those without any gradient are left out.

    Args:
        mean, mean_square: (P,), of micro-batch gradients weighted by their sizes.
        micro_batches: K.

    Source: Student 1908, with weights as in weighted least squares.
    """
    seen = mean_square > 0
    spread = np.maximum(mean_square - mean**2, 0.0)[seen] / (micro_batches - 1)
    return np.asarray(mean[seen] ** 2 / np.maximum(spread, np.finfo(float).tiny))


def share_below(statistics: Array, degrees: int, noncentrality: float, confidence: float) -> Interval:
    """Share of coordinates whose true noncentrality is below the one given.

    Whether a coordinate is below is sure, surely not, or not known. Of those that are not below, alpha are
    called sure by mistake, and of those that are, alpha are called surely not: both ends are freed of that.

    Args:
        statistics: (P,) squared t statistics.
        degrees: K - 1.
        noncentrality: lambda > 0.
        confidence: 1 - 2 alpha.

    Returns:
        Interval of a share: it takes no account of the sampling of coordinates.

    Source: inverted noncentral F, coordinate by coordinate.
    """
    alpha = (1 - confidence) / 2
    under, over = (float(ncfdtri(1, degrees, noncentrality, p)) for p in (alpha, 1 - alpha))
    surely, not_surely_above = (statistics < under).mean(), (statistics <= over).mean()
    low = max(0.0, float(surely - alpha) / (1 - alpha))
    high = min(1.0, float(not_surely_above) / (1 - alpha))
    middle = float((ncfdtr(1, degrees, noncentrality, statistics) < 0.5).mean())
    return Interval(value=min(max(middle, low), high), low=low, high=high)


def shares(
    statistics: Array, degrees: int, examples: float, batch_size: float, confidence: float
) -> tuple[Interval, Interval]:
    """Of coordinates that are mostly noise at B, and of those that are mostly signal.

    Args:
        statistics: (P,) squared t statistics, from so many examples.
        degrees: K - 1.
    """
    noise = share_below(statistics, degrees, examples / batch_size / WELL_BELOW, confidence)
    rest = share_below(statistics, degrees, examples / batch_size * WELL_BELOW, confidence)
    return noise, Interval(value=1 - rest.value, low=1 - rest.high, high=1 - rest.low)
