"""When a run reaches a loss: a monotone curve through what was seen of it."""

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
