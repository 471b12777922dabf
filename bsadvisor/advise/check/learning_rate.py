"""The rule about the learning rate: inside the range of the advice, or below the stability limit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from bsadvisor.advise.check.outcome import Case, Outcome
from bsadvisor.advise.check.reach import finite, noise_scale, reach, why_open
from bsadvisor.advise.pairs import PairInUse, highest_factor
from bsadvisor.advise.update_rule import limit_by_batch_size, update_rule
from bsadvisor.theory import scaling
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

MEASURED_LEEWAY, PREDICTED_LEEWAY = 4.5, 5.0
"""Factor beyond the range that advice has to be left by before a learning rate is called wrong.

Where it held, at most 2 % of the pairs of brute-force grids that reach the loss in twice the fewest steps were
called wrong (tests/benchmarks/accuracy/preflight.py, its design split).
"""

NO_ANCHOR = "the advice would start from the very pair that is judged"


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
            return case.unknown("the stability limit was not measured", "probe without --no-curvature")
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
    measured = _measured_at(report, batch)
    if anchor is None and measured is None:
        return case.unknown(
            f"no independent learning rate to start from: {NO_ANCHOR}",
            "give --baseline OLD.json; or `learning_rate: limit`, which needs none",
        )
    found = measured or (_range(report, batch, anchor) if anchor else None)
    if found is None:
        return case.unknown("the pair to start from cannot be reckoned with", "probe again")
    case = case.with_measured(found)
    low, high = found.low, found.high
    assert low is not None and high is not None
    leeway = MEASURED_LEEWAY if measured else PREDICTED_LEEWAY
    if not low <= rate <= high:
        side = "below" if rate < low else "above"
        against = f"{side} the range {low:.3g} … {high:.3g} at B = {batch:,}"
        if low / leeway <= rate <= high * leeway:
            return case.unknown(
                f"η = {rate:.3g} is {against}, but not so far that it must be wrong",
                f"a learning rate in the range; or bsadvisor trial {report.target.model}, which measures it",
            )
        return case.failed(
            PassingRange(setting="learning_rate", low=low, high=high), rate=f"{rate:.3g}", against=against
        )
    if found.value is None:
        return case.unknown(*why_open(report))
    return case.passed(f"η = {rate:.3g} is in the range {low:.3g} … {high:.3g} at B = {batch:,}")


def _measured_at(report: Report, batch: int) -> Reach | None:
    """The advice of a trial, which starts from no pair at all."""
    for row in report.recommendations:
        found = reach(row.learning_rate, row.learning_rate_low, row.learning_rate_high)
        if row.basis == "measured" and row.batch_size == batch and None not in (found.low, found.high):
            return found
    return None


def _range(report: Report, batch: int, anchor: SourcedPair) -> Reach | None:
    """The anchor's learning rate, carried over by the rule."""
    rate, size = anchor.learning_rate, anchor.batch_size
    if rate is None or rate <= 0 or size is None or size <= 0:
        return None
    pair = PairInUse(batch_size=size, learning_rate=rate, optimizer=report.target.optimizer_details)
    return _carried_over(pair, rate, batch, noise_scale(report), _limit(report, batch).high)


def _carried_over(
    pair: PairInUse, rate: float, batch: int, noise: Reach, limit: float | None
) -> Reach | None:
    """The rule at every end of the noise scale, with the factor that holds its errors, below the limit."""
    factor = _rule(pair, batch)
    ends = factor(noise.low or 0.0), factor(math.inf if noise.high is None else noise.high)
    band, highest = scaling.range_factor(pair.family), highest_factor(limit, rate)
    capped = [end if highest is None else min(end, highest) for end in ends]
    high = max(ends) * band
    found = reach(
        None if noise.value is None else rate * min(factor(noise.value), highest or math.inf),
        rate * min(capped) / band,
        rate * (high if highest is None else min(high, highest)),
    )
    return None if finite(found.low) is None or finite(found.high) is None else found


def _rule(pair: PairInUse, batch: int) -> Callable[[float], float]:
    """The learning rate at `batch` over today's, as a function of the noise scale."""
    anchor, power = pair.batch_size or 1, scaling.SATURATING_POWER[pair.family]

    def factor(noise: float) -> float:
        if math.isinf(noise):
            return float((batch / anchor) ** power)
        return scaling.saturating_power(batch, anchor, noise, power)

    return factor


def _up_to(rate: float) -> PassingRange:
    return PassingRange(setting="learning_rate", low=None, high=rate)
