"""Which batch size a trial runs next, and how often: the costly half of its strategy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import mean

from bsadvisor.advise.measured_rates import expected_rate
from bsadvisor.advise.pairs import surest
from bsadvisor.advise.racing_course import CONFIDENCE, RATIO, Course, heat_at
from bsadvisor.advise.trial_fit import error_of, fit_lines, scatter
from bsadvisor.advise.trial_lines import Line, timed_lines
from bsadvisor.theory.steps_curve import StepsCurve, information
from bsadvisor.values import Heat, HeatResult

ABOVE, BELOW = (8, 4, 2), (4, 2)
"""Ratios of the batch sizes around the one in use; the first that is possible. Far above, for that tells most of
the critical one; not so far below, where runs are long."""

NEXT = 2
"""Ratio of each larger one after these: a run there takes the most examples of all."""

MOST_BATCH_SIZES = 5

WIDE_ENOUGH = 2.5
"""High over low end of the critical batch size at which nothing more is run for its sake."""

FEWEST_STEPS = 10
"""A batch size that would be there sooner is not tried: its steps would say more of the restart than of it."""


def either_side(course: Course, lines: dict[int, Line], leg: Sequence[HeatResult]) -> Heat | None:
    """The first batch size above the one in use, then the first one below."""
    known, own = timed_lines(lines), course.batch_size
    if own not in known:
        return None
    fit = fit_lines(known.values(), confidence=CONFIDENCE) if len(known) > 1 else None
    size = _larger(course, fit) if max(lines) == own else None
    size = size or (_smaller(course, own) if min(lines) == own else None)
    if size is None:
        return None
    return _searched(course, known, size, leg, fit.steps(size) if fit else _first_guess(known[own], size))


def balanced(
    course: Course, lines: dict[int, Line], fit: StepsCurve, leg: Sequence[HeatResult]
) -> Iterator[Heat]:
    """The rung of the ladder nearest to the critical batch size."""
    known = timed_lines(lines)
    size = int(course.batch_size * 2 ** round(math.log2(fit.critical.value / course.batch_size)))
    if min(known) < size < max(known) and size not in lines:
        yield _searched(course, known, size, leg, fit.steps(size))


def favourite(known: dict[int, Line], fit: StepsCurve) -> Line:
    """The timed batch size that will be recommended."""
    return known[surest({size: line.rates_tried for size, line in known.items()}, fit.critical.value)]


def most_telling(
    course: Course, lines: dict[int, Line], fit: StepsCurve, leg: Sequence[HeatResult]
) -> Iterator[Heat]:
    """One more run, first where it says most of the critical batch size for its examples; none where that is
    known well enough."""
    known = timed_lines(lines)
    if _width(fit) > WIDE_ENOUGH:
        again = [heat for line in known.values() for heat in once_more(course, line, leg)]
        heats = [*again, *_further(course, lines, fit, leg)]
        yield from sorted(heats, key=lambda heat: -_gain(known, fit, heat) / heat.expected_examples)


def once_more(course: Course, line: Line, leg: Sequence[HeatResult]) -> Iterator[Heat]:
    """The best rate of a batch size on yet other data."""
    assert line.chosen is not None
    used = {run.seed for run in line.runs if run.learning_rate == line.chosen}
    seed = next((seed for seed in course.seeds.timing if seed not in used), None)
    if seed is not None:
        yield heat_at(line.batch_size, (line.chosen,), seed, leg, math.exp(mean(line.log_steps)))


def _further(
    course: Course, lines: dict[int, Line], fit: StepsCurve, leg: Sequence[HeatResult]
) -> Iterator[Heat]:
    """Twice the largest batch size, and a fraction of the smallest, unless that one never got there."""
    if len(lines) >= MOST_BATCH_SIZES:
        return
    known, low, top = timed_lines(lines), min(lines), max(lines)
    smaller = _smaller(course, low)
    if top in known and _can_be_judged(course, top * NEXT, fit):
        yield _at_once(course, known, top * NEXT, leg, fit.steps(top * NEXT))
    if low in known and smaller is not None:
        yield _searched(course, known, smaller, leg, fit.steps(smaller))


def _gain(known: dict[int, Line], fit: StepsCurve, heat: Heat) -> float:
    """What a heat adds to the information on the critical batch size."""
    runs = {size: len(line.log_steps) for size, line in known.items()}
    after = {**runs, heat.batch_size: runs.get(heat.batch_size, 0) + 1}
    deviation, _ = scatter(known.values())
    before, then = (
        information(
            fit.critical.value, list(counts), [error_of(count, deviation) for count in counts.values()]
        )
        for counts in (runs, after)
    )
    return then - before


def _searched(
    course: Course, known: dict[int, Line], size: int, leg: Sequence[HeatResult], steps: float
) -> Heat:
    """Two learning rates either side of the expected one."""
    rate, half = _expected_rate(course, known, size), math.sqrt(RATIO)
    return heat_at(size, (rate / half, rate * half), course.seeds.search, leg, steps)


def _at_once(
    course: Course, known: dict[int, Line], size: int, leg: Sequence[HeatResult], steps: float
) -> Heat:
    """The expected learning rate with no search: the batch sizes so far show how rates go on."""
    return heat_at(size, (_expected_rate(course, known, size),), course.seeds.timing[0], leg, steps)


def _first_guess(home: Line, size: int) -> float:
    """Half way between as many steps and as many examples as at the batch size in use."""
    return home.curve.best_steps * math.sqrt(home.batch_size / size)


def _larger(course: Course, fit: StepsCurve | None) -> int | None:
    """The first batch size above the one in use."""
    sizes = (course.batch_size * factor for factor in ABOVE)
    return next((size for size in sizes if _can_be_judged(course, size, fit)), None)


def _smaller(course: Course, low: int) -> int | None:
    """The next batch size below the lowest, as a whole fraction of it."""
    factors = (factor for factor in BELOW if low // factor >= course.smallest)
    factor = next(factors, None)
    return low // factor if factor and low % factor == 0 else None


def _width(fit: StepsCurve) -> float:
    """High over low end of the critical batch size."""
    low, high = fit.critical.low, fit.critical.high
    return high / low if low and high else math.inf


def _can_be_judged(course: Course, size: int, fit: StepsCurve | None) -> bool:
    return size <= course.largest and (fit is None or fit.steps(size) >= FEWEST_STEPS)


def _expected_rate(course: Course, known: dict[int, Line], size: int) -> float:
    rates = {line.batch_size: line.chosen for line in known.values() if line.chosen is not None}
    return expected_rate(rates, size, family=course.family, noise_scale=course.noise_scale)
