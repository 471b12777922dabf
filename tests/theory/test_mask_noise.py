"""Intervals of the split and of the floor, over many draws of a Gaussian world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from bsadvisor.theory import mask_noise as theory
from bsadvisor.theory.mask_noise import MaskVariances, RepeatedSums
from bsadvisor.theory.noise_scale import Array, BlockSums, Interval

K, DIMENSIONS, SEEDS = 32, 12, 600


@dataclass(frozen=True, kw_only=True)
class World:
    """Standard deviations of one example's gradient, in each coordinate."""

    data: float = 1.0
    augmentation: float = 0.0
    mask: float = 1.5
    shared: float = 0.0
    masks: int = 2
    draws: int = 1

    def gradients(self, rng: np.random.Generator, size: int) -> Array:
        """(K, D, R, dimensions) of micro-batches; the mean gradient is 0.3 in each coordinate."""
        own = rng.normal(size=(K, 1, 1, DIMENSIONS)) * self.data
        drawn = rng.normal(size=(K, self.draws, 1, DIMENSIONS)) * self.augmentation
        shape = K, self.draws, self.masks, DIMENSIONS
        masked = rng.normal(size=shape) * self.mask
        together = rng.normal(size=shape) * self.shared
        return np.asarray(0.3 + (own + drawn + masked) / size**0.5 + together)

    def sums(self, rng: np.random.Generator, size: int = 8) -> RepeatedSums:
        found = self.gradients(rng, size)
        over_masks = found.mean(2)
        mean = over_masks.mean(1)
        return RepeatedSums(
            mean=_block_sums(mean, size),
            draws=self.draws,
            masks=self.masks,
            between_masks=found.var(2, ddof=1).sum(-1).mean(1) if self.masks > 1 else np.zeros(K),
            between_draws=over_masks.var(1, ddof=1).sum(-1) if self.draws > 1 else np.zeros(K),
        )

    def variances(self, rng: np.random.Generator) -> MaskVariances:
        large, small = (self.gradients(rng, size).var(2, ddof=1).sum(-1).mean(1) for size in (32, 8))
        return MaskVariances(large=large, small=small, large_size=32, small_size=8)


def _block_sums(mean: Array, size: int) -> BlockSums:
    squares, weight = (mean**2).sum(1), np.full(K, float(size))
    total = (mean * size).sum(0)
    return BlockSums(
        micro_batches=np.ones(K),
        examples=weight,
        weight=weight,
        weight_squared=weight**2,
        weighted_squared_norm=weight * squares,
        weight_squared_squared_norm=weight**2 * squares,
        total_squared_norm=np.asarray(total @ total),
        gram=size**2 * mean @ mean.T,
    )


def judge(intervals: list[Interval], truth: float) -> None:
    """Unbiased, and 95 % of intervals hold the truth: 3.5 standard errors of either."""
    held = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    values = np.array([interval.value for interval in intervals])
    assert abs(values.mean() - truth) < 3.5 * values.std() / len(values) ** 0.5
    assert held > 0.95 - 3.5 * (0.95 * 0.05 / len(values)) ** 0.5


@pytest.mark.parametrize(
    "world",
    [
        World(),
        World(data=0.2),
        World(augmentation=0.8, mask=0.0, masks=1, draws=2),
        World(augmentation=0.8, draws=2),
    ],
)
def test_traces_are_unbiased_and_their_intervals_hold(world: World) -> None:
    rng = np.random.default_rng(0)
    sums = [world.sums(rng) for _ in range(SEEDS)]
    parts = {
        world.data: lambda parts: parts.data,
        world.augmentation: lambda parts: parts.augmentation,
        world.mask: lambda parts: parts.mask,
    }
    for deviation, statistic in parts.items():
        if deviation:
            judge([theory.split(some, statistic, 0.95) for some in sums], deviation**2 * DIMENSIONS)


@pytest.mark.parametrize("shared", [0.0, 0.1, 0.5])
def test_the_floor_is_unbiased_and_its_interval_holds(shared: float) -> None:
    rng, world = np.random.default_rng(0), World(mask=1.0, shared=shared)
    found = [world.variances(rng) for _ in range(SEEDS)]
    judge([theory.floor_of(some, lambda line: line.floor, 0.95) for some in found], shared**2 * DIMENSIONS)


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_the_shared_share_of_mask_noise_is_measured_and_its_interval_holds(shared: float) -> None:
    """Variances are those of two masks: one degree of freedom in each of some dimensions."""
    rng, count, examples = np.random.default_rng(0), 16, 32
    loud = 2 ** rng.normal(size=(SEEDS, examples))
    chi = rng.chisquare(DIMENSIONS, size=(2, SEEDS, examples)) / DIMENSIONS
    together = loud * (1 / count + (1 - 1 / count) * shared) * chi[1]
    found = [theory.sharing(*pair, count, 0.95) for pair in zip(loud * chi[0], together, strict=True)]
    held = np.mean([interval.low <= shared <= interval.high for interval in found])
    assert held > 0.9
    assert abs(np.mean([interval.value for interval in found]) - shared) < 0.03


def test_weights_in_tokens_give_traces_per_example() -> None:
    """A token mean over four tokens per example: the same gradients, weights four times the examples."""
    sums = World().sums(np.random.default_rng(0))
    mean = sums.mean
    tokens = BlockSums(
        micro_batches=mean.micro_batches,
        examples=mean.examples,
        weight=4 * mean.weight,
        weight_squared=16 * mean.weight_squared,
        weighted_squared_norm=4 * mean.weighted_squared_norm,
        weight_squared_squared_norm=16 * mean.weight_squared_squared_norm,
        total_squared_norm=16 * mean.total_squared_norm,
        gram=16 * mean.gram,
    )
    in_tokens = RepeatedSums(
        mean=tokens,
        draws=1,
        masks=2,
        between_masks=sums.between_masks,
        between_draws=sums.between_draws,
    )
    for statistic in (lambda parts: parts.data, lambda parts: parts.mask):
        expected = theory.split(sums, statistic, 0.95)
        found = theory.split(in_tokens, statistic, 0.95)
        assert found.value == pytest.approx(expected.value) and found.high == pytest.approx(expected.high)


def test_a_floor_that_may_be_nothing_has_no_upper_end() -> None:
    found = theory.floor_batch_size(Interval(value=0.1, low=-0.1, high=0.4), 10.0)
    assert (found.value, found.low, found.high) == (100.0, 25.0, float("inf"))
