"""The gradient noise scale from the inner products of micro-batch gradients.

Micro-batch k of weight w_k (its examples, or its counted tokens) has gradient h_k with mean G and
covariance Sigma_w / w_k. Everything here is computed from `BlockSums`: sums over J blocks of
consecutive micro-batches, of which one at a time is deleted for the jackknife.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

MIN_MICRO_BATCHES = 16
"""Below this many (or blocks of them) the t intervals under-cover (theory: 0.87 at K = 6)."""

DEGENERATE_EXCESS = 0.5
"""Share of the jackknife's known excess that is taken off: see `jackknife_variance`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSums:
    """Sums over J blocks of micro-batches; shapes are (J,) unless said.

    Leading dimensions (layers) are allowed for the fields that hold gradients.
    """

    micro_batches: Array
    examples: Array
    weight: Array
    """Sum of w_k."""
    weight_squared: Array
    """Sum of w_k^2."""
    weighted_squared_norm: Array
    """(..., J): sum of w_k |h_k|^2."""
    weight_squared_squared_norm: Array
    """(..., J): sum of w_k^2 |h_k|^2."""
    total_squared_norm: Array
    """(...): |sum over all k of w_k h_k|^2."""
    gram: Array
    """(..., J, J): inner products of the blocks' sums of w_k h_k."""

    @property
    def num_blocks(self) -> int:
        return len(self.weight)

    @property
    def num_examples(self) -> int:
        return int(self.examples.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """|G|^2 and tr(Sigma) per example, of the whole probe or with one block deleted."""

    squared_norm: Array
    """Unbiased, so it can be negative."""
    noise_trace: Array
    """Unbiased."""
    mean_squared_norm: Array
    """|mean gradient|^2: larger than |G|^2 by tr(Sigma) / n."""

    @property
    def inverse_noise_scale(self) -> Array:
        """q = |G|^2 / tr(Sigma); 0 where the trace is 0, that is without any noise and any gradient."""
        trace = np.where(self.noise_trace > 0, self.noise_trace, np.inf)
        return np.asarray(self.squared_norm / trace)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value with its confidence limits; infinite where there is none, NaN where not resolved."""

    value: float
    low: float
    high: float


def moments(sums: BlockSums) -> Moments:
    """U-statistic for |G|^2 and weighted sample covariance trace for tr(Sigma).

    Returns:
        Moments of shape (...), unbiased: |G|^2 in gradient units squared, tr(Sigma) per example.

    Source: McCandlish et al. 2018, appendix A.1, averaged over all small batches; weights as in
        weighted least squares.
    """
    return _moments(
        micro_batches=sums.micro_batches.sum(),
        examples=sums.examples.sum(),
        weight=sums.weight.sum(),
        weight_squared=sums.weight_squared.sum(),
        weighted_norm=sums.weighted_squared_norm.sum(-1),
        weight_squared_norm=sums.weight_squared_squared_norm.sum(-1),
        total_squared_norm=sums.total_squared_norm,
    )


def leave_one_out(sums: BlockSums) -> Moments:
    """The moments of the probe with block j deleted, for every j.

    Returns:
        Moments of shape (..., J).
    """
    diagonal = np.diagonal(sums.gram, axis1=-2, axis2=-1)
    return _moments(
        micro_batches=_others(sums.micro_batches),
        examples=_others(sums.examples),
        weight=_others(sums.weight),
        weight_squared=_others(sums.weight_squared),
        weighted_norm=_others(sums.weighted_squared_norm),
        weight_squared_norm=_others(sums.weight_squared_squared_norm),
        total_squared_norm=sums.total_squared_norm[..., None] - 2 * sums.gram.sum(-1) + diagonal,
    )


def _others(per_block: Array) -> Array:
    return np.asarray(per_block.sum(-1, keepdims=True) - per_block)


def _moments(
    *,
    micro_batches: Array,
    examples: Array,
    weight: Array,
    weight_squared: Array,
    weighted_norm: Array,
    weight_squared_norm: Array,
    total_squared_norm: Array,
) -> Moments:
    squared_norm = (total_squared_norm - weight_squared_norm) / (weight**2 - weight_squared)
    trace_per_weight = (weighted_norm - weight * squared_norm) / micro_batches
    return Moments(
        squared_norm=squared_norm,
        noise_trace=trace_per_weight * examples / weight,
        mean_squared_norm=total_squared_norm / weight**2,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseShape:
    """Where the variance of |G|^2 comes from, with blocks taken as equal."""

    along_gradient: float
    """G' Sigma_J G for the covariance Sigma_J of a block's mean gradient."""
    trace_squared: float
    """tr(Sigma_J^2)."""
    effective_dimensions: float
    """tr(Sigma)^2 / tr(Sigma^2); NaN where tr(Sigma^2) is not resolved."""


def noise_shape(gram: Array) -> NoiseShape:
    """Unbiased G' Sigma G and tr(Sigma^2) of block means from their Gram matrix, shape (J, J).

    Source: U-statistics over two, three and four distinct blocks.
    """
    j = len(gram)
    off = gram - np.diag(np.diag(gram))
    rows = off.sum(1)
    total, squares, row_squares = rows.sum(), (off**2).sum(), (rows**2).sum()
    pairs = squares / (j * (j - 1))
    triples = (row_squares - squares) / (j * (j - 1) * (j - 2))
    quadruples = (total**2 - 4 * row_squares + 2 * squares) / (j * (j - 1) * (j - 2) * (j - 3))
    trace_squared = pairs - 2 * triples + quadruples
    trace = np.diag(gram).mean() - total / (j * (j - 1))
    resolved = trace_squared > 0
    return NoiseShape(
        along_gradient=float(triples - quadruples),
        trace_squared=float(trace_squared),
        effective_dimensions=float(trace**2 / trace_squared) if resolved else math.nan,
    )


def block_mean_gram(sums: BlockSums) -> Array:
    """Gram matrix (..., J, J) of the blocks' mean gradients."""
    return np.asarray(sums.gram / np.multiply.outer(sums.weight, sums.weight))


def jackknife_variance(replicates: Array) -> Array:
    """Delete-one jackknife variance of an estimate from its replicates (..., J).

    Source: Efron and Stein 1981; biased upwards.
    """
    j = replicates.shape[-1]
    centred = replicates - replicates.mean(-1, keepdims=True)
    return np.asarray((j - 1) / j * (centred**2).sum(-1))


def inverse_noise_scale_variance(sums: BlockSums, unseen: float = 1.0) -> float:
    """Variance of the estimated q over repeated probes.

    q varies with |mean gradient|^2, whose error is that of the sample, and with tr(Sigma), whose error
    is mostly that of grouping examples into micro-batches and does not vanish when all are seen.

    The jackknife counts the part of Var |G|^2 that falls as 1/n^2, 2 tr(Sigma_J^2) / (J (J - 1)),
    twice. `DEGENERATE_EXCESS` of that excess is taken off, never more than half of the whole:
    coverage stays above nominal and intervals come out 10 % narrower.

    Args:
        sums: of the probe.
        unseen: 1 - n / N, the share of a finite data set that was not drawn; 1 for the population.

    Source: delta method on the jackknife's replicates; finite population correction.
    """
    whole, deleted = moments(sums), leave_one_out(sums)
    norm, trace = whole.mean_squared_norm, whole.noise_trace
    if trace <= 0:
        return 0.0
    replicates = math.sqrt(unseen) * deleted.mean_squared_norm / trace - norm / trace**2 * deleted.noise_trace
    variance = float(jackknife_variance(replicates))
    return max(variance - DEGENERATE_EXCESS * unseen * degenerate_variance(sums), variance / 2)


def degenerate_variance(sums: BlockSums) -> float:
    """The part of Var(q) that falls as 1/n^2: 2 tr(Sigma_J^2) / (J (J - 1)) over tr(Sigma)^2."""
    j = sums.num_blocks
    trace = float(moments(sums).noise_trace)
    if trace <= 0:
        return 0.0
    shape = noise_shape(block_mean_gram(sums))
    return max(0.0, 2 * shape.trace_squared / (j * (j - 1)) / trace**2)


def noise_scale(sums: BlockSums, confidence: float, dataset_size: int | None = None) -> Interval:
    """B_simple = tr(Sigma) / |G|^2 with a t interval on its inverse q.

    Args:
        sums: of the probe.
        confidence: of the two-sided interval, in (0, 1).
        dataset_size: None for the population; N for the training set, whose gradient has the squared
            norm |G|^2 + tr(Sigma) / N and of which the probe saw n without replacement.

    Returns:
        Interval in examples. `high` is infinite where the low end of q is not positive, `value` is
        NaN where q itself is not.

    Source: Fieller's interval by the jackknife of q.
    """
    q, unseen = float(moments(sums).inverse_noise_scale), 1.0
    if dataset_size is not None:
        q += 1 / dataset_size
        unseen = max(0.0, 1 - sums.num_examples / dataset_size)
    variance = inverse_noise_scale_variance(sums, unseen)
    return invert(symmetric_interval(q, variance, confidence, sums.num_blocks - 1))


def invert(q: Interval) -> Interval:
    """The interval of 1 / q.

    Example:
        >>> invert(Interval(value=0.01, low=0.005, high=0.02))
        Interval(value=100.0, low=50.0, high=200.0)
        >>> invert(Interval(value=0.01, low=-0.01, high=0.03)).high
        inf
    """
    return Interval(
        value=1 / q.value if q.value > 0 else math.nan,
        low=1 / q.high if q.high > 0 else math.nan,
        high=1 / q.low if q.low > 0 else math.inf,
    )


def symmetric_interval(value: float, variance: float, confidence: float, degrees: float) -> Interval:
    """value -+ t sqrt(variance)."""
    half_width = t_quantile(confidence, degrees) * math.sqrt(variance)
    return Interval(value=value, low=value - half_width, high=value + half_width)


def t_quantile(confidence: float, degrees: float) -> float:
    """Two-sided quantile of Student's t.

    Example:
        >>> round(t_quantile(0.95, 15), 3)
        2.131
    """
    return float(stdtrit(degrees, (1 + confidence) / 2))


def relative_half_width(scale: Interval) -> float:
    """(high - low) / (2 value): what `--precision` bounds; infinite where an end is missing."""
    width = (scale.high - scale.low) / (2 * scale.value)
    return width if math.isfinite(width) else math.inf


def relative_error_for(precision: float) -> float:
    """The relative half width d of q's interval that makes B's interval as narrow as `precision`.

    B runs over 1/(1+d) ... 1/(1-d), so precision = d / (1 - d^2).

    Example:
        >>> d = relative_error_for(0.5)
        >>> round(d / (1 - d**2), 6)
        0.5
    """
    return (math.sqrt(1 + 4 * precision**2) - 1) / (2 * precision)


def examples_for_precision(sums: BlockSums, precision: float, confidence: float) -> float:
    """Forecast of the probe size at which the interval is as narrow as `precision`.

    Var(q) = a / n + d / n^2 is extrapolated from the present probe of n examples. Where q is not
    positive its upper confidence limit stands in for it, and the forecast is a lower bound.

    Returns:
        Examples; infinite where nothing can be said (no noise at all).
    """
    n = sums.num_examples
    variance = inverse_noise_scale_variance(sums)
    degenerate = min(degenerate_variance(sums), variance)
    t = t_quantile(confidence, sums.num_blocks - 1)
    q = float(moments(sums).inverse_noise_scale)
    if q <= 0:
        q += t * math.sqrt(variance)
    if q <= 0:
        return math.inf
    wanted = (relative_error_for(precision) * q / t) ** 2
    a, d = (variance - degenerate) * n, degenerate * n**2
    return (a + math.sqrt(a**2 + 4 * wanted * d)) / (2 * wanted)


def order_p_value(gram: Array, *, permutations: int = 2000, seed: int = 0) -> float:
    """Probability of neighbours at least this alike if the order of the blocks were random.

    Args:
        gram: (J, J), of the blocks' mean gradients in the order in which they were drawn.

    Returns:
        One-sided permutation p-value of the mean inner product of neighbours.
    """
    off = gram - np.diag(np.diag(gram))
    rng = np.random.default_rng(seed)
    orders = np.array([np.arange(len(gram)), *(rng.permutation(len(gram)) for _ in range(permutations))])
    alike = off[orders[:, :-1], orders[:, 1:]].sum(1)
    return float((alike >= alike[0]).mean())
