"""What a trial may cost: a tenth of the grid search that it replaces."""

from __future__ import annotations

from collections.abc import Sequence

from bsadvisor.advise.racing_course import Course
from bsadvisor.theory.steps_curve import StepsCurve
from bsadvisor.theory.target_crossing import KNOWN
from bsadvisor.theory.training_cost import steps_over_minimum, usable_fit
from bsadvisor.values import Heat, HeatResult

SHARE, AT_STAKE = 0.066, 0.075
"""Of the examples of the grid; the latter while the critical batch size has no upper end, and for the pair that will be
recommended."""

DOUBLINGS = range(-3, 5)
"""Of the batch size in use: those of the grid."""

RUNS = 7 * 3 * 1.75
"""At each of them: learning rates a factor 1.5 apart, seeds, and what rates beside the best take longer."""


def is_affordable(
    course: Course, fit: StepsCurve, leg: Sequence[HeatResult], heat: Heat, *, at_stake: bool
) -> bool:
    """Whether a heat keeps the trial within its share of a grid search.

    Args:
        fit: through the batch sizes that were timed.
        leg: the heats so far.
        at_stake: whether the pair that will be recommended is.
    """
    share = AT_STAKE if at_stake or fit.critical.high is None else SHARE
    spent = sum(result.examples for result in leg)
    return spent + KNOWN * _with_timing(heat) <= share * _grid(course.batch_size, fit)


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
