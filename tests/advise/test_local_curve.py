"""The section `local` over the ladder."""

from __future__ import annotations

from bsadvisor.advise.local_curve import inverse, local_curve
from bsadvisor.values import Estimate


def estimate(value: float, low: float | None = None, high: float | None = None) -> Estimate:
    return Estimate(value=value, low=low, high=high, confidence=0.95)


def test_every_batch_size_of_the_ladder_has_its_own_step_and_decrease() -> None:
    points = local_curve(lambda size: (estimate(size / 10), estimate(size / 100)), [16, 64])
    found = [(point.batch_size, point.learning_rate.value, point.loss_decrease.value) for point in points]
    assert found == [(16, 1.6, 0.16), (64, 6.4, 0.64)]


def test_a_curvature_that_may_be_zero_leaves_the_quadratic_step_without_an_upper_end() -> None:
    found = inverse(estimate(2.0, -1.0, 4.0))
    assert found == estimate(0.5, 0.25, None)
