"""When a run reaches a loss, and how far behind another it is: a monotone curve through what was seen of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import isotonic_regression


def steps_to_target(steps: Sequence[int], log_losses: Sequence[float], target: float) -> float | None:
    """Steps after which the loss is down at the target, between two evaluations if need be.

    The log losses are made monotone by isotonic regression (pool adjacent violators), which averages
    over noise without the delay of a moving average, and the target is read off linearly in the steps.

    Args:
        steps: increasing, from 0 on.
        log_losses: one per step, finite.
        target: log of the target loss.

    Returns:
        None where the curve stays above the target.

    Source: Barlow and Brunk 1972, *The isotonic regression problem and its dual*.

    Example:
        >>> steps_to_target([0, 10, 20, 40], [0.0, -1.0, -0.9, -2.0], -1.475)
        30.0
    """
    fit = isotonic_regression(log_losses, increasing=False).x
    below = int(np.argmax(fit <= target))
    if fit[below] > target:
        return None
    if below == 0:
        return 0.0
    share = (fit[below - 1] - target) / (fit[below - 1] - fit[below])
    return float(steps[below - 1] + share * (steps[below] - steps[below - 1]))


def loss_at(steps: Sequence[int], log_losses: Sequence[float], step: float) -> float:
    """Log loss of the same monotone curve at a step.

    Example:
        >>> loss_at([0, 10, 20], [0.0, -1.0, -2.0], 15)
        -1.5
    """
    fit = isotonic_regression(log_losses, increasing=False).x
    return float(np.interp(step, steps, fit))


def wavering(log_losses: Sequence[float]) -> float:
    """Root mean square distance of log losses from their monotone curve: what says nothing of progress.

    Example:
        >>> wavering([0.0, -1.0, -2.0]), wavering([0.0, 0.2, 0.0, 0.2])
        (0.0, 0.1)
    """
    fit = isotonic_regression(log_losses, increasing=False).x
    return float(np.sqrt(np.mean((np.asarray(log_losses) - fit) ** 2)))


def times_behind(
    steps: Sequence[int], log_losses: Sequence[float], ahead: tuple[Sequence[int], Sequence[float]]
) -> float | None:
    """How many times as long as another run this one has taken to where it is now.

    Args:
        steps: of this run, increasing, from 0 on.
        log_losses: one per step.
        ahead: steps and log losses of the other run.

    Returns:
        None where the other one has not been there, or was there from the beginning.

    Example:
        >>> times_behind([0, 10, 20], [0.0, -0.5, -1.0], ([0, 10, 20], [0.0, -1.0, -2.0]))
        2.0
    """
    there = steps_to_target(*ahead, loss_at(steps, log_losses, steps[-1]))
    return steps[-1] / there if there else None
