"""The pair judged, and the pair that the advice starts from: two different things."""

from __future__ import annotations

import math

from bsadvisor.values import Report, Source, SourcedPair


def pair_to_judge(asked: SourcedPair, filling: SourcedPair) -> SourcedPair:
    """What flags and YAML say; a half that they leave out as the target or the report has it."""
    batch, rate = (
        asked if asked.batch_size is not None else filling,
        asked if asked.learning_rate is not None else filling,
    )
    return SourcedPair(
        batch_size=batch.batch_size,
        batch_size_from=batch.batch_size_from,
        learning_rate=rate.learning_rate,
        learning_rate_from=rate.learning_rate_from,
    )


def independent_anchor(
    asked: SourcedPair, in_use: SourcedPair, baseline: SourcedPair | None
) -> SourcedPair | None:
    """A whole pair that the pair judged was not made from.

    The one in use counts where flags or YAML ask for something else; where they ask for nothing, it is
    the pair judged itself, and only an older report knows another.
    """
    asks = asked.batch_size is not None or asked.learning_rate is not None
    if asks and _is_whole(in_use):
        return in_use
    return baseline if baseline is not None and _is_whole(baseline) else None


def measured_anchor(report: Report, batch_size: int | None) -> SourcedPair | None:
    """The nearest pair that a trial measured, where nothing else is independent of the pair judged."""
    rows = [
        row
        for row in report.recommendations
        if row.basis == "measured" and row.learning_rate is not None and row.batch_size > 0
    ]
    if not rows or batch_size is None:
        return None
    near = min(rows, key=lambda row: abs(math.log(row.batch_size / batch_size)))
    trial = Source(by="trial")
    return SourcedPair(
        batch_size=near.batch_size,
        batch_size_from=trial,
        learning_rate=near.learning_rate,
        learning_rate_from=trial,
    )


def _is_whole(pair: SourcedPair) -> bool:
    return pair.batch_size is not None and pair.learning_rate is not None
