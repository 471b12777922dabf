"""Anchored rules against their closed forms and the figures that their sources published."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bsadvisor.theory import scaling

BATCH_SIZES = [1, 7, 32, 256, 4096]


# --- published figures --------------------------------------------------------------------------


def test_goyals_batch_of_8192_gets_32_times_the_rate_and_by_the_square_root_5_7_times() -> None:
    """ResNet-50 from 0.1 at 256: top-1 errors 23.74 % (3.2) and 26.22 % (0.57), 23.60 % at 256."""
    assert 0.1 * scaling.linear(8192, 256) == pytest.approx(3.2)
    assert 0.1 * scaling.square_root(8192, 256) == pytest.approx(0.1 * math.sqrt(32))
    assert round(0.1 * scaling.square_root(8192, 256), 2) == 0.57


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_the_rates_used_for_svhn_are_the_one_step_rule(batch_size: int) -> None:
    """0.27 B / (96 + B) of McCandlish et al. 2018: half of 0.27 at the noise scale 96."""
    published = 0.27 * batch_size / (96 + batch_size)
    assert 0.135 * scaling.adascale(batch_size, 96, noise_scale=96) == pytest.approx(published)


@pytest.mark.parametrize(
    ("batch_size", "tuned"), [(2, 0.185), (8, 0.60), (32, 1.94), (128, 2.86), (512, 3.24)]
)
def test_the_one_step_rule_below_the_stability_limit_is_within_a_grid_step_of_tuned_sgd(
    batch_size: int, tuned: float
) -> None:
    """Digits, MLP 64-32-10: rates on a grid of ratio 1.41, B_noise = 87, lambda_max = 0.70."""
    rate = min(1.94 * scaling.adascale(batch_size, 32, noise_scale=87), 2 / 0.70)
    assert 1 / 1.42 < rate / tuned < 1.42


# --- closed forms -------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", BATCH_SIZES)
def test_the_one_step_rule_is_the_gain_of_adascale(factor: int) -> None:
    """As AdaScale writes it: sigma^2 the variance of the base batch's gradient, mu^2 = |G|^2."""
    variance, squared_norm, anchor = 3.0, 0.07, 16
    gain = (variance + squared_norm) / (variance / factor + squared_norm)
    noise_scale = variance * anchor / squared_norm
    assert scaling.adascale(factor * anchor, anchor, noise_scale) == pytest.approx(gain, rel=1e-14)


@pytest.mark.parametrize("batch_size", [4, 64, 1024])
def test_the_one_step_rule_is_the_best_step_of_a_noisy_quadratic(batch_size: int) -> None:
    """Of all steps on a grid, by the expected loss itself, with H and Sigma that differ."""
    curvature, noise, gradient = (
        np.array([4.0, 1.0, 0.2]),
        np.array([1.0, 9.0, 30.0]),
        np.array([1.0, 0.5, 2]),
    )
    squared, tangled = gradient @ gradient, gradient @ (curvature * gradient)
    noise_scale = float(curvature @ noise / tangled)

    def best(batch_size: int) -> float:
        steps = np.geomspace(1e-4, 10, 200_001)
        falls = steps * squared - steps**2 / 2 * (tangled + curvature @ noise / batch_size)
        return float(steps[falls.argmax()])

    ratio = best(batch_size) / best(16)
    assert scaling.adascale(batch_size, 16, noise_scale) == pytest.approx(ratio, rel=2e-4)


@pytest.mark.parametrize("rule", [scaling.square_root, scaling.linear])
def test_each_rule_keeps_what_it_promises(rule: object) -> None:
    factor = 48 / 16
    if rule is scaling.square_root:  # the covariance of an update, eta^2 Sigma / B
        assert scaling.square_root(48, 16) ** 2 / factor == pytest.approx(1)
    else:  # drift per example, eta / B
        assert scaling.linear(48, 16) / factor == pytest.approx(1)


@pytest.mark.parametrize("power", scaling.SATURATING_POWER.values())
def test_the_saturating_power_rises_as_its_power_and_then_stays(power: float) -> None:
    assert scaling.saturating_power(4, 1, 1e9, power) == pytest.approx(4**power)
    assert scaling.saturating_power(4, 1, 1e-9, power) == pytest.approx(1)


def test_the_limit_of_the_noise_dominated_regime_is_where_the_gains_exponent_is_four_fifths() -> None:
    at = scaling.noise_dominates_up_to(400)
    exponent = math.log(scaling.adascale(at * 1.001, at, 400)) / math.log(1.001)
    assert exponent == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("family", ["sgd", "adam"])
def test_knowing_no_noise_scale_widens_the_range(family: scaling.Family) -> None:
    assert scaling.range_factor(family, scaling.SQUARE_ROOT_ERROR) > scaling.range_factor(family)


def test_the_second_moment_forgets_half_after_the_same_number_of_examples() -> None:
    def half_life(beta: float, batch_size: int) -> float:
        return batch_size * math.log(0.5) / math.log(beta)

    moved = scaling.half_life_beta(0.95, 512, 64)
    assert half_life(moved, 512) == pytest.approx(half_life(0.95, 64))


@pytest.mark.parametrize(("factor", "published"), [(8, 0.99203), (64, 0.9380)])
def test_half_lives_agree_with_the_reference_figures(factor: int, published: float) -> None:
    assert scaling.half_life_beta(0.999, factor, 1) == pytest.approx(published, abs=5e-5)


def test_weight_decay_keeps_the_examples_that_adamw_averages_over() -> None:
    rate, decay, batch_size = 1e-3, 0.1, 64
    moved = scaling.constant_timescale_decay(decay, batch_factor=8, rate_factor=2.5)
    assert 8 * batch_size / (2.5 * rate * moved) == pytest.approx(batch_size / (rate * decay))
