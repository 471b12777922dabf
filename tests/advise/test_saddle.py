"""Stuck, perhaps, or not at all; and what would leave sooner."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from bsadvisor.advise.pairs import PairInUse, recommend
from bsadvisor.advise.saddle import (
    examples_for_certificate,
    find_trap,
    is_noiseless,
    is_suspicious,
    judge_saddle,
    may_be_stuck,
    with_escape_steps,
)
from bsadvisor.advise.short_runs import STUCK_STEPS
from bsadvisor.advise.update_rule import UpdateRule
from bsadvisor.values import EscapeDirection, SaddleVerdict, ShortRun
from tests.advise.saddles import STUCK, curvature, escape, gradient, run, within

SGD = UpdateRule(scheme="gradient_descent", momentum=0.0)


def judge(
    found: EscapeDirection | None,
    *,
    squared_norm: float = 1e-9,
    rule: UpdateRule | None = SGD,
    batch_size: int | None = 64,
    learning_rate: float | None = 0.01,
    limit: float | None = None,
) -> SaddleVerdict:
    stats = curvature()
    if limit is not None:
        stats = replace(stats, learning_rate_limit=within(limit, limit / 10))
    verdict = judge_saddle(
        found, stats, gradient(squared_norm), rule, batch_size=batch_size, learning_rate=learning_rate
    )
    assert verdict is not None
    return verdict


# --- the verdict --------------------------------------------------------------------------------


def test_where_no_direction_was_sought_there_is_no_verdict() -> None:
    stats = replace(curvature(), lambda_min=None)
    assert judge_saddle(None, stats, gradient(), SGD, batch_size=64, learning_rate=0.01) is None


def test_without_negative_curvature_there_is_no_saddle() -> None:
    found = judge(None)
    assert (found.verdict, found.curvature, found.evidence) == ("none", None, None)


def test_without_a_run_a_slow_escape_that_gains_much_is_possible() -> None:
    found = judge(escape())
    assert found.verdict == "possible"
    assert found.escape_steps is not None and 50 < found.escape_steps < 10_000


@pytest.mark.parametrize(
    "found",
    [
        judge(escape(drop=0.01)),  # little to gain
        judge(escape(), learning_rate=0.5),  # left in a few steps
        judge(escape(), squared_norm=1.0),  # the gradient is sooner
    ],
)
def test_without_a_run_anything_else_is_only_noted(found: SaddleVerdict) -> None:
    assert found.verdict == "note"
    assert "does not hold the run up" in found.advice


def test_what_is_not_certified_is_unresolved_with_the_examples_that_it_takes() -> None:
    found = judge(escape(reach=1.5))
    assert found.verdict == "unresolved"
    assert found.examples_needed == math.ceil(512 * 1.5**2)
    assert "too small to certify" in found.advice


def test_what_is_not_certified_and_would_not_matter_is_no_saddle() -> None:
    found = judge(escape(reach=1.5, drop=0.0))
    assert found.verdict == "none" and found.examples_needed is None


def test_curvature_that_may_be_rounding_certifies_nothing() -> None:
    assert judge(escape(bend=-1e-5, reach=1e-6)).verdict != "warning"
    assert not is_suspicious(escape(bend=-1e-5, reach=1e-6), curvature(largest=2.0))
    assert is_suspicious(escape(bend=-1e-5, reach=1e-6), curvature(largest=1e-3))


@pytest.mark.parametrize(("drop", "suspicious"), [(0.0008, False), (0.0012, True)])
def test_a_run_is_tried_where_the_loss_falls_at_all(drop: float, suspicious: bool) -> None:
    assert is_suspicious(escape(drop=drop), curvature()) is suspicious


def test_an_optimizer_without_its_state_can_still_be_seen_to_be_stuck() -> None:
    fresh = UpdateRule(scheme="ema", momentum=0.9, second_beta=0.99, knows_geometry=False)
    tried, untried = judge(escape(run=STUCK), rule=fresh), judge(escape(), rule=fresh)
    assert tried.verdict == "warning" and tried.escape_steps is None
    assert "cannot be told without the optimizer's state" in tried.advice
    assert untried.verdict == "note" and "without the optimizer's state" in untried.advice


@pytest.mark.parametrize(
    ("rule", "batch_size", "learning_rate", "missing"),
    [
        (None, 64, 0.01, "the optimizer's state"),
        (SGD, None, 0.01, "a batch size"),
        (SGD, 64, None, "a learning rate"),
        (None, 64, None, "a learning rate and the optimizer's state"),
    ],
)
def test_without_pair_or_optimizer_state_it_is_said_what_is_missing(
    rule: UpdateRule | None, batch_size: int | None, learning_rate: float | None, missing: str
) -> None:
    found = judge(escape(), rule=rule, batch_size=batch_size, learning_rate=learning_rate)
    assert (found.verdict, found.escape_steps, found.noise_share) == ("note", None, None)
    assert f"; without {missing} it cannot be told whether it holds the run up" in found.advice
    uncertain = judge(escape(reach=1.5), rule=rule, batch_size=batch_size, learning_rate=learning_rate)
    assert uncertain.verdict == "none"


# --- the advice ---------------------------------------------------------------------------------


def steps_named(advice: str) -> tuple[float, float]:
    """Of the pair that is advised, and of today's."""
    found = re.search(r"in about ([\d,]+) instead of ([\d,]+) steps", advice)
    assert found is not None, advice
    return float(found[1].replace(",", "")), float(found[2].replace(",", ""))


def test_where_noise_leads_out_a_smaller_batch_does_so_sooner() -> None:
    found = judge(escape(run=STUCK))
    assert found.noise_share == 1.0
    assert found.advice.startswith("gradient noise leads out: B = 16 at this learning rate leaves in about ")
    sooner, today = steps_named(found.advice)
    assert sooner < today == pytest.approx(found.escape_steps, rel=0.05)
    trap = find_trap(escape(), gradient(), SGD, batch_size=16, learning_rate=0.01)
    assert sooner == pytest.approx(trap.steps, rel=0.05)


def test_where_the_gradient_leads_out_the_learning_rate_matters_and_the_batch_size_does_not() -> None:
    straight = escape(slope=1e-3, noise=1e-9, run=STUCK)
    found = judge(straight)
    assert found.noise_share is not None and found.noise_share < 0.01
    assert found.advice.startswith("the batch size hardly matters here: η = 0.02 leaves in about ")
    sooner, today = steps_named(found.advice)
    assert sooner == pytest.approx(today / 2, rel=0.06)
    smaller = find_trap(straight, gradient(), SGD, batch_size=4, learning_rate=0.01)
    assert smaller.steps == pytest.approx(found.escape_steps, rel=0.02)


def test_a_slope_that_is_no_more_than_its_error_leads_nowhere() -> None:
    error = 1e-2
    uncertain = replace(escape(run=STUCK), gradient=within(error, 2.6 * error))
    certain = replace(uncertain, gradient=within(error, 0.1 * error))
    assert judge(uncertain).noise_share == 1.0
    assert (judge(certain).noise_share or 1.0) < 0.1


def test_where_neither_leads_out_noise_is_to_be_added() -> None:
    nowhere = escape(noise=0.0, run=STUCK)
    assert is_noiseless(nowhere) and not is_noiseless(escape()) and not is_noiseless(escape(slope=1e-3))
    found = judge(nowhere)
    assert (found.verdict, found.escape_steps, found.noise_share) == ("warning", None, None)
    assert found.advice.startswith("neither gradient nor noise points out of it")


def test_a_batch_of_one_cannot_be_made_smaller() -> None:
    advice = judge(escape(run=STUCK), batch_size=1).advice
    assert advice.startswith(
        "gradient noise leads out, and B = 1 has the most of it: η = 0.02 leaves in about"
    )


@pytest.mark.parametrize(("limit", "words"), [(1.0, "η = 0.02 "), (0.015, "η = 0.015 ")])
def test_no_learning_rate_above_the_stability_limit_is_advised(limit: float, words: str) -> None:
    assert words in judge(escape(slope=1e-3, noise=1e-9, run=STUCK), limit=limit).advice


def test_at_the_stability_limit_noise_is_to_be_added() -> None:
    advice = judge(escape(slope=1e-3, noise=1e-9, run=STUCK), limit=0.0105).advice
    assert "at its stability limit; add a little random noise" in advice and "η" not in advice


def test_a_forecast_that_the_run_has_refuted_is_not_given_in_numbers() -> None:
    trap = find_trap(escape(), gradient(), SGD, batch_size=64, learning_rate=0.3)
    assert trap.steps < STUCK_STEPS
    found = judge(escape(run=STUCK), learning_rate=0.3)
    assert (found.verdict, found.escape_steps) == ("warning", None)
    assert found.advice == "gradient noise leads out: B = 16 at this learning rate leaves sooner"


@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-4, 1e4])
@pytest.mark.parametrize("slope", [0.0, 1e-8, 1.0])
@pytest.mark.parametrize("tried", [None, STUCK])
@pytest.mark.parametrize("learning_rate", [1e-7, 0.01, 10.0])
def test_no_sentence_names_what_is_no_number_of_steps(
    noise: float, slope: float, tried: ShortRun | None, learning_rate: float
) -> None:
    found = judge(escape(noise=noise, slope=slope, run=tried), learning_rate=learning_rate)
    assert not re.search(r"\b(inf|nan|about 0)\b", found.advice)
    for number in (found.escape_steps, found.noise_share, found.gradient_steps):
        assert number is None or math.isfinite(number)


# --- the rows -----------------------------------------------------------------------------------


def test_every_row_gets_the_steps_of_its_own_pair() -> None:
    pair = PairInUse(batch_size=64, learning_rate=0.01, optimizer=None)
    rows = recommend(pair, critical=95, noise_scale=95, dataset_size=None)
    told = with_escape_steps(rows, escape(), gradient(), SGD)
    today = next(row for row in told if row.current)
    assert today.escape_steps == judge(escape()).escape_steps
    assert len({row.escape_steps for row in told}) == len(rows)


def test_no_row_gets_steps_where_a_run_has_refuted_those_of_todays_pair() -> None:
    pair = PairInUse(batch_size=64, learning_rate=0.3, optimizer=None)
    rows = recommend(pair, critical=95, noise_scale=95, dataset_size=None)
    assert with_escape_steps(rows, escape(run=STUCK), gradient(), SGD) == rows
    leaving = run(stays=within(0.2, 0.01), kicked=within(0.3, 0.02))
    assert with_escape_steps(rows, escape(run=leaving), gradient(), SGD) != rows


def test_rows_without_learning_rate_or_way_out_get_no_steps() -> None:
    pair = PairInUse(batch_size=64, learning_rate=None, optimizer=None)
    rows = recommend(pair, critical=95, noise_scale=95, dataset_size=None)
    assert with_escape_steps(rows, escape(), gradient(), SGD) == rows
    known = recommend(replace(pair, learning_rate=0.01), critical=95, noise_scale=95, dataset_size=None)
    assert with_escape_steps(known, escape(noise=0.0), gradient(), SGD) == known


# --- beforehand ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bend", "reach", "examples"), [(-1.0, 2.0, 2048), (-1.0, 0.5, 128), (0.5, 1.0, None), (0.0, 1.0, None)]
)
def test_a_certificate_takes_as_many_examples_as_shrink_the_error_to_the_value(
    bend: float, reach: float, examples: int | None
) -> None:
    assert examples_for_certificate(escape(bend=bend, reach=reach)) == examples


@pytest.mark.parametrize(
    ("squared_norm", "gain", "expected"),
    [
        (1e-9, None, True),  # no step lowers the loss
        (1e-9, 0.01, True),  # the best one gains too little
        (1e-9, 0.5, True),  # it gains much, but is far
        (1.0, 0.5, False),  # the gradient takes 5 % off in 5 steps
    ],
)
def test_the_thorough_search_is_left_out_where_the_gradient_leads_somewhere(
    squared_norm: float, gain: float | None, expected: bool
) -> None:
    stats = gradient(squared_norm)
    assert may_be_stuck(stats, SGD, 0.01, loss=1.0, best_step_gain=gain) is expected


def test_nothing_is_searched_for_where_no_run_could_be_judged() -> None:
    assert not may_be_stuck(gradient(), None, 0.01, loss=1.0, best_step_gain=None)
    assert not may_be_stuck(gradient(), SGD, None, loss=1.0, best_step_gain=None)


def test_momentum_counts_as_the_faster_progress_that_it_is() -> None:
    momentum = UpdateRule(scheme="heavy_ball", momentum=0.9)
    slow, fast = (
        find_trap(escape(), gradient(), rule, batch_size=64, learning_rate=0.01).gradient_steps
        for rule in (SGD, momentum)
    )
    assert fast == pytest.approx(slow / 10)
