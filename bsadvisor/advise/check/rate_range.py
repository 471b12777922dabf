"""The range that learning rates are judged by, and how far beyond it they must be to be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bsadvisor.advise.check.reach import critical_batch_size, finite, noise_scale, reach
from bsadvisor.advise.measured_rates import expected_rate
from bsadvisor.advise.pairs import PairInUse, highest_factor
from bsadvisor.theory import scaling
from bsadvisor.values import Reach, Recommendation, Report, SourcedPair

MEASURED_LEEWAY, PREDICTED_LEEWAY = 3.5, 5.0
"""Factor beyond the range that advice has to be left by before a learning rate is called wrong.

Chosen so that of the pairs of brute-force grids of 21 checkpoints that are good at most 1 % are called wrong by
them (tests/benchmarks/accuracy/preflight.py; the `fresh` ones came after that): the pair in use itself was up to
11 times off the best learning rate there.
"""

MEASURED_SLOPE_ERROR, PREDICTED_SLOPE_ERROR = 0.25, 0.5
"""Of log learning rate over log batch size: what worked lay between no change and proportional to the batch size,
half a power either side of the square root; less beside batch sizes that a trial tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisedRange:
    """At one batch size."""

    reach: Reach
    low: float
    high: float
    leeway: float
    """Factor beyond either end up to which a learning rate may still be a good one."""


def advised_range(
    report: Report, batch: int, anchor: SourcedPair | None, *, highest: float | None
) -> AdvisedRange | None:
    """As a trial measured it, or carried over from the anchor; None where there is neither.

    Args:
        highest: stable learning rate.
    """
    measured = _measured(report, batch)
    if measured is not None:
        return _within(measured, MEASURED_LEEWAY)
    predicted = _predicted(report, batch, anchor, highest) if anchor else None
    if anchor is None or anchor.batch_size is None or predicted is None:
        return None
    return _within(predicted, PREDICTED_LEEWAY * _apart(batch, anchor.batch_size) ** PREDICTED_SLOPE_ERROR)


def _within(found: Reach, leeway: float) -> AdvisedRange:
    assert found.low is not None and found.high is not None
    return AdvisedRange(reach=found, low=found.low, high=found.high, leeway=leeway)


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
    found = reach(row.learning_rate, row.learning_rate_low, row.learning_rate_high)
    return None if None in (found.value, found.low, found.high) else found


def _beside(rows: Mapping[int, Reach], batch: int, report: Report) -> Reach:
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
    moved, doubt = rate / rates[nearest], _apart(batch, nearest) ** MEASURED_SLOPE_ERROR
    low, high = rows[nearest].low, rows[nearest].high
    assert low is not None and high is not None
    return Reach(value=rate, low=low * moved / doubt, high=high * moved * doubt)


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
