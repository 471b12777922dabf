"""The stored errors and the rules that come from them."""

from __future__ import annotations

import math

import pytest

from bsadvisor.theory import calibration, scaling, training_cost


def test_the_band_holds_about_four_fifths_of_the_stored_branches() -> None:
    ratio, width = calibration.systematic_ratio(), calibration.band_log_half_width()
    inside = [abs(math.log(r / ratio)) <= width for r in calibration.SIMPLE_OVER_CRITICAL]
    assert 0.7 <= sum(inside) / len(inside) <= 0.95


def test_the_one_step_rule_is_the_adascale_gain() -> None:
    sigma2, mu2, b0, b = 7.0, 0.3, 16, 128
    scale = b / b0
    gain = (sigma2 / b0 + mu2) / (sigma2 / b0 / scale + mu2)
    assert scaling.saturating_power(b, b0, sigma2 / mu2, power=1) == pytest.approx(gain)


def test_the_published_svhn_rule_is_the_one_step_rule() -> None:
    def svhn(b: float) -> float:
        return 0.27 * b / (96 + b)

    for b in (1, 10, 96, 1000):
        assert svhn(b) / svhn(32) == pytest.approx(scaling.saturating_power(b, 32, 96, power=1))


def test_tuned_rates_above_the_anchor_are_within_the_range_of_the_rule() -> None:
    """Digits MLP, SGD, anchor (32, 1.94), noise scale 87. Far below the anchor p = 1 fits better there."""
    tuned = {128: 2.86, 512: 3.24}
    factor = scaling.range_factor("sgd")
    for b, rate in tuned.items():
        predicted = 1.94 * scaling.saturating_power(b, 32, 87, scaling.SATURATING_POWER["sgd"])
        assert 1 / factor < predicted / rate < factor


def test_steps_and_examples_trade_off_on_a_hyperbola() -> None:
    for b in (1, 30, 95, 4096):
        steps = training_cost.steps_over_minimum(b, 95)
        examples = training_cost.examples_over_minimum(b, 95)
        assert (steps - 1) * (examples - 1) == pytest.approx(1)


def test_half_lives_agree_with_malladi_to_first_order() -> None:
    assert 1 - scaling.half_life_beta(0.999, 8, 1) == pytest.approx(8 * (1 - 0.999), rel=5e-3)
