"""When a run reaches a loss, and how far behind another it is: a monotone curve through what was seen of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import isotonic_regression

WINDOW = 0.3
"""Share of the steps of a run, its last ones, over which its mean loss has to be below the target."""

KNOWN = 1.2
"""Steps after which that is so, over the steps to the target."""


def has_arrived(steps: Sequence[int], log_losses: Sequence[float], target: float) -> bool:
    """Whether the loss is down at the target, and not only on a dip.

    Where losses waver, the first look below the target comes at two thirds of the steps at which the mean over
    many runs is there, at small batch sizes sooner than at large ones; the mean over the window comes at 0.94.

    Args:
        steps: increasing, from 0 on.
        log_losses: one per step.
        target: log of the target loss.

    Example:
        >>> has_arrived([0, 8, 9, 10], [0.0, -0.6, -1.4, -0.7], -1.0), has_arrived([0, 8, 9, 10], [0.0, -1, -1, -1.1], -1.0)
        (False, True)
    """
    recent = [log for step, log in zip(steps, log_losses, strict=True) if step > (1 - WINDOW) * steps[-1]]
    return len(steps) > 2 and sum(recent) / len(recent) < target


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
