"""What is to be said of a run's checkpoints beside their trend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bsadvisor.advise.double_descent import find_double_descent
from bsadvisor.advise.ramp import SAME_RATE
from bsadvisor.findings import finding
from bsadvisor.theory.noise_trend import MIN_POINTS
from bsadvisor.values import Finding, MeasureAgain, NoiseTrend, Report, TrackedCheckpoint

LOSS_OF_A_DOUBLING = 0.87
"""The critical batch size of language models doubled when the loss was down to this share (Kaplan et al. 2020)."""

_OF_ONE_PROBE = ("BSA102", "BSA210", "BSA211", "BSA218")
"""Remarks on a single probe that the table of checkpoints says already."""


def about_run(
    checkpoints: Sequence[TrackedCheckpoint],
    trends: Sequence[NoiseTrend],
    *,
    reordered: bool,
    doubles: Sequence[tuple[str, str]],
    left: int,
) -> Iterator[Finding]:
    """How the checkpoints were read, and what their trend is."""
    if left:
        yield finding("BSA338", left=left)
    in_order = any(checkpoint.step_from == "order" for checkpoint in checkpoints)
    if in_order and len(checkpoints) > 1:
        yield finding("BSA333")
    for double, kept in doubles:
        yield finding("BSA332", double=double, kept=kept)
    yield from _about_trend(checkpoints, trends)
    rates = [one.learning_rate for one in checkpoints if one.learning_rate]
    if rates and max(rates) > SAME_RATE * min(rates):
        yield finding("BSA337", first=rates[0], last=rates[-1])
    yield from _about_double_descent(checkpoints)
    if reordered and not in_order:
        yield finding("BSA331")


def _about_double_descent(checkpoints: Sequence[TrackedCheckpoint]) -> Iterator[Finding]:
    found = find_double_descent(checkpoints)
    if found is None:
        return
    best = min(found.valley, found.second, key=lambda point: point.loss)
    yield finding(
        "BSA651",
        valley=found.valley.loss,
        valley_step=found.valley.step,
        peak=found.peak.loss,
        peak_step=found.peak.step,
        second=found.second.loss,
        second_step=found.second.step,
        advice=f"take the checkpoint of step {best.step:,}, and stop no run of this kind in between",
    )


def _about_trend(checkpoints: Sequence[TrackedCheckpoint], trends: Sequence[NoiseTrend]) -> Iterator[Finding]:
    trend = next((found for found in trends if found.against == "step"), None) or next(iter(trends), None)
    if trend is None:
        usable = [one for one in checkpoints if one.step > 0 and one.noise_scale_simple.low is not None]
        yield finding(
            "BSA334", count=len(usable), needed=MIN_POINTS, advice=_when(measure_again(checkpoints, trends))
        )
    elif trend.verdict == "unresolved":
        ends = (trend.growth.low, trend.growth.high)
        low, high = (f"{end:.2g}x" if end is not None else "any factor" for end in ends)
        yield finding("BSA335", low=low, high=high)
    elif trend.verdict == "falls":
        yield finding("BSA336", growth=f"{100 * (trend.growth.value or 0):.0f} %")


def _when(again: MeasureAgain | None) -> str:
    """The next look, in a sentence."""
    if again is None or again.at_loss is None:
        return "give more checkpoints of the run"
    return f"measure again when the loss is down to {again.at_loss:.3g}, or after the learning rate changes"


def about_probes(reports: Sequence[Report]) -> Iterator[Finding]:
    """What the probes remarked on target and measurement, once."""
    said: dict[str, Finding] = {}
    for report in reports:
        for found in report.findings:
            if found.code.startswith(("BSA1", "BSA2")) and found.code not in _OF_ONE_PROBE:
                said[found.code] = found
    yield from said.values()


def measure_again(
    checkpoints: Sequence[TrackedCheckpoint], trends: Sequence[NoiseTrend]
) -> MeasureAgain | None:
    """When the noise scale will have doubled: by the run's own trends, else by what others' runs did."""
    last = checkpoints[-1]
    loss = last.loss.value if last.loss else None
    grows = {trend.against: trend for trend in trends if trend.verdict == "grows"}
    if not grows:
        if loss is None or loss <= 0:
            return None
        return MeasureAgain(at_step=None, at_loss=LOSS_OF_A_DOUBLING * loss, basis="assumed")
    return MeasureAgain(
        at_step=round(last.step * _doubling(grows["step"])) if "step" in grows else None,
        at_loss=loss * _doubling(grows["loss"]) if "loss" in grows and loss else None,
        basis="measured",
    )


def _doubling(trend: NoiseTrend) -> float:
    """Factor of step or loss at which the power law doubles."""
    assert trend.exponent.value
    return float(2 ** (1 / trend.exponent.value))
