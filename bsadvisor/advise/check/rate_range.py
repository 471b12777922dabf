"""The range that learning rates are judged by, and how far beyond it they must be to be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bsadvisor.advise.check.reach import critical_batch_size, finite, noise_scale, reach
from bsadvisor.advise.measured_rates import expected_rate
from bsadvisor.advise.pairs import PairInUse, highest_factor
from bsadvisor.theory import scaling
from bsadvisor.values import Reach, Recommendation, Report, SourcedPair

MEASURED_LEEWAY, PREDICTED_LEEWAY, PREDICTED_FAR = 4.5, 3.0, 30.0
"""Factor beyond the range up to which a learning rate may still be a good one. Beyond a predicted range it is wrong
where the best single step says so, too, or very far off."""

SLOPE_ERROR = 0.25
"""Of log learning rate over log batch size, beside batch sizes that are known."""

BEST_STEPS = 0.3, 45.0
"""Learning rates that train well, in units of the best single step at the same batch size.

Predicted advice starts from a pair that may be badly tuned itself: at 27 checkpoints it was up to 38 times off.
The best single step starts from nothing, and there 96 % of the good rates of any batch size lay between these
(tests/benchmarks/accuracy/preflight.py; the leeways were chosen on the splits before `fresh`,
and a trial's on `kept` and `unseen`, too).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisedRange:
    """At one batch size."""

    reach: Reach
    low: float
    high: float
    lowest: float
    highest: float
    """Beyond these a learning rate is wrong; between them and the range that cannot be told."""


def advised_range(
    report: Report, batch: int, anchor: SourcedPair | None, *, highest: float | None
) -> AdvisedRange | None:
    """As a trial measured it, or carried over from the anchor; None where there is neither.

    Args:
        highest: stable learning rate.
    """
    measured = _measured(report, batch)
    if measured is not None:
        return _around(measured, MEASURED_LEEWAY)
    predicted = _predicted(report, batch, anchor, highest) if anchor else None
    if anchor is None or anchor.batch_size is None or predicted is None:
        return None
    doubt = _apart(batch, anchor.batch_size) ** SLOPE_ERROR
    near, far = (_around(predicted, leeway * doubt) for leeway in (PREDICTED_LEEWAY, PREDICTED_FAR))
    lowest, highest = _from_best_step(report, batch)
    return replace(
        near,
        lowest=max(min(near.lowest, lowest), far.lowest),
        highest=min(max(near.highest, highest), far.highest),
    )


def _around(found: Reach, leeway: float) -> AdvisedRange:
    low, high = found.low, found.high
    assert low is not None and high is not None
    return AdvisedRange(reach=found, low=low, high=high, lowest=low / leeway, highest=high * leeway)


def _from_best_step(report: Report, batch: int) -> tuple[float, float]:
    """Learning rates that may train well by the best single step alone; all of them where it is not known."""
    steps = {
        point.batch_size: point.learning_rate
        for point in (report.local.curve if report.local else ())
        if point.learning_rate.low and point.learning_rate.high
    }
    if not steps:
        return 0.0, math.inf
    nearest = min(steps, key=lambda size: abs(math.log(size / batch)))
    low, high, apart = steps[nearest].low or 0.0, steps[nearest].high or math.inf, batch / nearest
    gain = 1 - ((details.momentum or 0.0) if (details := report.target.optimizer_details) else 0.0)
    return BEST_STEPS[0] * low * gain * min(apart, 1.0), BEST_STEPS[1] * high * gain * max(apart, 1.0)


def _apart(one: float, other: float) -> float:
    """Ratio of two batch sizes, at least 1."""
    return max(one / other, other / one)


def _measured(report: Report, batch: int) -> Reach | None:
    """The advice of a trial, which starts from no pair at all; None where none was run."""
    rows = {
        row.batch_size: found
        for row in report.recommendations
        if row.basis == "measured" and (found := _reach_of(row)) is not None
    }
    return rows.get(batch) or (_beside(rows, batch, report) if rows else None)


def _reach_of(row: Recommendation) -> Reach | None:
    return _whole(reach(row.learning_rate, row.learning_rate_low, row.learning_rate_high))


def _whole(found: Reach) -> Reach | None:
    return None if None in (found.value, found.low, found.high) else found


def _beside(rows: Mapping[int, Reach], batch: int, report: Report) -> Reach | None:
    """At a batch size that was not tried: the line through those that were, less certain with the distance."""
    nearest = min(rows, key=lambda size: abs(math.log(size / batch)))
    rates = {size: found.value for size, found in rows.items() if found.value is not None}
    details = report.target.optimizer_details
    rate = expected_rate(
        rates,
        batch,
        family=details.family if details else "adam",
        noise_scale=critical_batch_size(report).value,
    )
    moved, doubt = rate / rates[nearest], _apart(batch, nearest) ** SLOPE_ERROR
    low, high = rows[nearest].low, rows[nearest].high
    assert low is not None and high is not None
    return _whole(reach(rate, low * moved / doubt, high * moved * doubt))


def _predicted(report: Report, batch: int, anchor: SourcedPair, highest: float | None) -> Reach | None:
    """The anchor's learning rate, carried over by the rule."""
    rate, size = anchor.learning_rate, anchor.batch_size
    if rate is None or rate <= 0 or size is None or size <= 0:
        return None
    pair = PairInUse(batch_size=size, learning_rate=rate, optimizer=report.target.optimizer_details)
    return _carried_over(pair, rate, batch, noise_scale(report), highest)


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
