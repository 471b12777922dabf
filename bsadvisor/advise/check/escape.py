"""The rule about the steps that leaving a saddle takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from bsadvisor.advise.check.outcome import Case, Outcome, at_most, least, likely
from bsadvisor.advise.check.reach import reach, unknown_optimizer, why_no_curvature
from bsadvisor.advise.short_runs import is_refuted
from bsadvisor.advise.update_rule import UpdateRule, update_rule
from bsadvisor.values import (
    CheckRule,
    EscapeDirection,
    PassingRange,
    Report,
    SaddleVerdict,
    SourcedPair,
    TargetDescription,
)

BAND = 10.0
"""Factor by which predicted steps were off at most in 25 of 26 measured escapes."""

MOST_DOUBLINGS = 6
"""Of the learning rate, where one that passes is sought."""

HIGHEST_RATE = 1e30
"""Where no stability limit is known."""

Steps = Callable[[int, float], float]


def judge_escape(rule: CheckRule, pair: SourcedPair, report: Report) -> Outcome:
    """Predicted steps of the pair judged, less the factor by which predictions have been off."""
    assert isinstance(rule.value, (int, float))
    case = Case(rule=rule, asked=float(rule.value), source=pair.batch_size_from)
    saddle = report.saddle
    if saddle is None:
        return case.unknown(*why_no_curvature(report, "whether there is a saddle was not measured"))
    updates = update_rule(report.target.optimizer_details)
    if saddle.verdict == "none" or (saddle.verdict == "note" and _is_told(saddle, report.target, updates)):
        return case.passed("no saddle holds the run up")
    if saddle.verdict == "unresolved":
        return case.unknown("a saddle was neither seen nor excluded", "probe more examples")
    if updates is None:
        return case.unknown(unknown_optimizer(report), "`escape_steps: null` turns the rule off")
    if saddle.evidence is None or not updates.knows_geometry:
        return case.unknown(
            "the steps to leave cannot be told without the optimizer's state",
            "probe a checkpoint that holds it",
        )
    if pair.batch_size is None or pair.learning_rate is None:
        return case.unknown("the steps to leave take a batch size and a learning rate", "give both")
    steps = _forecast(saddle.evidence, report, updates)
    if steps is None:
        return case.unknown("a run that was tried has refuted the forecast of its steps", saddle.advice)
    stable = report.curvature.learning_rate_limit if report.curvature else None
    return _compare(
        case,
        steps,
        pair.batch_size,
        pair.learning_rate,
        sure=saddle.verdict == "warning",
        limit=stable.value if stable else None,
    )


def _is_told(saddle: SaddleVerdict, target: TargetDescription, updates: UpdateRule | None) -> bool:
    """Whether it was tried or forecast that negative curvature does not hold the run up."""
    tried = saddle.evidence is not None and saddle.evidence.short_run is not None
    in_use = target.batch_size is not None and target.learning_rate is not None
    return tried or (in_use and updates is not None and updates.knows_geometry)


def _forecast(escape: EscapeDirection, report: Report, updates: UpdateRule) -> Steps | None:
    """Median steps of a pair; None where a run with the pair in use has shown it to be too short."""
    from bsadvisor.advise.saddle import find_trap  # it loads scipy: `check` must be quick

    def steps(batch_size: int, learning_rate: float) -> float:
        trap = find_trap(escape, report.gradient, updates, batch_size=batch_size, learning_rate=learning_rate)
        return trap.steps

    batch, rate = report.target.batch_size, report.target.learning_rate
    tried = batch is not None and rate is not None and escape.short_run is not None
    return None if tried and is_refuted(escape, steps(batch or 1, rate or 1.0)) else steps


def _compare(
    case: Case, steps: Steps, batch: int, rate: float, *, sure: bool, limit: float | None
) -> Outcome:
    allowed, predicted = case.asked or 0.0, steps(batch, rate)
    measured = reach(predicted, predicted / BAND, predicted * BAND)
    case = case.with_measured(measured)
    verdict = "fail" if math.isinf(predicted) else at_most(measured, allowed)
    if verdict == "pass":
        return case.passed(f"about {likely(measured)} steps to leave the saddle; {allowed:g} are allowed")
    if not sure:
        return case.unknown("the weights may sit at a saddle, but not surely", "probe more examples")
    return case.failed(
        _passing(steps, batch, rate, allowed, limit),
        steps="more steps than can be counted" if math.isinf(predicted) else f"{least(measured)} steps",
        allowed=f"{allowed:g}",
    )


def _passing(
    steps: Steps, batch: int, rate: float, allowed: float, limit: float | None
) -> PassingRange | None:
    """A smaller batch where gradient noise leads out, else a larger learning rate that is still stable."""
    for smaller in _halves(batch):
        if steps(smaller, rate) / BAND <= allowed:
            return PassingRange(setting="batch_size", low=None, high=smaller)
    for larger in _doubles(rate, limit):
        if steps(batch, larger) / BAND <= allowed:
            return PassingRange(setting="learning_rate", low=larger, high=limit)
    return None


def _halves(batch: int) -> Iterator[int]:
    while batch > 1:
        batch //= 2
        yield batch


def _doubles(rate: float, limit: float | None) -> Iterator[float]:
    for doublings in range(1, MOST_DOUBLINGS + 1):
        if rate * 2**doublings <= (HIGHEST_RATE if limit is None else limit):
            yield rate * 2**doublings
