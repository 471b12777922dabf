"""Runs that were tried: stuck or not, and led away by a kick or not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bsadvisor.advise.short_runs import (
    has_way_out,
    is_refuted,
    judge_runs,
    needs_longer_run,
    plan_long_run,
    plan_short_run,
    runs_away,
)
from bsadvisor.values import Estimate, ShortRun, Verdict
from tests.advise.saddles import STUCK, escape, run, within

STAYS, FAR, NEAR = within(0.001, 0.002), within(0.3, 0.02), within(0.04, 0.002)
IN_VAIN = run(stays=STAYS, kicked=NEAR)
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
        (STAYS, NEAR, FAR, "note"),  # nothing is gained by a kick
        (within(-0.04, 0.002), FAR, NEAR, "note"),  # or hardly more than without one
        (UNKNOWN, FAR, FAR, "note"),
        (STAYS, UNKNOWN, UNKNOWN, "note"),
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
    ("longer", "verdict"),
    [
        (run(stays=STAYS, kicked=FAR, steps=300), "warning"),
        (run(stays=STAYS, kicked=within(0.06, 0.02), steps=300), "possible"),
        (run(stays=within(0.2, 0.002), kicked=FAR, steps=300), "warning"),  # it was stuck long enough
        (run(stays=STAYS, kicked=NEAR, steps=300), "note"),  # no more is asked of it, and no less
        (None, "note"),
    ],
)
def test_where_the_kick_is_slow_the_longer_run_decides(longer: ShortRun | None, verdict: Verdict) -> None:
    assert judge_runs(escape(run=IN_VAIN, longer=longer)) == verdict


@pytest.mark.parametrize(
    ("tried", "needs"),
    [
        (None, False),
        (STUCK, False),
        (IN_VAIN, True),
        (run(stays=within(0.2, 0.01), kicked=NEAR), False),
    ],
)
def test_a_longer_run_is_for_a_kick_that_has_not_led_away_yet(tried: ShortRun | None, needs: bool) -> None:
    assert needs_longer_run(escape(run=tried)) is needs


def test_a_run_that_moves_needs_no_way_out() -> None:
    assert runs_away(escape(run=run(stays=within(0.2, 0.01), kicked=FAR)))
    assert not runs_away(escape(run=STUCK)) and not runs_away(escape())


@pytest.mark.parametrize(("steps", "refuted"), [(90, True), (110, True), (310, False)])
def test_a_forecast_is_refuted_by_the_longest_run_that_stayed(steps: float, refuted: bool) -> None:
    longer = run(stays=STAYS, kicked=FAR, steps=300)
    assert is_refuted(escape(run=IN_VAIN, longer=longer), steps) is refuted
    assert is_refuted(escape(run=IN_VAIN), steps) is (steps < 100)
    assert not is_refuted(escape(), steps)


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 100), (256, 100), (512, 50), (100_000, 10)])
def test_a_run_with_large_batches_is_shorter(batch_size: int, steps: int) -> None:
    assert plan_short_run(batch_size) == steps
    assert plan_long_run(batch_size) == 3 * steps
