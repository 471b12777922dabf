"""The hyperbola through the batch sizes of a trial, with the scatter of its seeds."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from statistics import mean

from bsadvisor.advise.trial_lines import Line
from bsadvisor.theory.steps_curve import StepsCurve, fit_steps_curve

USUAL_SCATTER, USUAL_FREEDOM = 0.17, 8
"""Of log steps between seeds in other trials, and how many degrees of freedom that is worth: the handful of
repeated runs of one trial says less of its own scatter than the others do together."""

TUNING = 0.03
"""Error of log steps because the learning rate is not quite the best."""


def scatter(lines: Iterable[Line]) -> tuple[float, int]:
    """Standard deviation of log steps between seeds, and its degrees of freedom.

    The variance is moderated by what is usual (Smyth 2004, Linear models and empirical Bayes methods).
    """
    squares, freedom = USUAL_FREEDOM * USUAL_SCATTER**2, USUAL_FREEDOM
    for line in lines:
        logs = line.log_steps
        squares += sum((log - mean(logs)) ** 2 for log in logs) if logs else 0.0
        freedom += max(len(logs) - 1, 0)
    return math.sqrt(squares / freedom), freedom


def errors_of(lines: Collection[Line]) -> list[float]:
    """Standard error of each line's mean log steps."""
    deviation, _ = scatter(lines)
    return [error_of(len(line.log_steps), deviation) for line in lines]


def error_of(runs: int, deviation: float) -> float:
    """Standard error of the mean log steps of so many runs."""
    return math.hypot(deviation / math.sqrt(runs), TUNING)


def fit_lines(lines: Collection[Line], *, confidence: float) -> StepsCurve:
    """S(B) = S_min (1 + B_crit / B) through lines that were timed."""
    return fit_steps_curve(
        [line.batch_size for line in lines],
        [mean(line.log_steps) for line in lines],
        errors_of(lines),
        freedom=scatter(lines)[1],
        confidence=confidence,
    )
