"""What a settled run leaves of its gradient, against simulated runs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bsadvisor.theory.equilibrium import own_noise_scale, ratio
from bsadvisor.theory.noise_scale import Interval
from bsadvisor.theory.stability import Scheme

CURVATURES = np.array([0.1, 0.5, 1.0, 2.0])
VARIANCES = np.array([1.0, 3.0, 0.5, 2.0])
BATCH = 16


def settled(scheme: Scheme, momentum: float, rate: float, *, steps: int = 2500, chains: int = 200) -> float:
    """B_simple = tr(Sigma) / E|G|^2 of runs on a quadratic, after many steps."""
    rng = np.random.default_rng(0)
    x = np.zeros((chains, len(CURVATURES)))
    average, squares = np.zeros_like(x), []
    weight = 1 - momentum if scheme == "ema" else 1.0
    for step in range(steps):
        gradient = CURVATURES * x + rng.normal(size=x.shape) * np.sqrt(VARIANCES / BATCH)
        average = momentum * average + weight * gradient
        x = x - rate * (gradient + momentum * average if scheme == "nesterov" else average)
        if step > steps // 2 and step % 20 == 0:
            squares.append(((CURVATURES * x) ** 2).sum(1).mean())
    return float(VARIANCES.sum() / np.mean(squares))


@pytest.mark.parametrize(
    ("scheme", "momentum", "rate"),
    [
        ("gradient_descent", 0.0, 0.03),
        ("heavy_ball", 0.9, 0.003),
        ("nesterov", 0.9, 0.003),
        ("ema", 0.9, 0.03),
    ],
)
def test_simulated_runs_settle_at_the_noise_scale_of_their_own(
    scheme: Scheme, momentum: float, rate: float
) -> None:
    along = float((CURVATURES * VARIANCES).sum() / VARIANCES.sum())
    predicted = own_noise_scale(scheme, momentum, along, rate, BATCH)
    assert predicted == pytest.approx(settled(scheme, momentum, rate), rel=0.06)


def test_half_the_batch_size_or_twice_the_learning_rate_halve_it() -> None:
    whole = own_noise_scale("heavy_ball", 0.9, 2.0, 0.1, 64)
    assert own_noise_scale("heavy_ball", 0.9, 2.0, 0.2, 64) == pytest.approx(whole / 2)
    assert own_noise_scale("heavy_ball", 0.9, 2.0, 0.1, 32) == pytest.approx(whole / 2)


def test_errors_of_both_widen_the_ratio() -> None:
    sure, measured = (Interval(value=10.0, low=end, high=100 / end) for end in (10.0, 5.0))
    assert ratio(measured, sure) == ratio(Interval(value=1.0, low=0.5, high=2.0), replace_value(1.0))
    both = ratio(measured, measured)
    assert both.low == pytest.approx(math.exp(-math.sqrt(2) * math.log(2)))


def replace_value(value: float) -> Interval:
    return Interval(value=value, low=value, high=value)


@pytest.mark.parametrize(
    ("measured", "low", "high"),
    [
        (Interval(value=10.0, low=5.0, high=math.inf), 0.5, math.inf),
        (Interval(value=math.nan, low=50.0, high=math.inf), 5.0, math.inf),
        (Interval(value=math.nan, low=math.nan, high=math.nan), 0.0, math.inf),
    ],
)
def test_an_end_that_is_not_known_stays_open(measured: Interval, low: float, high: float) -> None:
    found = ratio(measured, replace_value(10.0))
    assert found.low == pytest.approx(low) and found.high == high
