"""What noise is worth, against simulated runs on a noisy quadratic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bsadvisor.theory.annealing import (
    Noise,
    Slope,
    averaged_noise_loss,
    loss_change,
    loss_slope,
    noise_loss,
)

CURVATURES = np.array([0.2, 0.5, 1.0, 2.0])

VARIANCES = np.array([1.0, 3.0, 0.5, 2.0])
"""Of one example's gradient."""


def settled_loss(rate: float, batch: int, momentum: float, *, seed: int = 0) -> float:
    """Mean loss above the minimum of many runs of heavy-ball SGD, after they have settled."""
    random = np.random.default_rng(seed)
    weights, velocity = np.zeros((4000, 4)), np.zeros((4000, 4))
    for _ in range(int(12 / (rate * CURVATURES.min()))):
        noise = random.standard_normal(weights.shape) * np.sqrt(VARIANCES / batch)
        velocity = momentum * velocity + CURVATURES * weights + noise
        weights = weights - rate * velocity
    return float((0.5 * CURVATURES * weights**2).sum(1).mean())


@pytest.mark.parametrize(("rate", "batch", "momentum"), [(0.05, 4, 0.0), (0.05, 16, 0.0), (0.01, 4, 0.8)])
def test_the_loss_that_noise_makes_is_that_of_a_simulated_run(
    rate: float, batch: int, momentum: float
) -> None:
    variance = rate**2 * VARIANCES.sum() / batch
    predicted = noise_loss(variance, rate, 1 / (1 - momentum))
    assert settled_loss(rate, batch, momentum) == pytest.approx(predicted, rel=0.08)


def test_the_slope_of_noisy_losses_is_held_by_its_interval() -> None:
    steps = np.linspace(100, 1000, 10)
    held = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        slope = loss_slope(
            list(steps), list(steps**-0.4 * np.exp(0.05 * random.standard_normal(10))), confidence=0.8
        )
        assert slope is not None
        held.append(slope.low <= 0.4 * 1000**-0.4 <= slope.high)
    assert 0.72 <= np.mean(held) <= 0.9


def test_a_loss_that_rises_has_a_negative_slope() -> None:
    slope = loss_slope([100, 200, 400], [1.0, 1.1, 1.21], confidence=0.8)
    assert slope is not None and slope.value < 0


def test_no_slope_is_read_off_two_points() -> None:
    assert loss_slope([100, 1000], [1.0, 0.5], confidence=0.8) is None
    assert loss_slope([], [], confidence=0.8) is None


def flat(fall: float, reach: float = 0.0) -> Slope:
    return Slope(value=fall, low=fall - reach, high=fall + reach, scatter=0.0)


def change(noise: Noise, slope: Slope, *, noise_left: float, progress_left: float) -> tuple[float, ...]:
    return loss_change(noise, slope, noise_left=noise_left, progress_left=progress_left, confidence=0.8)


@pytest.mark.parametrize(
    ("noise", "fall", "left", "progress", "expected"),
    [
        (0.1, 0.1, 0.25, 0.69, -0.0379),
        (0.01, 0.1, 0.25, 0.69, 0.0296),
        (0.1, 0.0, 0.25, 0.5, -0.075),
        (0.0, 1.0, 1.0, math.exp(-1), 1.0),
    ],
)
def test_a_ramp_pays_where_noise_outweighs_the_steps_it_costs(
    noise: float, fall: float, left: float, progress: float, expected: float
) -> None:
    ends = change(Noise(value=noise), flat(fall), noise_left=left, progress_left=progress)
    assert ends == pytest.approx((expected,) * 3, abs=1e-4)


def test_the_errors_of_noise_and_slope_add_as_independent_ones() -> None:
    value, low, high = change(
        Noise(value=0.1, error=0.04 / 0.5 / 1.2816),
        flat(0.1, 0.03),
        noise_left=0.5,
        progress_left=math.exp(-1),
    )
    assert (value - low, high - value) == pytest.approx((0.05, 0.05), rel=1e-3)


@pytest.mark.parametrize("count", [3, 6])
def test_noise_is_measured_by_averaging_weights_with_its_standard_error(count: int) -> None:
    """Settled runs on the quadratic: their late iterates, far enough apart, and the loss at their mean."""
    random = np.random.default_rng(0)
    noise = 0.05 * VARIANCES.sum() / (4 * 4)
    spread = np.sqrt(0.05 * VARIANCES / (2 * 4) / CURVATURES)
    weights = random.standard_normal((20_000, count, 4)) * spread
    losses = 0.5 * (CURVATURES * weights**2).sum(-1)
    at_mean = 0.5 * (CURVATURES * weights.mean(1) ** 2).sum(-1)
    scatter = float(losses.std())
    found = [
        averaged_noise_loss(float(mean), float(at), count, scatter)
        for mean, at in zip(losses.mean(1), at_mean, strict=True)
    ]
    values = [one.value for one in found]
    assert np.mean(values) == pytest.approx(noise, rel=0.02)
    assert np.std(values) == pytest.approx(found[0].error, rel=0.03)
