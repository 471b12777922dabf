"""The estimators against slow, obviously right references, and over seeds."""

from __future__ import annotations

import numpy as np
import pytest

from bsadvisor.theory import noise_scale as theory
from bsadvisor.theory.noise_scale import Array, BlockSums


def sums_of(gradients: Array, weights: Array, examples: Array, per_block: int = 1) -> BlockSums:
    """Block sums straight from their definition."""
    blocks = np.arange(len(weights)) // per_block
    totals = np.array([(weights[:, None] * gradients)[blocks == j].sum(0) for j in range(blocks[-1] + 1)])
    norms = (gradients**2).sum(1)

    def add(values: Array) -> Array:
        return np.bincount(blocks, weights=values).astype(float)

    return BlockSums(
        micro_batches=add(np.ones_like(weights)),
        examples=add(examples),
        weight=add(weights),
        weight_squared=add(weights**2),
        weighted_squared_norm=add(weights * norms),
        weight_squared_squared_norm=add(weights**2 * norms),
        total_squared_norm=np.asarray((totals.sum(0) ** 2).sum()),
        gram=totals @ totals.T,
    )


def draw(rng: np.random.Generator, *, k: int, b: int, mean: Array, deviations: Array) -> Array:
    noise = rng.normal(size=(k, len(mean))) * deviations / np.sqrt(b)
    return np.asarray(mean + noise)


RNG = np.random.default_rng(7)
MEAN = RNG.normal(size=40) * 0.1
DEVIATIONS = np.arange(1, 41.0) ** -0.5


@pytest.mark.parametrize("equal", [True, False])
def test_moments_are_means_over_distinct_pairs(equal: bool) -> None:
    gradients = RNG.normal(size=(20, 40))
    weights = np.full(20, 8.0) if equal else RNG.integers(1, 30, size=20).astype(float)
    examples = np.full(20, 8.0)
    found = theory.moments(sums_of(gradients, weights, examples))

    pairs = [(k, j) for k in range(20) for j in range(20) if k != j]
    numerator = sum(weights[k] * weights[j] * gradients[k] @ gradients[j] for k, j in pairs)
    squared_norm = numerator / sum(weights[k] * weights[j] for k, j in pairs)
    assert float(found.squared_norm) == pytest.approx(squared_norm)
    if equal:
        trace = 8 * gradients.var(axis=0, ddof=1).sum()
        assert float(found.noise_trace) == pytest.approx(trace)


@pytest.mark.parametrize("per_block", [1, 3])
def test_leaving_one_out_equals_measuring_without_it(per_block: int) -> None:
    gradients, weights = RNG.normal(size=(24, 40)), RNG.integers(1, 30, size=24).astype(float)
    examples = np.full(24, 4.0)
    found = theory.leave_one_out(sums_of(gradients, weights, examples, per_block))
    for block in range(24 // per_block):
        keep = np.arange(24) // per_block != block
        without = theory.moments(sums_of(gradients[keep], weights[keep], examples[keep]))
        assert found.squared_norm[block] == pytest.approx(float(without.squared_norm))
        assert found.noise_trace[block] == pytest.approx(float(without.noise_trace))


def test_moments_are_unbiased_over_seeds_and_the_plug_in_norm_is_not() -> None:
    rng = np.random.default_rng(1)
    found, plug_in = [], []
    for _ in range(2000):
        gradients = draw(rng, k=16, b=4, mean=MEAN, deviations=DEVIATIONS)
        moments = theory.moments(sums_of(gradients, np.full(16, 4.0), np.full(16, 4.0)))
        found.append((float(moments.squared_norm), float(moments.noise_trace)))
        plug_in.append((gradients.mean(0) ** 2).sum())
    truth = np.array([(MEAN**2).sum(), (DEVIATIONS**2).sum()])
    errors = (np.mean(found, axis=0) - truth) / (np.std(found, axis=0) / np.sqrt(2000))
    assert np.abs(errors).max() < 3.5
    assert abs(np.mean(plug_in) - truth[0]) / (np.std(plug_in) / np.sqrt(2000)) > 10


def test_unequal_weights_leave_both_moments_unbiased() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(2000):
        weights = rng.integers(2, 20, size=16).astype(float)
        noise = rng.normal(size=(16, 40)) * DEVIATIONS / np.sqrt(weights)[:, None]
        moments = theory.moments(sums_of(MEAN + noise, weights, weights))
        found.append((float(moments.squared_norm), float(moments.noise_trace)))
    truth = np.array([(MEAN**2).sum(), (DEVIATIONS**2).sum()])
    errors = (np.mean(found, axis=0) - truth) / (np.std(found, axis=0) / np.sqrt(2000))
    assert np.abs(errors).max() < 3.5


def test_the_shape_of_the_noise_is_unbiased() -> None:
    rng = np.random.default_rng(3)
    shapes = [
        theory.noise_shape(gradients @ gradients.T)
        for gradients in (draw(rng, k=16, b=1, mean=MEAN, deviations=DEVIATIONS) for _ in range(2000))
    ]
    along = np.array([shape.along_gradient for shape in shapes])
    squares = np.array([shape.trace_squared for shape in shapes])
    truth_along = (MEAN**2 * DEVIATIONS**2).sum()
    truth_squares = (DEVIATIONS**4).sum()
    assert abs(along.mean() - truth_along) < 3.5 * along.std() / np.sqrt(2000)
    assert abs(squares.mean() - truth_squares) < 3.5 * squares.std() / np.sqrt(2000)


def coverage(*, bootstrap: bool, seeds: int = 400) -> float:
    """Share of 95 % intervals of B_simple that hold the truth, n = 2 B_simple."""
    rng = np.random.default_rng(4)
    truth = (DEVIATIONS**2).sum() / (MEAN**2).sum()
    b = max(1, round(2 * truth / 32))
    hits = 0
    for _ in range(seeds):
        gradients = draw(rng, k=32, b=b, mean=MEAN, deviations=DEVIATIONS)
        sizes = np.full(32, float(b))
        if bootstrap:
            picks = rng.integers(0, 32, size=(200, 32))
            values = [theory.moments(sums_of(gradients[pick], sizes, sizes)) for pick in picks]
            q = np.array([float(value.inverse_noise_scale) for value in values])
            hits += np.quantile(q, 0.025) <= 1 / truth <= np.quantile(q, 0.975)
        else:
            interval = theory.noise_scale(sums_of(gradients, sizes, sizes), 0.95)
            hits += interval.low <= truth <= interval.high
    return hits / seeds


def test_intervals_cover_the_truth() -> None:
    assert coverage(bootstrap=False) >= 0.93


def test_the_naive_bootstrap_would_not() -> None:
    assert coverage(bootstrap=True, seeds=60) < 0.8


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_intervals_of_a_finite_data_set_cover_its_own_noise_scale(share: float) -> None:
    """Also when most of it was seen: shrinking the whole interval by 1 - n / N covers 75 % at 0.9."""
    rng = np.random.default_rng(9)
    hits, size, b = 0, 2560, int(2560 * share) // 32
    for _ in range(200):
        table = draw(rng, k=size, b=1, mean=MEAN, deviations=DEVIATIONS)
        mean = table.mean(0)
        truth = ((table - mean) ** 2).sum() / (size - 1) / (mean @ mean)
        gradients = table[: 32 * b].reshape(32, b, -1).mean(1)
        sizes = np.full(32, float(b))
        interval = theory.noise_scale(sums_of(gradients, sizes, sizes), 0.95, dataset_size=size)
        hits += interval.low <= truth <= interval.high
    assert hits >= 0.93 * 200


def test_a_gradient_that_is_only_noise_has_a_lower_bound_and_no_upper_one() -> None:
    rng = np.random.default_rng(5)
    no_upper_end = 0
    for _ in range(100):
        gradients = draw(rng, k=32, b=4, mean=0 * MEAN, deviations=DEVIATIONS)
        interval = theory.noise_scale(sums_of(gradients, np.full(32, 4.0), np.full(32, 4.0)), 0.95)
        no_upper_end += interval.high == np.inf
    assert no_upper_end >= 95


def test_the_forecast_of_examples_reaches_the_precision() -> None:
    rng = np.random.default_rng(6)
    widths = []
    for _ in range(60):
        first = draw(rng, k=32, b=8, mean=MEAN, deviations=DEVIATIONS)
        sizes = np.full(32, 8.0)
        needed = theory.examples_for_precision(sums_of(first, sizes, sizes), 0.2, 0.95)
        b = max(1.0, needed / 32)
        again = draw(rng, k=32, b=int(b), mean=MEAN, deviations=DEVIATIONS)
        scale = theory.noise_scale(sums_of(again, np.full(32, b), np.full(32, b)), 0.95)
        widths.append(theory.relative_half_width(scale))
    assert 0.15 < np.median(widths) < 0.27


def test_neighbours_that_drift_together_are_noticed_and_shuffled_ones_are_not() -> None:
    rng = np.random.default_rng(8)
    noise = rng.normal(size=(32, 40))
    drift = np.cumsum(rng.normal(size=(32, 40)), axis=0)
    assert theory.order_p_value((noise + drift) @ (noise + drift).T) < 1e-3
    p_values = [theory.order_p_value(h @ h.T) for h in (rng.normal(size=(32, 40)) for _ in range(60))]
    assert 0.3 < np.mean(p_values) < 0.7
