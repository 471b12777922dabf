"""The best step of a line and its noise against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bsadvisor.theory.local import StepModel, saturation
from bsadvisor.theory.noise_scale import Array

RATES: Array = 2.0 ** np.arange(-5.0, 3.0)


def parabola(*, examples: float = math.inf, rates: Array = RATES) -> StepModel:
    """Slope 2 and curvature 2 along the noise-free update; 6 of one example's noise."""
    curvature = 2 + 6 / examples
    return StepModel(
        rates=rates,
        decreases=2 * rates - curvature * rates**2 / 2,
        slope=2.0,
        noise_curvature=6.0,
        examples=examples,
    )


@pytest.mark.parametrize("examples", [16.0, math.inf])
@pytest.mark.parametrize("batch_size", [1.0, 3.0, 100.0, math.inf])
def test_on_a_parabola_noise_saturates_the_step_and_its_decrease(batch_size: float, examples: float) -> None:
    share = saturation(batch_size, 3.0) if math.isfinite(batch_size) else 1.0
    assert parabola(examples=examples).best(batch_size) == pytest.approx((share, share))


def test_the_noise_scale_is_where_the_step_of_a_parabola_is_halved() -> None:
    assert parabola().noise_scale() == pytest.approx(3.0)


def test_a_best_step_beyond_those_tried_is_no_answer() -> None:
    assert all(map(math.isnan, parabola(rates=RATES[:4]).best(math.inf)))


def test_a_line_that_only_rises_has_no_best_step() -> None:
    assert all(map(math.isnan, parabola().tilted(-3.0).best(4)))
