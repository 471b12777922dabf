"""The rule about the learning rate: inside the range of the advice, or below the stability limit."""

from __future__ import annotations

from dataclasses import replace

from bsadvisor.advise.check.outcome import Case, Outcome
from bsadvisor.advise.check.rate_range import advised_range
from bsadvisor.advise.check.reach import reach, unknown_optimizer, why_no_curvature, why_open
from bsadvisor.advise.update_rule import limit_by_batch_size, update_rule
from bsadvisor.values import (
    CheckRule,
    CurvatureStats,
    Estimate,
    PassingRange,
    Reach,
    Report,
    Source,
    SourcedPair,
)

NO_ANCHOR = "the advice would start from the very pair that is judged"


RANGE = "`learning_rate: range`"

NO_LIMIT = "the stability limit was not measured"


def judge_learning_rate(
    rule: CheckRule, pair: SourcedPair, report: Report, anchor: SourcedPair | None
) -> Outcome:
    """Against the range at the batch size judged, or against the limit alone.

    Args:
        anchor: the pair that the advice starts from; None where none is independent of `pair`.
    """
    case = Case(rule=rule, asked=pair.learning_rate, source=_source(pair))
    if pair.learning_rate is None:
        return case.unknown("no learning rate is known", "give it: --lr RATE")
    if pair.batch_size is None:
        return case.unknown("no batch size is known", "give it: --batch-size N")
    if rule.value == "limit":
        return _against_limit(case, pair.learning_rate, pair.batch_size, report, anchor)
    return _against_range(case, pair.learning_rate, pair.batch_size, report, anchor)


def _source(pair: SourcedPair) -> Source | None:
    """Of the learning rate; where no file sets that, of the batch size that it does not go with."""
    halves = (pair.learning_rate_from, pair.batch_size_from)
    return next((half for half in halves if half and half.file), pair.learning_rate_from)


# --- the limit ----------------------------------------------------------------------------------


def _against_limit(
    case: Case, rate: float, batch: int, report: Report, anchor: SourcedPair | None
) -> Outcome:
    """What a run was seen to train with is stable whatever the limit of one point says."""
    limit = _limit(report, batch)
    case = case.with_measured(limit)
    in_use = anchor.learning_rate if anchor else report.target.learning_rate
    if in_use is not None and rate <= in_use:
        return case.passed(f"η = {rate:.3g} is no larger than the one in use")
    if limit.high is None:
        if limit.value is None:
            return case.unknown(*_why_no_limit(report))
        if rate > limit.value:
            return case.unknown("the stability limit has no upper end", "probe more examples")
        return case.passed(f"η = {rate:.3g} is below the largest stable one, {limit.value:.3g}")
    if rate > limit.high:
        against = f"above the largest stable one at B = {batch:,}, {limit.high:.3g} at most"
        return case.failed(_up_to(max(limit.high, in_use or 0.0)), rate=f"{rate:.3g}", against=against)
    return case.passed(f"η = {rate:.3g} is not above the largest stable one, {limit.high:.3g} at most")


def _limit(report: Report, batch: int) -> Reach:
    """The stability limit at a batch size; its high end is where the curvature is lowest."""
    rule, curvature = update_rule(report.target.optimizer_details), report.curvature
    value = limit_by_batch_size(curvature, rule)(batch)
    high = limit_by_batch_size(_flattest(curvature), rule)(batch)
    return reach(value, None, high if value is None or high is None else max(value, high))


def _why_no_limit(report: Report) -> tuple[str, str]:
    """The reason, and what would give one."""
    curvature, rule = report.curvature, update_rule(report.target.optimizer_details)
    if curvature is None:
        return why_no_curvature(report, NO_LIMIT)
    if rule is None:
        return unknown_optimizer(report), f"{RANGE}, which needs no limit"
    if not rule.knows_geometry:
        return (
            "the stability limit takes the optimizer's state",
            f"probe a checkpoint that holds it; or {RANGE}, which needs none",
        )
    largest = curvature.own_lambda_max
    if largest is None:
        return NO_LIMIT, "probe with a larger --time-budget"
    if largest.value is not None and largest.value <= 0:
        return (
            "the loss curves upwards nowhere here, so that no learning rate is unstable",
            f"{RANGE} asks for more",
        )
    return "the largest curvature was not resolved", "probe more examples"


def _flattest(curvature: CurvatureStats | None) -> CurvatureStats | None:
    """With the lowest ends in place of the values."""
    if curvature is None:
        return None
    return replace(
        curvature,
        lambda_max=_at_low_end(curvature.lambda_max),
        lambda_max_preconditioned=_at_low_end(curvature.lambda_max_preconditioned),
        trace=_at_low_end(curvature.trace),
    )


def _at_low_end(estimate: Estimate | None) -> Estimate | None:
    return None if estimate is None else replace(estimate, value=estimate.low)


# --- the range ----------------------------------------------------------------------------------


def _against_range(
    case: Case, rate: float, batch: int, report: Report, anchor: SourcedPair | None
) -> Outcome:
    advised = advised_range(report, batch, anchor, highest=_limit(report, batch).high)
    if advised is None and anchor is None:
        return case.unknown(
            f"no independent learning rate to start from: {NO_ANCHOR}",
            "give --baseline OLD.json; or `learning_rate: limit`, which needs none",
        )
    if advised is None:
        return case.unknown("the pair to start from cannot be reckoned with", "probe again")
    case, low, high = case.with_measured(advised.reach), advised.low, advised.high
    if not low <= rate <= high:
        side = "below" if rate < low else "above"
        against = f"{side} the range {low:.3g} … {high:.3g} at B = {batch:,}"
        if advised.lowest <= rate <= advised.highest:
            return case.unknown(
                f"η = {rate:.3g} is {against}, but not so far that it must be wrong",
                f"choose one in the range, or measure it: {report.target.trial_command}",
            )
        return case.failed(
            PassingRange(setting="learning_rate", low=low, high=high), rate=f"{rate:.3g}", against=against
        )
    if advised.reach.value is None:
        return case.unknown(*why_open(report))
    return case.passed(f"η = {rate:.3g} is in the range {low:.3g} … {high:.3g} at B = {batch:,}")


def _up_to(rate: float) -> PassingRange:
    return PassingRange(setting="learning_rate", low=None, high=rate)
