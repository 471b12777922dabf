"""From the heats of a trial to the section `trial` of the report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import Literal

from bsadvisor.advise.racing_course import CONFIDENCE, Course, current_leg, legs
from bsadvisor.advise.trial_fit import fit_lines, scatter
from bsadvisor.advise.trial_lines import Line, lines_of, steps_of
from bsadvisor.theory.noise_scale import t_quantile
from bsadvisor.theory.steps_curve import Interval
from bsadvisor.values import BranchResult, Estimate, HeatResult, TrialPoint, TrialStats, TriedRate

MISFIT = 4.0
"""Squared residuals over their expected size, above which the hyperbola does not describe the points."""

SETTLING = 30
"""Steps with the batch size in use: to a target that is nearer, weights rather settle with a lower learning rate than
train. By a thousand other images, one such target was four times as far away."""

_UNKNOWN = Estimate(value=None, low=None, high=None, confidence=CONFIDENCE)

_WORST_FIRST = ("diverged", "out_of_reach", "slower", "reached")


def trial_stats(
    course: Course,
    results: Sequence[HeatResult],
    *,
    evaluation_examples: int,
    stopped_by: Literal["precision", "time", "max_examples", "interrupt"],
    notes: Sequence[str],
) -> TrialStats:
    """Everything that the heats say; what they leave open has no value."""
    leg = current_leg(results)
    lines = lines_of(leg, course.seeds)
    timed = {size: line for size, line in sorted(lines.items()) if line.chosen is not None}
    fit = fit_lines(timed.values(), confidence=CONFIDENCE) if len(timed) > 1 else None
    resolved = fit is not None and fit.critical.high is not None
    first = results[0]
    return TrialStats(
        measured_critical_batch_size=_estimate(fit.critical, resolved) if fit else _UNKNOWN,
        minimum_steps=_estimate(fit.minimum_steps, resolved) if fit else _UNKNOWN,
        minimum_examples=_estimate(fit.minimum_examples, resolved) if fit else _UNKNOWN,
        steps_in_use=_steps_in_use(course, lines[course.batch_size]),
        curve=tuple(_points(timed, lines[course.batch_size])),
        residual=fit.residual if fit and len(timed) > 2 else None,
        fits=fit is not None and fit.misfit <= MISFIT,
        start_loss=first.start_loss,
        target_loss=leg[0].target_loss,
        horizon=None if course.target_loss is not None else course.horizon,
        evaluation_examples=evaluation_examples,
        examples_used=sum(result.examples for result in results),
        stopped_by=stopped_by,
        notes=(
            *notes,
            *_remarks(course, results),
            *_settling(course, lines[course.batch_size]),
            *_never_there(lines),
        ),
    )


def _steps_in_use(course: Course, home: Line) -> float | None:
    """Only where the pair in use was run to the last target."""
    runs = home.searched.get(course.learning_rate)
    steps = steps_of(runs) if runs else math.inf
    return steps if math.isfinite(steps) else None


def _estimate(interval: Interval, resolved: bool) -> Estimate:
    value = interval.value if resolved else None
    return Estimate(value=value, low=interval.low, high=interval.high, confidence=CONFIDENCE)


def _points(timed: dict[int, Line], home: Line) -> Iterator[TrialPoint]:
    deviation, freedom = scatter(timed.values())
    for size, line in timed.items():
        rate, logs = line.chosen, line.log_steps
        assert rate is not None
        half = t_quantile(CONFIDENCE, freedom) * deviation / math.sqrt(len(logs))
        low, value, high = (math.exp(mean(logs) + side * half) for side in (-1, 0, 1))
        curve = line.curve if line.searched else home.curve
        best = curve.best_rate if line.searched else rate
        yield TrialPoint(
            batch_size=size,
            learning_rate=rate,
            learning_rate_low=min(rate, best / curve.tolerance),
            learning_rate_high=max(rate, best * curve.tolerance),
            steps=Estimate(value=value, low=low, high=high, confidence=CONFIDENCE),
            examples=Estimate(value=value * size, low=low * size, high=high * size, confidence=CONFIDENCE),
            seeds=len(logs),
            at_edge=line.edge != 0,
            tried=tuple(_tried(line)),
        )


def _tried(line: Line) -> Iterator[TriedRate]:
    by_rate: dict[float, list[BranchResult]] = {}
    for run in sorted(line.runs, key=lambda run: run.learning_rate):
        by_rate.setdefault(run.learning_rate, []).append(run)
    for rate, runs in by_rate.items():
        steps = steps_of(runs)
        yield TriedRate(
            learning_rate=rate,
            steps=steps if math.isfinite(steps) else None,
            seeds=len(runs),
            outcome=min((run.outcome for run in runs), key=_WORST_FIRST.index),
        )


def _settling(course: Course, home: Line) -> Iterator[str]:
    """A given target is too near."""
    if course.target_loss is not None and home.has_arrived and home.curve.best_steps < SETTLING:
        yield (
            f"at B = {home.batch_size:,} the target is only {home.curve.best_steps:.0f} steps away: so few say more of "
            "how the loss settles with another learning rate than of training; give a lower --target-loss"
        )


def _never_there(lines: dict[int, Line]) -> Iterator[str]:
    """Batch sizes that have no place on the curve, beside others that have one."""
    if not any(line.chosen is not None for line in lines.values()):
        return
    for size, line in sorted(lines.items()):
        if line.chosen is None and line.rates:
            low, high = line.rates[0], line.rates[-1]
            yield f"at B = {size:,} the target was not reached for sure with learning rates {low:.2g} to {high:.2g}"


def _remarks(course: Course, results: Sequence[HeatResult]) -> Iterator[str]:
    """What became of the target on the way."""
    openings = [result for result in results if result.heat.target_loss is None]
    for leg, after in zip(legs(results), openings[1:], strict=False):
        before = leg[0]
        rate, faster = before.heat.pace_setter, after.heat.pace_setter
        if before.target_loss is None:
            yield f"the loss went down by no more than it wavers with learning rate {rate:.2g}"
            continue
        line = lines_of(leg, course.seeds)[course.batch_size]
        own, best = steps_of(line.searched[rate]), line.curve.best_steps
        yield (
            f"learning rate {rate:.2g} took {own:.0f} steps to a loss that {faster:.2g} reached in about "
            f"{best:.0f}, so {faster:.2g} sets the target"
        )
    last = openings[-1] if openings else results[0]
    if last.target_loss is None:
        tried = sorted({run.learning_rate for result in results for run in result.branches})
        listed = ", ".join(f"{rate:.2g}" for rate in tried)
        goal = "get below the target" if course.target_loss is not None else "clearly go down"
        yield f"the loss did not {goal} with any learning rate tried: {listed}"
