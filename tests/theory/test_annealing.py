"""What noise is worth, against simulated runs on a noisy quadratic."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bsadvisor.theory.annealing import loss_change, loss_slope, noise_loss

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


def test_a_ramp_pays_where_noise_outweighs_the_steps_it_costs() -> None:
    assert loss_change(0.1, 0.1, noise_left=0.25, progress_left=0.69) < 0
    assert loss_change(0.01, 0.1, noise_left=0.25, progress_left=0.69) > 0
    assert loss_change(0.1, 0.0, noise_left=0.25, progress_left=0.5) == pytest.approx(-0.075)
    assert loss_change(0.0, 1.0, noise_left=1.0, progress_left=math.exp(-1)) == pytest.approx(1.0)
