"""Runs that were tried: stuck or not, and led away by a kick or not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bsadvisor.advise.short_runs import (
    best_look,
    has_hurried_off,
    has_left,
    has_way_out,
    highest_rate,
    is_refuted,
    judge_runs,
    look_every,
    needs_hurry,
    plan_short_run,
    runs_away,
)
from bsadvisor.values import Estimate, ShortRun, Verdict
from tests.advise.saddles import STUCK, curvature, escape, run, within

STAYS, FAR, NEAR, SLIGHT = (
    within(0.001, 0.002),
    within(0.3, 0.02),
    within(0.04, 0.002),
    within(0.01, 0.002),
)
IN_VAIN = run(stays=STAYS, kicked=SLIGHT)
"""Stuck, with a kick as without one."""

UNKNOWN = replace(STAYS, value=None, low=None, high=None)


@pytest.mark.parametrize(
    ("stays", "kicked", "gain", "verdict"),
    [
        (STAYS, FAR, FAR, "warning"),
        (within(0.04, 0.02), FAR, FAR, "possible"),  # it may leave by itself
        (within(0.052, 0.004), FAR, FAR, "possible"),  # it may not
        (within(0.052, 0.004), FAR, within(0.06, 0.02), "note"),  # which is too much of a perhaps
        (within(0.14, 0.1), FAR, FAR, "note"),  # as is a run that says nothing
        (STAYS, within(0.06, 0.02), FAR, "possible"),  # there may be little to gain
        (STAYS, FAR, within(0.06, 0.02), "possible"),  # or little more than without a kick
        (within(0.06, 0.002), FAR, FAR, "note"),  # it leaves by itself
        (within(-0.06, 0.002), FAR, FAR, "note"),  # upwards
        (STAYS, SLIGHT, FAR, "note"),  # nothing is gained by a kick
        (within(-0.04, 0.002), FAR, SLIGHT, "note"),  # or hardly more than without one
        (UNKNOWN, FAR, FAR, "note"),
        (STAYS, UNKNOWN, UNKNOWN, "note"),
        (STAYS, NEAR, NEAR, "possible"),  # it is slow, but sure
        (STAYS, within(0.04, 0.021), NEAR, "note"),  # or perhaps it is not
        (STAYS, NEAR, within(0.04, 0.021), "note"),
        (STAYS, within(0.019, 0.002), within(0.019, 0.002), "note"),  # or too slow
    ],
)
def test_the_verdict_is_that_of_the_run_which_was_tried(
    stays: Estimate, kicked: Estimate, gain: Estimate, verdict: Verdict
) -> None:
    found = escape(run=run(stays=stays, kicked=kicked, gain=gain))
    assert judge_runs(found) == verdict
    assert has_way_out(found) is (verdict != "note")


def test_a_shorter_run_is_held_to_a_smaller_fall() -> None:
    falls = within(0.02, 0.002)
    assert judge_runs(escape(run=run(stays=falls, kicked=FAR))) == "warning"
    assert judge_runs(escape(run=run(stays=falls, kicked=FAR, steps=10))) == "note"


@pytest.mark.parametrize(
    ("hurried", "verdict"),
    [
        (run(stays=STAYS, kicked=FAR, steps=200), "warning"),
        (run(stays=STAYS, kicked=within(0.06, 0.02), steps=200), "possible"),
        (run(stays=STAYS, kicked=within(0.06, 0.05), steps=200), "note"),  # by chance, of many looks
        (run(stays=STAYS, kicked=NEAR, steps=200), "note"),  # as may this be
        (run(stays=STAYS, kicked=SLIGHT, steps=40), "note"),  # few steps in a hurry are not asked for less
        (run(stays=STAYS, kicked=SLIGHT, steps=200), "note"),
        (run(stays=FAR, kicked=FAR, gain=SLIGHT, steps=200), "possible"),  # it gets there by itself
        (run(stays=within(0.3, 0.15), kicked=SLIGHT, steps=200), "note"),  # or may not
        (None, "note"),
    ],
)
def test_where_the_kick_is_slow_the_hurried_run_decides(hurried: ShortRun | None, verdict: Verdict) -> None:
    assert judge_runs(escape(run=IN_VAIN, hurried=hurried)) == verdict


@pytest.mark.parametrize(
    ("tried", "needs"),
    [
        (None, False),
        (STUCK, False),
        (IN_VAIN, True),
        (run(stays=within(0.2, 0.01), kicked=NEAR), False),
    ],
)
def test_a_hurried_run_is_for_a_kick_that_has_not_led_away_yet(tried: ShortRun | None, needs: bool) -> None:
    assert needs_hurry(escape(run=tried)) is needs


def test_a_run_that_moves_needs_no_way_out() -> None:
    assert runs_away(escape(run=run(stays=within(0.2, 0.01), kicked=FAR)))
    assert not runs_away(escape(run=STUCK)) and not runs_away(escape())


@pytest.mark.parametrize(("steps", "refuted"), [(90, True), (110, False)])
def test_a_forecast_is_refuted_by_a_run_with_the_pair_in_use_that_stayed(steps: float, refuted: bool) -> None:
    hurried = run(stays=STAYS, kicked=FAR, steps=200)
    assert is_refuted(escape(run=IN_VAIN, hurried=hurried), steps) is refuted
    assert not is_refuted(escape(), steps)
    assert not is_refuted(escape(run=run(stays=FAR, kicked=FAR)), steps)


def test_a_loss_that_fluctuates_too_far_on_the_way_is_not_stuck() -> None:
    swings = run(stays=STAYS, kicked=FAR, widest=within(0.12, 0.002))
    assert judge_runs(escape(run=swings)) == "note" and runs_away(escape(run=swings))
    assert judge_runs(escape(run=run(stays=STAYS, kicked=FAR, widest=within(-0.06, 0.002)))) == "note"


def test_a_gain_counts_that_lasts() -> None:
    peak = replace(run(stays=STAYS, kicked=FAR), lasting_gain=SLIGHT)
    assert judge_runs(escape(run=peak)) == "note"


@pytest.mark.parametrize(
    ("fall", "batch_size", "left"),
    [(0.1, 32, True), (0.04, 32, False), (0.04, 1024, True), (-0.06, 32, True)],
)
def test_a_run_has_left_where_it_moved_by_more_than_one_that_is_stuck(
    fall: float, batch_size: int, left: bool
) -> None:
    assert has_left(within(fall, 0.001), 1.0, batch_size) is left
    assert has_left(within(10 * fall, 0.01), 10.0, batch_size) is left


def test_the_best_look_is_the_one_with_the_largest_lasting_gain_before_the_run_left() -> None:
    looks = [
        run(stays=STAYS, kicked=SLIGHT, steps=20),
        run(stays=STAYS, kicked=NEAR, steps=40),
        run(stays=STAYS, kicked=SLIGHT, steps=60),
        run(stays=STAYS, kicked=UNKNOWN, steps=80),
        run(stays=within(0.1, 0.01), kicked=FAR, steps=100),
    ]
    assert best_look(looks[:4], 1.0) is looks[1]
    assert best_look(looks[3:4], 1.0) is None
    assert best_look(looks, 1.0) is looks[4]  # it has fallen far
    assert best_look([*looks[:3], replace(looks[4], kicked_loss_drop=NEAR)], 1.0) is looks[1]


@pytest.mark.parametrize(
    ("largest", "adaptive", "highest"), [(1.9, False, 0.5), (1.9, True, math.inf), (-0.2, False, math.inf)]
)
def test_a_hurried_run_stays_stable(largest: float, adaptive: bool, highest: float) -> None:
    """1.9 may be 2."""
    assert highest_rate(curvature(largest=largest), adaptive=adaptive) == pytest.approx(highest)


@pytest.mark.parametrize(
    ("fall", "reach", "over"),
    [(0.3, 0.02, True), (0.21, 0.02, False), (-0.05, 0.001, False), (-0.11, 0.001, True), (None, 0.0, True)],
)
def test_a_hurried_run_ends_where_it_has_fallen_far_or_climbs(
    fall: float | None, reach: float, over: bool
) -> None:
    assert has_hurried_off(UNKNOWN if fall is None else within(fall, reach), 1.0) is over


def test_every_run_is_looked_at_ten_times() -> None:
    for batch_size in (1, 256, 512, 1000, 100_000):
        assert plan_short_run(batch_size) // look_every(batch_size) >= 10
        assert plan_short_run(batch_size) % look_every(batch_size) == 0


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 100), (256, 100), (512, 50), (100_000, 10)])
def test_a_run_with_large_batches_is_shorter(batch_size: int, steps: int) -> None:
    assert plan_short_run(batch_size) == steps
