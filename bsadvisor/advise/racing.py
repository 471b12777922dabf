"""Which training runs next, from the results so far: the whole strategy of a trial, without running any.

Batch sizes lie a factor of four either side of the one in use, then further up by doublings while that saves
steps and further down while it saves examples. At each, learning rates around the expected best are compared
on the same data, and the best is timed on other data. The batch size nearest to the critical one is timed at
the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean

from bsadvisor.advise.racing_course import LONGEST, RATIO, Course, current_leg, heat_at
from bsadvisor.advise.racing_sizes import another_batch_size, balanced, more_seeds
from bsadvisor.advise.trial_lines import EQUAL, Line, lines_of, steps_of
from bsadvisor.values import Heat, HeatResult

MOST_EXTENSIONS = 6
"""Of the learning rates of one batch size, beyond the end of those tried."""

MOST_TIMED = 3
"""Learning rates of one batch size."""

WORSE = 1.25
"""A rate that takes so many times the expected steps when timed is not the best: a lower one is timed, too."""

MOST_LEGS = 4

ASLEEP, WAKING = 2e-3, 30.0
"""A log loss that moves by less shows a learning rate that is far too low: times so much is tried."""


def next_heat(course: Course, results: Sequence[HeatResult]) -> Heat | None:
    """The next runs, or None when everything is known that a trial asks for, or cannot be."""
    if not results:
        return _opening(course, course.learning_rate)
    leg = current_leg(results)
    if leg[0].target_loss is None:
        return _another_opening(course, results)
    lines = lines_of(leg, course.seeds)
    home = lines[course.batch_size]
    heat = _search(course, home, leg)
    if heat is not None:
        return heat
    if not home.has_arrived:
        return None
    if _too_easy(course, home, results):
        return _opening(course, home.curve.best_rate)
    for line in lines.values():
        heat = _search(course, line, leg) or _timing(course, line, leg)
        if heat is not None:
            return heat
    return (
        another_batch_size(course, lines, leg)
        or balanced(course, lines, leg)
        or more_seeds(course, lines, leg)
    )


# --- the opening --------------------------------------------------------------------------------


def _opening(course: Course, rate: float) -> Heat:
    """The batch size in use, learning rates around the one expected to be best; it sets the target."""
    return Heat(
        batch_size=course.batch_size,
        learning_rates=(rate / RATIO, rate, rate * RATIO),
        seeds=course.seeds.search[:1],
        target_loss=course.target_loss,
        pace_setter=rate,
        expected_steps=course.horizon,
        max_steps=LONGEST * course.horizon,
    )


def _another_opening(course: Course, results: Sequence[HeatResult]) -> Heat | None:
    """The loss did not go down: from a lower learning rate, from one that did better, or, where it hardly
    moved at all, from a much higher one."""
    openings = [result for result in results if result.heat.target_loss is None]
    if course.target_loss is not None or len(openings) >= MOST_LEGS:
        return None
    last = openings[-1]
    line = lines_of([last], course.seeds)[course.batch_size]
    runs = list(line.searched.values())[line.best]
    logs = [run.final_log_loss for run in runs if run.final_log_loss is not None]
    fall = math.log(last.start_loss) - max(logs, default=math.inf)
    if any(run.outcome == "diverged" for run in runs) or fall < -ASLEEP:
        return _opening(course, last.heat.pace_setter / RATIO**3)
    if fall < ASLEEP:
        return _opening(course, last.heat.pace_setter * WAKING)
    return _opening(course, line.rates[line.best])


def _too_easy(course: Course, home: Line, results: Sequence[HeatResult]) -> bool:
    """The pair in use is so far from tuned that the best reaches its target in a fraction of the steps."""
    openings = sum(result.heat.target_loss is None for result in results)
    return (
        course.target_loss is None
        and openings < MOST_LEGS
        and home.chosen is None
        and home.curve.best_steps < course.horizon / 2
    )


# --- at one batch size --------------------------------------------------------------------------


def _search(course: Course, line: Line, leg: Sequence[HeatResult]) -> Heat | None:
    """A rate beyond those tried, while the best may lie there; then, with the batch size in use, those
    that are close on other data."""
    if not line.searched or line.timed:
        return None
    if line.edge == 0:
        again = line.batch_size == course.batch_size and line.close
        steps = line.curve.best_steps if line.has_arrived else 0.0
        return heat_at(line.batch_size, line.close, course.seeds.search[1:], leg, steps) if again else None
    tried = sum(result.heat.batch_size == line.batch_size for result in leg)
    if tried > MOST_EXTENSIONS:
        return None
    end = line.rates[0] if line.edge < 0 else line.rates[-1]
    expected = line.steps[line.best] if line.has_arrived else leg[-1].heat.expected_steps * 2
    heat = heat_at(line.batch_size, (end * RATIO**line.edge,), course.seeds.search[:1], leg, expected)
    return replace(heat, steps_to_beat=expected if line.has_arrived else None)


def _timing(course: Course, line: Line, leg: Sequence[HeatResult]) -> Heat | None:
    """The best rate on other data; once more, lower, where that took far longer than expected."""
    if not line.searched:
        return _lower(course, line, leg)
    if not line.has_arrived:
        return None
    curve, rate = line.curve, line.candidate
    if not line.timed:
        seeds = course.seeds.timing[: 1 if rate in line.rates else 2]
        return heat_at(line.batch_size, (rate,), seeds, leg, curve.best_steps)
    if len(line.timed) > MOST_TIMED or len(line.timed_log_steps) > 2:
        return None
    lowest = min(line.timed)
    took = math.exp(mean(line.timed_log_steps)) if line.timed_log_steps else math.inf
    if (line.chosen != lowest and line.chosen is not None) or took < WORSE * curve.best_steps:
        return None
    if not _lower_may_be_better(line):
        return None
    step = RATIO if line.chosen is None else RATIO**0.5
    return heat_at(line.batch_size, (lowest / step,), course.seeds.timing, leg, curve.best_steps)


def _lower(course: Course, line: Line, leg: Sequence[HeatResult]) -> Heat | None:
    """Where a rate was timed without a search, and did not get there or took far longer than expected."""
    expected = next(result.heat.expected_steps for result in leg if result.heat.batch_size == line.batch_size)
    if len(line.timed) >= MOST_TIMED or line.chosen not in (None, min(line.timed)):
        return None
    if line.chosen is not None and math.exp(mean(line.timed_log_steps)) < WORSE * expected:
        return None
    if not _lower_may_be_better(line):
        return None
    rates = (min(line.timed) / RATIO,)
    return heat_at(line.batch_size, rates, course.seeds.timing[:1], leg, expected)


def _lower_may_be_better(line: Line) -> bool:
    """Than the lowest rate that was timed: unless that one saved no more than two rates that are as good
    differ, for then the expectation was wrong. A rate that never got there says nothing of lower ones."""
    if len(line.timed) < 2:
        return True
    lowest, before = (steps_of(line.timed[rate]) for rate in sorted(line.timed)[:2])
    return math.isinf(lowest) or lowest * EQUAL < before
