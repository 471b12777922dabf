"""What a trial may cost: a tenth of the grid search that it replaces."""

from __future__ import annotations

from collections.abc import Sequence

from bsadvisor.advise.racing_course import Course
from bsadvisor.theory.steps_curve import StepsCurve
from bsadvisor.theory.target_crossing import KNOWN
from bsadvisor.theory.training_cost import steps_over_minimum, usable_fit
from bsadvisor.values import Heat, HeatResult

SHARE, FOR_LOWER, TO_RESOLVE = 0.066, 0.075, 0.074
"""Of the examples of the grid: in general, for a lower rate, and while the critical batch size has no upper end."""

DOUBLINGS = range(-3, 5)
"""Of the batch size in use: those of the grid."""

RUNS = 7 * 3 * 1.75
"""At each of them: learning rates a factor 1.5 apart, seeds, and what rates beside the best take longer."""


def is_affordable(course: Course, fit: StepsCurve, leg: Sequence[HeatResult], heat: Heat) -> bool:
    """Whether a heat keeps the trial within its share of a grid search.

    Args:
        fit: through the batch sizes that were timed.
        leg: the heats so far.
    """
    share = FOR_LOWER if _is_lower(leg, heat) else SHARE
    if fit.critical.high is None:
        share = TO_RESOLVE
    spent = sum(result.examples for result in leg)
    return spent + KNOWN * _with_timing(heat) <= share * _grid(course.batch_size, fit)


def _is_lower(leg: Sequence[HeatResult], heat: Heat) -> bool:
    """Than any that was timed at this batch size: these may be close to what is unstable."""
    tried = [
        run.learning_rate
        for result in leg
        for run in result.branches
        if result.heat.batch_size == heat.batch_size and run.seed in heat.seeds
    ]
    return bool(tried) and max(heat.learning_rates) < min(tried)


def _with_timing(heat: Heat) -> float:
    """Expected examples of a heat, and of the run that times the best of its learning rates."""
    rates = len(heat.learning_rates)
    return heat.expected_examples * (1 + 1 / rates if rates > 1 else 1)


def _grid(batch_size: int, fit: StepsCurve) -> float:
    """Examples of the grid search, about."""
    usable = usable_fit(fit.critical, fit.minimum_steps)
    assert usable is not None  # a fit has values
    critical, minimum = usable
    sizes = [batch_size * 2.0**doubling for doubling in DOUBLINGS]
    return RUNS * sum(size * minimum * steps_over_minimum(size, critical) for size in sizes)
