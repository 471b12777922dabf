"""Which training runs next, from the results so far: the whole strategy of a trial, without running any.

Batch sizes lie a factor of four apart, from the one in use upwards while that saves steps and downwards
while it saves examples. At each, learning rates around the expected best are compared on the same data,
and the best is timed on other data. The batch size nearest to the critical one is timed at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from bsadvisor.advise.measured_rates import expected_rate
from bsadvisor.advise.trial_fit import fit_lines
from bsadvisor.advise.trial_lines import Line, Seeds, lines_of
from bsadvisor.theory import scaling, training_cost
from bsadvisor.theory.steps_curve import StepsCurve
from bsadvisor.values import Heat, HeatResult

APART = 4
"""Ratio of neighbouring batch sizes."""

MOST_BATCH_SIZES = 5

RATIO = 1.8
"""Of neighbouring learning rates."""

MOST_EXTENSIONS = 6
"""Of the learning rates of one batch size, beyond the end of those tried."""

SAVES_STEPS, SAVES_EXAMPLES = 0.7, 0.8
"""The next batch size must need at most this share of the steps (larger) or examples (smaller)."""

CONFIDENCE = 0.9

WIDE_ENOUGH = 2.5
"""High over low end of the critical batch size at which no further seeds are run."""

MOST_RUNS = 6
"""With the chosen rate of one batch size."""

MORE_SEEDS = 0.25
"""Share of all examples that may go to further seeds."""

MOST_TIMED = 3
"""Learning rates of one batch size."""

FEWEST_STEPS = 20
"""A batch size that would be there sooner is not tried: its steps would say more of the restart than of it."""

WORSE = 1.25
"""A rate that takes so many times the expected steps when timed is not the best: a lower one is timed, too."""

MOST_LEGS = 4

ASLEEP, WAKING = 2e-3, 30.0
"""A log loss that moves by less shows a learning rate that is far too low: times so much is tried."""

LONGEST = 4
"""A run may take so many times the expected steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a trial starts from."""

    batch_size: int
    """In use."""
    learning_rate: float
    smallest: int
    """Batch sizes are multiples of it, by powers of two."""
    largest: int
    horizon: int
    target_loss: float | None
    family: scaling.Family
    noise_scale: float | None
    """Of the learning-rate rule, from the probe."""
    seed: int

    @property
    def seeds(self) -> Seeds:
        return Seeds.after(self.seed)


def legs(results: Sequence[HeatResult]) -> list[list[HeatResult]]:
    """The heats to each target; only those to the last one are compared."""
    found: list[list[HeatResult]] = []
    for result in results:
        if not found or result.heat.target_loss is None:
            found.append([])
        found[-1].append(result)
    return found


def current_leg(results: Sequence[HeatResult]) -> list[HeatResult]:
    """The heats since the target was last set."""
    return legs(results)[-1]


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
        _another_batch_size(course, lines, leg)
        or _more_seeds(course, lines, leg)
        or _balanced(course, lines, leg)
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
        return _heat(line.batch_size, line.close, course.seeds.search[1:], leg, steps) if again else None
    tried = sum(result.heat.batch_size == line.batch_size for result in leg)
    if tried > MOST_EXTENSIONS:
        return None
    end = line.rates[0] if line.edge < 0 else line.rates[-1]
    expected = line.steps[line.best] if line.has_arrived else leg[-1].heat.expected_steps * 2
    return _heat(line.batch_size, (end * RATIO**line.edge,), course.seeds.search[:1], leg, expected)


def _timing(course: Course, line: Line, leg: Sequence[HeatResult]) -> Heat | None:
    """The best rate on other data; once more, lower, where that took far longer than expected."""
    if not line.has_arrived:
        return None
    curve, rate = line.curve, line.candidate
    if not line.timed:
        seeds = course.seeds.timing[: 1 if rate in line.rates else 2]
        return _heat(line.batch_size, (rate,), seeds, leg, curve.best_steps)
    if len(line.timed) > MOST_TIMED or len(line.timed_log_steps) > 2:
        return None
    lowest = min(line.timed)
    took = math.exp(mean(line.timed_log_steps)) if line.timed_log_steps else math.inf
    if (line.chosen != lowest and line.chosen is not None) or took < WORSE * curve.best_steps:
        return None
    return _heat(line.batch_size, (lowest / RATIO**0.5,), course.seeds.timing, leg, curve.best_steps)


# --- the next batch size ------------------------------------------------------------------------


def _another_batch_size(course: Course, lines: dict[int, Line], leg: Sequence[HeatResult]) -> Heat | None:
    """One either side of the pair in use, then further out where that surely pays."""
    known = _timed(lines)
    if len(lines) >= MOST_BATCH_SIZES or course.batch_size not in known:
        return None
    fit = fit_lines(known.values(), confidence=CONFIDENCE) if len(known) > 1 else None
    size = _larger(course, lines, fit) or _smaller(course, lines, fit)
    if size is None:
        return None
    centre, half = _expected_rate(course, known, size), math.sqrt(RATIO)
    expected = fit.steps(size) if fit else _first_guess(known[course.batch_size], size)
    rates = (centre / half, centre * half)
    return _heat(size, rates, course.seeds.search[:1], leg, expected)


def _larger(course: Course, lines: dict[int, Line], fit: StepsCurve | None) -> int | None:
    """The next larger batch size, where even the least critical batch size that is possible makes it pay, or
    where the critical batch size may lie beyond all that were tried."""
    top = max(lines)
    size = next((top * factor for factor in (APART, 2) if _can_be_judged(course, top * factor, fit)), None)
    if size is None or top == course.batch_size:
        return size
    if fit is None or len(lines) < 3:
        return None
    low, high = fit.critical.low, fit.critical.high
    saves = low is not None and training_cost.steps_factor(size, top, low) <= SAVES_STEPS
    return size if saves or high is None else None


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


def _more_seeds(course: Course, lines: dict[int, Line], leg: Sequence[HeatResult]) -> Heat | None:
    """Another run for the batch size with the fewest, while the critical batch size is not known well enough."""
    known = _timed(lines)
    if len(known) < 2:
        return None
    interval = fit_lines(known.values(), confidence=CONFIDENCE).critical
    if interval.low and interval.high and interval.high / interval.low <= WIDE_ENOUGH:
        return None
    line = min(known.values(), key=lambda line: (len(line.log_steps), line.examples))
    if line.chosen is None or len(line.log_steps) >= MOST_RUNS:
        return None
    spent = sum(result.examples for result in leg)
    if sum(result.examples for result in leg if _is_another_seed(result.heat)) > MORE_SEEDS * spent:
        return None
    used = {run.seed for run in line.runs if run.learning_rate == line.chosen}
    seed = next(seed for seed in course.seeds.all_timing if seed not in used)
    return _heat(line.batch_size, (line.chosen,), (seed,), leg, math.exp(mean(line.log_steps)))


def _is_another_seed(heat: Heat) -> bool:
    return len(heat.learning_rates) == len(heat.seeds) == 1


def _timed(lines: dict[int, Line]) -> dict[int, Line]:
    return {size: line for size, line in lines.items() if line.chosen is not None}


def _balanced(course: Course, lines: dict[int, Line], leg: Sequence[HeatResult]) -> Heat | None:
    """The rung of the ladder nearest to the critical batch size, timed with the rate that lies between."""
    known = _timed(lines)
    if len(known) < 2:
        return None
    fit = fit_lines(known.values(), confidence=CONFIDENCE)
    doublings = round(math.log2(fit.critical.value / course.batch_size))
    size = int(course.batch_size * 2**doublings)
    if not min(known) < size < max(known) or size in lines:
        return None
    return _heat(size, (_expected_rate(course, known, size),), course.seeds.timing, leg, fit.steps(size))


def _heat(
    size: int, rates: tuple[float, ...], seeds: tuple[int, ...], leg: Sequence[HeatResult], expected: float
) -> Heat:
    return Heat(
        batch_size=size,
        learning_rates=rates,
        seeds=seeds,
        target_loss=leg[0].target_loss,
        pace_setter=rates[0],
        expected_steps=expected,
        max_steps=max(4, math.ceil(LONGEST * expected)),
    )
