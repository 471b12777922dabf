"""The rules of Adam-like optimizers against simulations of Adam and their sources' exact formulas."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy.special import erf

from bsadvisor.theory import adam_rules
from bsadvisor.theory.noise_scale import Array
from bsadvisor.theory.scaling import half_life_beta

DIMENSIONS = 4000
"""Independent parameters, each a run of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of one run with Adam."""

    batch_size: int
    learning_rate: float
    betas: tuple[float, float]
    epsilon: float


# --- Malladi et al.: the same path, example for example -----------------------------------------

BASE = Settings(batch_size=1, learning_rate=0.012, betas=(0.98, 0.998), epsilon=0.5)

CURVATURE = 0.025

EXAMPLES = (2400, 4800, 7200)
"""At which runs are compared; after the first, the noise of the gradients falls to a quarter."""


def path(settings: Settings, noise: float = 1.0) -> Array:
    """Mean and spread over parameters of Adam on a quadratic from x = 3."""
    draws = np.random.default_rng(settings.batch_size)
    x, m, v = np.full(DIMENSIONS, 3.0), np.zeros(DIMENSIONS), np.zeros(DIMENSIONS)
    (first, second), found = settings.betas, []
    for step in range(1, EXAMPLES[-1] // settings.batch_size + 1):
        seen = step * settings.batch_size
        spread = noise / math.sqrt(settings.batch_size) * (1.0 if seen <= EXAMPLES[0] else 0.25)
        g = CURVATURE * x + spread * draws.standard_normal(DIMENSIONS)
        m = first * m + (1 - first) * g
        v = second * v + (1 - second) * g * g
        rate = settings.learning_rate / (1 - first**step)
        x = x - rate * m / (np.sqrt(v / (1 - second**step)) + settings.epsilon)
        if seen in EXAMPLES:
            found.append((x.mean(), x.std()))
    return np.array(found)


def moved(batch_size: int) -> Settings:
    """The base settings, carried over by the rule."""
    found = adam_rules.square_root_sde(batch_size, 1, betas=BASE.betas, epsilon=BASE.epsilon)
    assert found.betas is not None
    return Settings(
        batch_size=batch_size,
        learning_rate=BASE.learning_rate * found.learning_rate,
        betas=found.betas,
        epsilon=found.epsilon,
    )


def distance(one: Array, other: Array) -> float:
    """The largest difference of a mean or a spread."""
    return float(abs(one - other).max())


@pytest.fixture(scope="module")
def base() -> Array:
    return path(BASE)


def test_runs_of_eight_times_the_batch_size_follow_the_same_path_where_noise_dominates(base: Array) -> None:
    assert distance(path(moved(8)), base) < 0.04


@pytest.mark.parametrize(
    "broken",
    [
        {"learning_rate": 8 * BASE.learning_rate},
        {"learning_rate": BASE.learning_rate},
        {"betas": BASE.betas},
        {"betas": (BASE.betas[0], moved(8).betas[1])},
        {"betas": (moved(8).betas[0], BASE.betas[1])},
        {"epsilon": BASE.epsilon},
    ],
    ids=["linear rate", "same rate", "same betas", "same beta_1", "same beta_2", "same epsilon"],
)
def test_no_part_of_that_rule_can_be_left_out(broken: dict[str, Any], base: Array) -> None:
    assert distance(path(replace(moved(8), **broken)), base) > 0.08


def test_where_the_gradient_dominates_the_square_root_is_too_slow_and_the_linear_rule_is_right() -> None:
    quiet, scaled = path(BASE, noise=1e-3)[0, 0], moved(8)
    linear = replace(scaled, learning_rate=8 * BASE.learning_rate, epsilon=BASE.epsilon)
    assert path(replace(scaled, epsilon=BASE.epsilon), noise=1e-3)[0, 0] > quiet + 0.5
    assert path(linear, noise=1e-3)[0, 0] == pytest.approx(quiet, abs=0.1)


def test_a_beta_below_zero_is_no_beta() -> None:
    found = adam_rules.square_root_sde(1024, 64, betas=(0.9, 0.999), epsilon=1e-8)
    assert found.betas is None and found.learning_rate == 4


def test_its_second_beta_is_that_of_the_half_life_to_first_order() -> None:
    found = adam_rules.square_root_sde(8, 1, betas=(0.98, 0.999), epsilon=1e-8)
    assert found.betas is not None
    assert found.betas[1] == pytest.approx(0.9920)
    assert found.betas[1] == pytest.approx(half_life_beta(0.999, 8, 1), abs=5e-5)


# --- the expected update ------------------------------------------------------------------------


def expected_update(batch_size: int, signal: float) -> float:
    """Of one step of Adam at learning rate 1, for gradients of mean `signal` and standard deviation 1."""
    draws = np.random.default_rng(batch_size)
    first, second, warm, steps = 0.9, 0.999, 60, 600
    m, v = np.full(DIMENSIONS, signal), np.full(DIMENSIONS, signal**2 + 1 / batch_size)
    total = 0.0
    for step in range(warm + steps):
        g = signal + draws.standard_normal(DIMENSIONS) / math.sqrt(batch_size)
        m = first * m + (1 - first) * g
        v = second * v + (1 - second) * g * g
        total += float((m / np.sqrt(v)).mean()) if step >= warm else 0.0
    return total / steps


@pytest.mark.parametrize("signal", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("batch_size", [4, 16, 256])
def test_the_constant_update_rule_keeps_the_update_of_adam_within_two_percent(
    batch_size: int, signal: float
) -> None:
    rate = adam_rules.constant_update(batch_size, 4, noise_scale=1 / signal**2)
    kept = rate * expected_update(batch_size, signal) / expected_update(4, signal)
    assert kept == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("signal", [0.1, 0.3, 1.0])
def test_the_expected_update_is_its_closed_form(signal: float) -> None:
    closed = signal / math.sqrt(signal**2 + 1 / 4)
    assert expected_update(4, signal) == pytest.approx(closed, rel=0.02)


def test_the_constant_update_rule_lowers_the_rate_as_the_batch_grows() -> None:
    rates = [adam_rules.constant_update(batch_size, 16, 500) for batch_size in (16, 64, 1024, 10**6)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1


def test_constant_progress_keeps_the_update_per_example() -> None:
    rate = adam_rules.constant_progress(256, 4, noise_scale=1 / 0.3**2)
    per_example = rate * expected_update(256, 0.3) / 256
    assert per_example == pytest.approx(expected_update(4, 0.3) / 4, rel=0.02)


@pytest.mark.parametrize(("batch_size", "exponent"), [(1, 0.5), (1000, 0.75), (10**6, 1.0)])
def test_constant_progress_has_the_exponents_that_mccandlish_saw(batch_size: int, exponent: float) -> None:
    local = math.log(adam_rules.constant_progress(batch_size * 1.001, batch_size, 1000)) / math.log(1.001)
    assert local == pytest.approx(exponent, abs=2e-3)


# --- surge --------------------------------------------------------------------------------------

SIGNAL = np.full(40, 0.01)
"""mu / sigma of each parameter: the source's condition holds below B = 15,700."""


def best_sign_step(batch_size: float, curvature: Array) -> float:
    """Equation 9 of Li et al. 2024, exact for Gaussian gradients of unit noise."""
    sure = erf(math.sqrt(batch_size / 2) * SIGNAL)
    return float(sure @ SIGNAL / ((1 - sure**2) @ np.diag(curvature) + sure @ curvature @ sure))


def coherent() -> Array:
    """One sharp direction, along the gradient."""
    return np.full((len(SIGNAL), len(SIGNAL)), 1.0)


def own_peak(curvature: Array) -> float:
    """Equation 14."""
    off = curvature - np.diag(np.diag(curvature))
    return float(math.pi * np.trace(curvature) / (2 * SIGNAL @ off @ SIGNAL))


@pytest.mark.parametrize("batch_size", [4, 30, 200, 400])
def test_below_its_peak_surge_is_the_exact_best_step_along_the_sign(batch_size: int) -> None:
    peak = own_peak(coherent())
    assert peak == pytest.approx(403, abs=1)
    exact = best_sign_step(batch_size, coherent()) / best_sign_step(16, coherent())
    assert adam_rules.surge(batch_size, 16, peak) == pytest.approx(exact, rel=0.03)


def test_the_shape_falls_beyond_the_peak_as_the_source_says_and_the_rule_does_not() -> None:
    peak = own_peak(coherent())
    exact = best_sign_step(4 * peak, coherent()) / best_sign_step(peak, coherent())
    assert adam_rules.surge_shape(4 * peak, peak) == pytest.approx(exact, rel=0.1)
    assert adam_rules.surge(4 * peak, peak, peak) == 1


def test_without_coherent_curvature_the_exact_step_never_falls() -> None:
    steps = [best_sign_step(batch_size, np.eye(len(SIGNAL))) for batch_size in (4, 64, 1024, 10**5)]
    assert steps == sorted(steps)


def test_the_peak_is_known_from_the_noise_scale_by_curvature() -> None:
    by_curvature = np.trace(coherent()) / (SIGNAL @ coherent() @ SIGNAL)
    assert adam_rules.surge_peak(float(by_curvature)) == pytest.approx(own_peak(coherent()), rel=0.03)
