"""Which batch size a trial runs next, and how often: the costly half of its strategy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean

from bsadvisor.advise.measured_rates import expected_rate
from bsadvisor.advise.racing_allowance import is_affordable
from bsadvisor.advise.racing_course import CONFIDENCE, RATIO, Course, heat_at
from bsadvisor.advise.trial_fit import fit_lines
from bsadvisor.advise.trial_lines import Line
from bsadvisor.theory import training_cost
from bsadvisor.theory.steps_curve import StepsCurve
from bsadvisor.values import Heat, HeatResult

APART = 4
"""Ratio of the batch sizes around the one in use."""

NEXT = 2
"""Of each larger one after these: a run there takes the most examples of all."""

MOST_BATCH_SIZES = 5

SAVES_STEPS, SAVES_EXAMPLES = 0.84, 0.8
"""The next batch size must need at most this share of the steps (twice as large) or examples (smaller)."""

WIDE_ENOUGH = 2.5
"""High over low end of the critical batch size at which no further seeds are run."""

MOST_RUNS = 6
"""With the chosen rate of one batch size."""

VERY_WIDE = 4.0
"""High over low end at which a still larger batch size is tried even where it need not pay."""

FEWEST_STEPS = 10
"""A batch size that would be there sooner is not tried: its steps would say more of the restart than of it."""


def another_batch_size(course: Course, lines: dict[int, Line], leg: Sequence[HeatResult]) -> Heat | None:
    """One either side of the pair in use, then further out where that surely pays."""
    known = _timed(lines)
    if len(lines) >= MOST_BATCH_SIZES or course.batch_size not in known:
        return None
    fit = fit_lines(known.values(), confidence=CONFIDENCE) if len(known) > 1 else None
    size = _larger(course, lines, fit) or _smaller(course, lines, fit)
    if size is not None:
        rate, half = _expected_rate(course, known, size), math.sqrt(RATIO)
        expected = fit.steps(size) if fit else _first_guess(known[course.batch_size], size)
        return heat_at(size, (rate / half, rate * half), course.seeds.search[:1], leg, expected)
    return _still_larger(course, lines, leg) if len(lines) > 2 else None


def _larger(course: Course, lines: dict[int, Line], fit: StepsCurve | None) -> int | None:
    """The first batch size above the one in use."""
    if max(lines) > course.batch_size:
        return None
    sizes = (course.batch_size * factor for factor in (APART, NEXT))
    return next((size for size in sizes if _can_be_judged(course, size, fit)), None)


def _still_larger(course: Course, lines: dict[int, Line], leg: Sequence[HeatResult]) -> Heat | None:
    """Twice the largest, where the critical batch size may lie beyond all that were tried, or is not known
    well and even the least that is possible makes it pay. Runs are dear there, and the batch sizes so far
    show how rates go on: no search."""
    known = _timed(lines)
    fit, top = fit_lines(known.values(), confidence=CONFIDENCE), max(lines)
    size = top * NEXT
    pays = _pays(fit, size, top, is_first=top == APART * course.batch_size)
    if not pays or not _can_be_judged(course, size, fit):
        return None
    seeds = course.seeds.timing
    while seeds and not is_affordable(course.batch_size, fit, leg, len(seeds) * size * fit.steps(size)):
        seeds = seeds[:-1]
    rate = _expected_rate(course, known, size)
    return heat_at(size, (rate,), seeds, leg, fit.steps(size)) if seeds else None


def _pays(fit: StepsCurve, size: int, top: int, *, is_first: bool) -> bool:
    """Whether runs with a still larger batch size would tell something."""
    width, low = _width(fit), fit.critical.low
    if math.isinf(width) or (is_first and width > VERY_WIDE):
        return True
    saves = low is not None and training_cost.steps_factor(size, top, low) <= SAVES_STEPS
    return is_first and saves and width > WIDE_ENOUGH


def _width(fit: StepsCurve) -> float:
    """High over low end of the critical batch size."""
    low, high = fit.critical.low, fit.critical.high
    return high / low if low and high else math.inf


def _can_be_judged(course: Course, size: int, fit: StepsCurve | None) -> bool:
    return size <= course.largest and (fit is None or fit.steps(size) >= FEWEST_STEPS)


def _smaller(course: Course, lines: dict[int, Line], fit: StepsCurve | None) -> int | None:
    low = min(lines)
    size = next((low // factor for factor in (APART, 2) if low // factor >= course.smallest), None)
    if size is None or low % (low // size) or size * (low // size) != low:
        return None
    saved = fit is not None and fit.steps(size) * size <= SAVES_EXAMPLES * fit.steps(low) * low
    return size if saved or low == course.batch_size else None


def _first_guess(home: Line, size: int) -> float:
    """Half way between as many steps and as many examples as at the batch size in use."""
    return home.curve.best_steps * math.sqrt(home.batch_size / size)


def _expected_rate(course: Course, known: dict[int, Line], size: int) -> float:
    rates = {line.batch_size: line.chosen for line in known.values() if line.chosen is not None}
    return expected_rate(rates, size, family=course.family, noise_scale=course.noise_scale)


def more_seeds(course: Course, lines: dict[int, Line], leg: Sequence[HeatResult]) -> Heat | None:
    """Another run for the batch size with the fewest, while the critical batch size is not known well enough."""
    known = _timed(lines)
    if len(known) < 2:
        return None
    fit = fit_lines(known.values(), confidence=CONFIDENCE)
    if _width(fit) <= WIDE_ENOUGH:
        return None
    line = min(known.values(), key=lambda line: (len(line.log_steps), line.examples))
    if line.chosen is None or len(line.log_steps) >= MOST_RUNS:
        return None
    if not is_affordable(course.batch_size, fit, leg, line.examples):
        return None
    used = {run.seed for run in line.runs if run.learning_rate == line.chosen}
    seed = next(seed for seed in course.seeds.all_timing if seed not in used)
    return heat_at(line.batch_size, (line.chosen,), (seed,), leg, math.exp(mean(line.log_steps)))


def _timed(lines: dict[int, Line]) -> dict[int, Line]:
    return {size: line for size, line in lines.items() if line.chosen is not None}


def balanced(course: Course, lines: dict[int, Line], leg: Sequence[HeatResult]) -> Heat | None:
    """The rung of the ladder nearest to the critical batch size, timed with the rate that lies between."""
    known = _timed(lines)
    if len(known) < 2:
        return None
    fit = fit_lines(known.values(), confidence=CONFIDENCE)
    doublings = round(math.log2(fit.critical.value / course.batch_size))
    size = int(course.batch_size * 2**doublings)
    if not min(known) < size < max(known) or size in lines:
        return None
    return heat_at(size, (_expected_rate(course, known, size),), course.seeds.timing, leg, fit.steps(size))
