"""The rules about steps and examples over the fewest possible."""

from __future__ import annotations

import math
from collections.abc import Callable

from bsadvisor.advise.check.outcome import Case, Outcome, at_most, least, likely
from bsadvisor.advise.check.reach import critical_batch_size, reach, why_open
from bsadvisor.theory.training_cost import examples_over_minimum, steps_over_minimum
from bsadvisor.values import CheckRule, PassingRange, Report, SourcedPair

LARGEST = 2**53
"""Batch size; beyond it, numbers are not whole any more."""


def judge_examples(rule: CheckRule, pair: SourcedPair, report: Report) -> Outcome:
    """1 + B / B_crit: the larger B_crit, the fewer examples are wasted."""
    critical = critical_batch_size(report)
    return _judge(
        rule,
        pair,
        report,
        what="examples",
        cost=examples_over_minimum,
        ends=(critical.value, critical.high, critical.low),
        passing=_at_most_examples,
    )


def judge_steps(rule: CheckRule, pair: SourcedPair, report: Report) -> Outcome:
    """1 + B_crit / B: the smaller B_crit, the fewer steps are wasted."""
    critical = critical_batch_size(report)
    return _judge(
        rule,
        pair,
        report,
        what="steps",
        cost=steps_over_minimum,
        ends=(critical.value, critical.low, critical.high),
        passing=_at_most_steps,
    )


def _judge(
    rule: CheckRule,
    pair: SourcedPair,
    report: Report,
    *,
    what: str,
    cost: Callable[[float, float], float],
    ends: tuple[float | None, float | None, float | None],
    passing: Callable[[float, float], PassingRange | None],
) -> Outcome:
    """`ends`: B_crit, the favourable end of it, and the other one."""
    assert isinstance(rule.value, (int, float))
    batch, allowed = pair.batch_size, float(rule.value)
    case = Case(rule=rule, asked=allowed, source=pair.batch_size_from)
    if batch is None:
        return case.unknown("no batch size is known", "give it: --batch-size N")
    measured = reach(*(None if end is None else cost(batch, end) for end in ends))
    case = case.with_measured(measured)
    match at_most(measured, allowed):
        case "fail":
            assert ends[1] is not None
            return case.failed(
                passing(allowed, ends[1]), batch=f"{batch:,}", cost=least(measured), allowed=f"{allowed:g}"
            )
        case "pass":
            return case.passed(
                f"B = {batch:,} takes {likely(measured)} times the fewest {what}{_not_sure(measured.value, allowed)}"
            )
        case _:
            return case.unknown(*why_open(report))


def _not_sure(value: float | None, allowed: float) -> str:
    if value is None or value <= allowed:
        return f"; {allowed:g} are allowed"
    return f" by the prediction, but {allowed:g} or less cannot be excluded"


def _at_most_examples(allowed: float, critical: float) -> PassingRange | None:
    highest = min(math.floor((allowed - 1) * critical), LARGEST)
    if examples_over_minimum(highest, critical) > allowed:  # by the last digit
        highest -= 1
    return PassingRange(setting="batch_size", low=None, high=highest) if highest >= 1 else None


def _at_most_steps(allowed: float, critical: float) -> PassingRange | None:
    lowest = max(math.ceil(critical / (allowed - 1)), 1) if allowed > 1 else LARGEST
    if lowest < LARGEST and steps_over_minimum(lowest, critical) > allowed:
        lowest += 1
    return PassingRange(setting="batch_size", low=lowest, high=None) if lowest < LARGEST else None
