"""Which training runs next, from the results so far: the whole strategy of a trial, without running any.

Batch sizes lie either side of the one in use. At each, learning rates around the expected best are compared
on the same data, and the best is timed on other data. The same follows at the batch size nearest to the
critical one. The pair that will be recommended is timed twice, and beside a lower rate where it is late or next to
one that blew up. Then single runs, further out or once more, go where they tell most of the critical batch size for
their examples, and last that pair is timed beside a higher rate, until all is known or the allowance is spent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import mean

from bsadvisor.advise.racing_allowance import is_affordable
from bsadvisor.advise.racing_course import CONFIDENCE, LONGEST, RATIO, Course, current_leg, heat_at
from bsadvisor.advise.racing_sizes import balanced, either_side, favourite, most_telling, once_more
from bsadvisor.advise.trial_fit import fit_lines
from bsadvisor.advise.trial_lines import EQUAL, Line, lines_of, timed_lines
from bsadvisor.values import Heat, HeatResult

MOST_EXTENSIONS = 6
"""Heats at one batch size with learning rates beyond the end of those tried."""

MOST_TIMED = 3
"""Learning rates of one batch size."""

WORSE = 2.0
"""A rate that takes so many times the expected steps when timed is not the best: a lower one is timed, too."""

LATE = 1.35
"""The same for the pair that will be recommended."""

MOST_LEGS = 4

PATIENCE = 1.5
"""Times the expected steps that a rate in use, or one above it, gets where a higher one is likely better. Only there:
at other batch sizes the rate is known from this one, and the steps are not."""

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
    return either_side(course, lines, leg) or _worth_its_examples(course, lines, leg)


def _worth_its_examples(course: Course, lines: dict[int, Line], leg: Sequence[HeatResult]) -> Heat | None:
    """What would make the answer better, and keeps the trial within its allowance."""
    lower = filter(None, (_lower(course, line, leg) for line in lines.values()))
    known = timed_lines(lines)
    if len(known) < 2:
        return next(lower, None)
    fit = fit_lines(known.values(), confidence=CONFIDENCE)
    best = favourite(known, fit)
    for_the_pair = itertools.chain(
        lower, balanced(course, lines, fit, leg), _twice(course, best, leg), _lower_again(course, best, leg)
    )
    for_the_rest = itertools.chain(most_telling(course, lines, fit, leg), _higher(course, best, leg))
    for at_stake, wanted in ((True, for_the_pair), (False, for_the_rest)):
        for heat in wanted:
            if is_affordable(course, fit, leg, heat, at_stake=at_stake):
                return heat
    return None


# --- the opening --------------------------------------------------------------------------------


def _opening(course: Course, rate: float) -> Heat:
    """The batch size in use, learning rates around the one expected to be best; it sets the target."""
    return Heat(
        batch_size=course.batch_size,
        learning_rates=(rate / RATIO, rate, rate * RATIO),
        seeds=(course.seeds.search,),
        target_loss=course.target_loss,
        pace_setter=rate,
        expected_steps=course.horizon,
        max_steps=LONGEST * course.horizon,
        patience=None if course.target_loss is None else PATIENCE * course.horizon,
    )


def _another_opening(course: Course, results: Sequence[HeatResult]) -> Heat | None:
    """The loss did not clearly go down: from a lower learning rate, from one that did better, or, where it hardly
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
    """A rate beyond those tried, while the best may lie there."""
    if not line.searched or line.timed:
        return None
    if line.has_arrived and line.edge == 0:
        return None
    tried = sum(result.heat.batch_size == line.batch_size for result in leg)
    if tried > MOST_EXTENSIONS or (line.edge == 0 and not line.given_up):
        return None
    if not line.has_arrived:
        return _search_on(course, line, leg)
    best, expected = line.rates[line.best], line.steps[line.best]
    heat = heat_at(line.batch_size, (best * RATIO**line.edge,), course.seeds.search, leg, expected)
    return replace(heat, steps_to_beat=expected)


def _search_on(course: Course, line: Line, leg: Sequence[HeatResult]) -> Heat:
    """Where none has arrived: two higher rates, so that it soon shows whether these are still too low; or one lower."""
    best, last = line.rates[line.best], leg[-1]
    rates = (best * RATIO, best * RATIO**2) if line.edge > 0 else (best * RATIO ** (line.edge or -0.5),)
    expected = last.heat.expected_steps * (1 if last.was_cut_short else 2)
    heat = heat_at(line.batch_size, rates, course.seeds.search, leg, expected)
    return replace(heat, patience=PATIENCE * expected if line.batch_size == course.batch_size else None)


def _timing(course: Course, line: Line, leg: Sequence[HeatResult]) -> Heat | None:
    """The best rate on other data."""
    if line.timed or not line.has_arrived:
        return None
    return heat_at(line.batch_size, (line.candidate,), course.seeds.timing[0], leg, line.curve.best_steps)


def _lower(course: Course, line: Line, leg: Sequence[HeatResult], worse: float = WORSE) -> Heat | None:
    """A lower rate than those that were timed, while these take so many times as long as expected."""
    at_stake = line.batch_size == course.batch_size and line.chosen is None
    if not line.timed or len(line.timed) >= (MOST_EXTENSIONS if at_stake else MOST_TIMED):
        return None
    expected = _expected_steps(line, leg)
    if not _lower_may_be_better(line, worse * expected):
        return None
    lowest = min(line.timed)
    known = line.searched or line.timed_steps[lowest] < WORSE * expected
    all_late = all(run.outcome == "out_of_reach" for run in line.timed[lowest])
    rate = lowest / (RATIO**0.5 if known and not all_late else RATIO)
    if line.chosen is None:
        expected = max(expected, line.steps_near(rate))
    return heat_at(line.batch_size, (rate,), course.seeds.timing[0], leg, expected)


def _lower_again(course: Course, line: Line, leg: Sequence[HeatResult]) -> Iterator[Heat]:
    """For the pair that will be recommended sooner than elsewhere: it may be close to what is unstable."""
    heat = _lower(course, line, leg, worse=0.0 if line.at_brink else LATE)
    if heat is not None:
        yield heat


def _expected_steps(line: Line, leg: Sequence[HeatResult]) -> float:
    """By its curve, or, where a rate was timed without a search, by the batch sizes before."""
    if line.searched:
        return min(line.curve.best_steps, *line.steps)
    return next(result.heat.expected_steps for result in leg if result.heat.batch_size == line.batch_size)


def _lower_may_be_better(line: Line, too_many: float) -> bool:
    """Than the lowest rate that was timed: where that took so many steps, but saved more than two rates that are
    as good differ. One that never got there says nothing of lower ones."""
    lowest, *above = line.timed_steps.values()
    if math.isinf(lowest):
        return all(map(math.isinf, above))
    return lowest >= too_many and all(lowest * EQUAL < steps for steps in above)


def _twice(course: Course, line: Line, leg: Sequence[HeatResult]) -> Iterator[Heat]:
    """One run may be lucky; those with rates next to it tell as much of that."""
    arrived = {run.seed for runs in line.timed.values() for run in runs if run.outcome == "reached"}
    if len(arrived) < 2:
        yield from once_more(course, line, leg)


def _higher(course: Course, line: Line, leg: Sequence[HeatResult]) -> Iterator[Heat]:
    """A higher rate than the best one that was timed: on one order of the data a search stops too low as a rule."""
    assert line.chosen is not None
    if line.chosen == max(line.timed) and len(line.timed) < MOST_TIMED:
        rate, expected = line.chosen * RATIO**0.5, math.exp(mean(line.log_steps))
        yield heat_at(line.batch_size, (rate,), course.seeds.timing[0], leg, expected)
