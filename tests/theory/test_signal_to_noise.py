"""Shares of noisy and clear coordinates hold the truth of simulated gradients."""

from __future__ import annotations

import numpy as np
import pytest

from bsadvisor.theory.noise_scale import Array, Interval
from bsadvisor.theory.signal_to_noise import share_below, shares, squared_t

MICRO_BATCHES, SIZE, BATCH = 32, 16, 32
EXAMPLES = MICRO_BATCHES * SIZE


def statistics(snr: Array, seed: int) -> Array:
    """Of a probe; the unit of each coordinate is its own."""
    rng = np.random.default_rng(seed)
    unit = 10.0 ** rng.uniform(-3, 3, size=len(snr))
    gradients = unit * (snr + rng.normal(size=(MICRO_BATCHES, len(snr))) / SIZE**0.5)
    return squared_t(gradients.mean(0), (gradients**2).mean(0), MICRO_BATCHES)


def holds(interval: Interval, truth: float) -> bool:
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    return interval.low - 0.02 <= truth <= interval.high + 0.02  # two per cent of the coordinates by chance


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("level", [0.001, 0.05, 0.1, 0.3, 1.0])
def test_both_shares_hold_the_truth(level: float, spread: float) -> None:
    """Of a signal-to-noise ratio that is lognormal over the coordinates, from all noise to all signal."""
    rng = np.random.default_rng(1)
    snr = level * np.exp(spread * rng.normal(size=2000))
    wanted = (BATCH * snr**2 < 0.25).mean(), (BATCH * snr**2 > 4).mean()
    for seed in range(5):
        found = shares(statistics(snr, seed), MICRO_BATCHES - 1, EXAMPLES, BATCH, 0.95)
        assert all(holds(interval, truth) for interval, truth in zip(found, wanted, strict=True))


def test_coordinates_far_from_the_bounds_are_told_apart() -> None:
    snr = np.repeat([0.0, 2.0], [1500, 500])
    noise, signal = shares(statistics(snr, 0), MICRO_BATCHES - 1, EXAMPLES, BATCH / 4, 0.95)
    assert noise.value == pytest.approx(0.75, abs=0.02) and noise.high - noise.low < 0.1
    assert signal.value == pytest.approx(0.25, abs=0.02) and signal.high - signal.low < 0.1


def test_a_batch_as_large_as_the_probe_cannot_be_told_of() -> None:
    noise, _ = shares(statistics(np.zeros(2000), 0), MICRO_BATCHES - 1, EXAMPLES, EXAMPLES * 4, 0.95)
    assert noise.high - noise.low > 0.9


def test_coordinates_without_a_gradient_are_left_out_and_those_without_noise_are_clear() -> None:
    found = squared_t(np.array([0.0, 1.0]), np.array([0.0, 1.0]), MICRO_BATCHES)
    assert len(found) == 1 and found[0] > 1e9
    assert share_below(found, MICRO_BATCHES - 1, 4.0, 0.95).value == 0
