"""The local curve and the correction for a noisy direction."""

from __future__ import annotations

import pytest

from bsadvisor.advise.local_curve import local_curve, noise_free
from bsadvisor.values import Estimate


def estimate(value: float, low: float, high: float | None) -> Estimate:
    return Estimate(value=value, low=low, high=high, confidence=0.95)


def test_a_step_along_a_noisy_gradient_is_lengthened() -> None:
    found = noise_free(estimate(1.0, 0.9, 1.1), 100, estimate(50, 40, 80))
    assert (found.low, found.value, found.high) == pytest.approx((0.9 * 1.4, 1.5, 1.1 * 1.8))


def test_half_the_step_and_half_the_gain_are_left_at_the_noise_scale() -> None:
    (point,) = local_curve(estimate(1.0, 1.0, 1.0), estimate(0.2, 0.2, 0.2), estimate(64, 64, 64), [64])
    assert point.learning_rate.value == 0.5 and point.loss_decrease.value == pytest.approx(0.1)


def test_an_unbounded_noise_scale_leaves_the_step_without_a_lower_end() -> None:
    (point,) = local_curve(estimate(1.0, 0.9, 1.1), estimate(0.2, 0.1, 0.3), estimate(64, 32, None), [64])
    assert point.learning_rate.low is None and point.learning_rate.high == pytest.approx(1.1 / 1.5)
