"""Steps to a target, steps by learning rate, steps by batch size: against curves that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bsadvisor.theory.rate_curve import fit_rate_curve
from bsadvisor.theory.steps_curve import fit_steps_curve
from bsadvisor.theory.target_crossing import loss_at, steps_to_target

SIZES = [8, 32, 128, 512]


def hyperbola(critical: float, minimum: float, size: float) -> float:
    return math.log(minimum * (1 + critical / size))


def test_the_crossing_of_a_noisy_curve_is_where_its_mean_crosses() -> None:
    steps = list(range(0, 201, 4))
    generator = np.random.default_rng(0)
    found = []
    for _ in range(200):
        logs = [-step / 100 + 0.05 * generator.standard_normal() for step in steps]
        found.append(steps_to_target(steps, logs, -1.0))
    crossings = np.array(found, dtype=float)
    assert crossings.mean() == pytest.approx(100, abs=2) and crossings.std() < 6


def test_a_curve_that_stays_above_the_target_has_no_crossing() -> None:
    assert steps_to_target([0, 1, 2], [0.0, -0.1, -0.2], -0.3) is None
    assert steps_to_target([0, 1, 2], [0.0, -0.1, -0.2], 0.1) == 0.0
    assert loss_at([0, 1, 2], [0.0, -0.1, 0.3], 2) > -0.1


@pytest.mark.parametrize("best", [0.9, 1.0, 1.2])
@pytest.mark.parametrize("curvature", [0.5, 0.8, 1.5])
def test_the_best_rate_of_a_parabola_is_found_between_three(best: float, curvature: float) -> None:
    rates = [0.7, 1.0, 1.4]
    steps = [100 * math.exp(curvature * math.log(rate / best) ** 2) for rate in rates]
    curve = fit_rate_curve(rates, steps, curvature)
    assert curve.best_rate == pytest.approx(best, rel=1e-6)
    assert curve.best_steps == pytest.approx(100, rel=1e-6)


def test_two_rates_and_a_known_curvature_are_enough() -> None:
    steps = [100 * math.exp(0.8 * math.log(rate / 1.1) ** 2) for rate in (0.8, 1.6)]
    assert fit_rate_curve([0.8, 1.6], steps, 0.8).best_rate == pytest.approx(1.1)


def test_the_best_rate_is_never_sought_towards_one_that_blew_up() -> None:
    curve = fit_rate_curve([0.5, 1.0, 2.0], [150, 100, math.inf], 0.8)
    assert curve.best_rate <= 1.0


def test_the_best_rate_is_never_far_outside_those_tried() -> None:
    curve = fit_rate_curve([0.5, 1.0], [300, 100], 0.8)
    assert 1.0 < curve.best_rate <= math.sqrt(2) + 1e-9


def covered(claimed: float, scatter: float, seeds: int = 300) -> tuple[float, float]:
    """Share of 90 % intervals of B_crit that hold the truth, and the median of high over low."""
    generator = np.random.default_rng(1)
    hits, widths = 0, []
    for _ in range(seeds):
        logs = [hyperbola(64, 50, size) + scatter * generator.standard_normal() for size in SIZES]
        curve = fit_steps_curve(SIZES, logs, [claimed] * 4, freedom=8, confidence=0.9)
        low, high = curve.critical.low or 0.0, curve.critical.high or math.inf
        hits += low <= 64 <= high
        widths.append(high / low if low else math.inf)
    return hits / seeds, float(np.median(widths))


def test_nine_of_ten_intervals_hold_the_critical_batch_size() -> None:
    share, width = covered(claimed=0.1, scatter=math.hypot(0.1, 0.05))
    assert share >= 0.88 and width < 2.5


def test_intervals_that_claim_too_little_scatter_widen_by_their_residuals() -> None:
    assert covered(claimed=0.02, scatter=0.25)[0] >= 0.7


def test_the_minima_belong_to_the_critical_batch_size() -> None:
    logs = [hyperbola(200, 30, size) for size in SIZES]
    curve = fit_steps_curve(SIZES, logs, [0.05] * 4, freedom=4, confidence=0.9)
    assert curve.critical.value == pytest.approx(200, rel=0.01)
    assert curve.minimum_steps.value == pytest.approx(30, rel=0.01)
    assert curve.minimum_examples.value == pytest.approx(6000, rel=0.01)
    assert curve.steps(64) == pytest.approx(30 * (1 + 200 / 64), rel=0.01)
    assert curve.residual < 1e-3 and curve.misfit < 0.01


def test_steps_that_no_larger_batch_saves_have_no_upper_end() -> None:
    logs = [math.log(1e5 / size) for size in SIZES]
    curve = fit_steps_curve(SIZES, logs, [0.05] * 4, freedom=4, confidence=0.9)
    assert curve.critical.high is None and (curve.critical.low or 0) > 1000


def test_points_that_are_no_hyperbola_are_told_by_their_misfit() -> None:
    logs = [math.log(steps) for steps in (400, 100, 300, 50)]
    assert fit_steps_curve(SIZES, logs, [0.05] * 4, freedom=4, confidence=0.9).misfit > 4
