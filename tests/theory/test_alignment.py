"""The alignment of two gradients: without bias, and with intervals that hold it."""

from __future__ import annotations

import numpy as np
import pytest

from bsadvisor.theory.alignment import alignment, ratio_interval
from bsadvisor.theory.noise_scale import Array, BlockSums, Interval

SIZE = 8


def sums(gradients: Array, weight: float = SIZE) -> BlockSums:
    """Of micro-batches with gradients (K, d), a block each."""
    count = len(gradients)
    weights = np.full(count, weight)
    total = weight * gradients
    gram = total @ total.T
    squares = (gradients**2).sum(1)
    return BlockSums(
        micro_batches=np.ones(count),
        examples=np.full(count, float(SIZE)),
        weight=weights,
        weight_squared=weights**2,
        weighted_squared_norm=weight * squares,
        weight_squared_squared_norm=weight**2 * squares,
        total_squared_norm=gram.sum(),
        gram=gram,
    )


def aligned(training: Array, heldout: Array, **options: float) -> Interval:
    cross = SIZE**2 * training @ heldout.T
    return alignment(
        sums(training),
        sums(heldout),
        total=float(cross.sum()),
        cross=cross,
        confidence=0.95,
        **options,
    )


def drawn(mean: Array, count: int, deviations: Array, rng: np.random.Generator) -> Array:
    """Mean gradients of micro-batches of `SIZE` examples, with heavier tails than a Gaussian's."""
    noise = rng.standard_t(5, (count, SIZE, len(mean))) * np.sqrt(3 / 5)
    return np.asarray(mean + (noise * deviations).mean(1))


@pytest.mark.parametrize("truth", [1.0, 0.2, 0.0, -0.3])
@pytest.mark.parametrize("counts", [(32, 32), (64, 16)])
def test_the_interval_holds_the_alignment(truth: float, counts: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    deviations = np.arange(1.0, 41.0) ** -0.3
    heldout = rng.normal(size=40) * 0.25
    across = rng.normal(size=40) * 0.25
    across -= (across @ heldout) / (heldout @ heldout) * heldout
    held, values = 0, []
    for _ in range(400):
        found = aligned(
            drawn(truth * heldout + across, counts[0], deviations, rng),
            drawn(heldout, counts[1], deviations, rng),
        )
        held += found.low <= truth <= found.high
        values.append(found.value)
    assert 0.925 <= held / 400 <= 0.985
    assert np.nanmean(values) == pytest.approx(truth, abs=0.06)


def test_the_numerator_does_not_count_an_example_against_itself() -> None:
    """Two sets without a gradient in common align by nothing, however large their noise."""
    rng = np.random.default_rng(1)
    one, two = np.zeros(30), np.zeros(30)
    one[0], two[1] = 2.0, 2.0
    found = [aligned(drawn(one, 16, np.ones(30), rng), drawn(two, 16, np.ones(30), rng)) for _ in range(300)]
    assert np.mean([each.value for each in found]) == pytest.approx(0, abs=0.02)


def test_a_training_set_that_was_seen_to_its_end_adds_no_error() -> None:
    rng = np.random.default_rng(2)
    training = drawn(np.full(10, 0.5), 16, np.ones(10), rng)
    heldout = drawn(np.full(10, 0.5), 16, np.ones(10), rng)
    whole, part = aligned(training, heldout, unseen=0.0), aligned(training, heldout)
    assert whole.value == part.value
    assert whole.high - whole.low < part.high - part.low


def test_a_held_out_gradient_that_is_only_noise_leaves_the_alignment_open() -> None:
    rng = np.random.default_rng(3)
    found = aligned(drawn(np.ones(20), 16, np.ones(20), rng), drawn(np.zeros(20), 16, np.ones(20), rng))
    assert np.isnan(found.value) and (found.low, found.high) == (-np.inf, np.inf)


def test_without_an_error_below_the_ratio_is_a_plain_interval() -> None:
    found = ratio_interval(3.0, 2.0, variance=0.25, covariance=0.0, denominator_variance=0.0, quantile=2.0)
    assert (found.low, found.value, found.high) == pytest.approx((1.0, 1.5, 2.0))
