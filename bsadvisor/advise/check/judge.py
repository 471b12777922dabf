"""Every rule that is on, and what they come to together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

from bsadvisor.advise.check.anchor import independent_anchor, measured_anchor, pair_to_judge
from bsadvisor.advise.check.cost import judge_examples, judge_steps
from bsadvisor.advise.check.drift import judge_drift, refuse_another_target
from bsadvisor.advise.check.escape import judge_escape
from bsadvisor.advise.check.learning_rate import judge_learning_rate
from bsadvisor.advise.check.outcome import UNREASONABLE, Case, Outcome
from bsadvisor.errors import UsageError
from bsadvisor.settings import RuleSeverity
from bsadvisor.values import CheckRequest, CheckRule, CheckVerdict, Judgement, Report, RuleResult, SourcedPair

SEVERITIES: tuple[RuleSeverity, ...] = get_args(RuleSeverity)
"""The least serious first."""


def judge(
    report: Report,
    request: CheckRequest,
    *,
    in_use: SourcedPair,
    filling: SourcedPair,
    baseline: Report | None = None,
    baseline_pair: SourcedPair | None = None,
) -> Report:
    """The report with the verdict on a pair.

    Args:
        in_use: the pair that the report's advice starts from.
        filling: what flags and YAML leave out of the pair judged.
        baseline: an older report of the same target.
        baseline_pair: the pair in use then.

    Raises:
        UsageError: nothing to judge by, or a baseline of another target.
    """
    rules = [rule for rule in request.rules if baseline is not None or not _needs_baseline(rule)]
    if not rules:
        raise UsageError("every rule is off: there is nothing to check", "turn one on: --rule NAME=VALUE")
    if baseline is not None:
        refuse_another_target(report, baseline)
    pair = pair_to_judge(request.pair, filling)
    anchor = independent_anchor(request.pair, in_use, baseline_pair) or measured_anchor(
        report, pair.batch_size
    )
    outcomes = [_judge_safely(rule, pair, report, anchor, baseline) for rule in rules]
    violations = tuple(_with(outcomes, "fail"))
    return replace(
        report,
        command="check",
        verdict=_verdict(outcomes, violations, request.fail_on),
        violations=violations,
        check=Judgement(
            pair=pair,
            anchor=anchor,
            passed=tuple(_with(outcomes, "pass")),
            unknown=tuple(_with(outcomes, "unknown")),
            fail_on=request.fail_on,
        ),
    )


def _needs_baseline(rule: CheckRule) -> bool:
    """A YAML may hold the rule for the jobs that have a baseline; who types it means this one.

    Raises:
        UsageError: it was typed.
    """
    if rule.name == "max_drift" and rule.source is not None and rule.source.by == "--rule":
        raise UsageError("--rule max_drift: nothing to compare with", "give --baseline OLD.json, too")
    return rule.name == "max_drift"


def _with(outcomes: Sequence[Outcome], verdict: CheckVerdict) -> Iterator[RuleResult]:
    return (outcome.result for outcome in outcomes if outcome.verdict == verdict)


def _verdict(
    outcomes: Sequence[Outcome], violations: Sequence[RuleResult], fail_on: RuleSeverity
) -> CheckVerdict:
    """Violations that are less severe than `fail_on` are told, and pass."""
    least = SEVERITIES.index(fail_on)
    if any(SEVERITIES.index(violation.severity) >= least for violation in violations):
        return "fail"
    return "unknown" if all(outcome.verdict == "unknown" for outcome in outcomes) else "pass"


def _judge_safely(
    rule: CheckRule,
    pair: SourcedPair,
    report: Report,
    anchor: SourcedPair | None,
    baseline: Report | None,
) -> Outcome:
    """A saved report may hold any numbers."""
    try:
        return _judge(rule, pair, report, anchor, baseline)
    except (ArithmeticError, ValueError):
        return Case(rule=rule, source=rule.source).unknown(UNREASONABLE, "probe again")


def _judge(
    rule: CheckRule,
    pair: SourcedPair,
    report: Report,
    anchor: SourcedPair | None,
    baseline: Report | None,
) -> Outcome:
    match rule.name:
        case "max_examples_over_minimum":
            return judge_examples(rule, pair, report)
        case "max_steps_over_minimum":
            return judge_steps(rule, pair, report)
        case "learning_rate":
            return judge_learning_rate(rule, pair, report, anchor)
        case "escape_steps":
            return judge_escape(rule, pair, report)
        case "memory":
            return Case(rule=rule, source=pair.batch_size_from).unknown(
                "the memory that a batch takes was not measured",
                "nothing to do; `memory: null` turns the rule off",
            )
        case "max_drift":
            assert baseline is not None
            return judge_drift(rule, report, baseline)
