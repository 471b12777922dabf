"""What less noise late in a run is worth: the noise's share of the loss against the progress it costs.

On a quadratic where the noise has settled, the loss is above its minimum by L_noise = eta tr(Sigma) / (4 B),
with eta / (1 - beta) under momentum and tr(D Sigma) for Adam: to first order in eta times the curvature.
A ramp that ends with the share n of today's eta / B takes (1 - n) L_noise off. It also takes fewer steps:
where the loss otherwise falls by `slope` per e-fold of steps, that costs slope ln(1 / t), for the share t
of today's steps, each counted by how far it goes.

Directions that have not settled yet hold less noise than that, and held-out examples may curve otherwise.
Both are seen in several checkpoints: where each is displaced by noise of its own, the loss at the mean of K
checkpoints' weights is below the mean of their losses by (1 - 1/K) L_noise.

Source: derived (theory of the stationary covariance: C H + H C = (eta / B) Sigma; the displacements'
unbiased sample variance); Smith et al. 2018 for growing B in place of decaying eta; Izmailov et al. 2018 and
Sanyal et al. 2023 for averaging the weights of a run's late checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtrit

MIN_POINTS = 3

WINDOW = 4.0
"""The slope is taken from the last factor of so much in steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """By how much the loss falls per e-fold of steps, at the last step; positive where it falls."""

    value: float
    low: float
    high: float
    scatter: float
    """Standard deviation of a checkpoint's loss about the law, in units of the loss, at the last step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """L_noise, in units of the loss, with its standard error; 0 where that is not known."""

    value: float
    error: float = 0.0


def noise_loss(update_variance: float, learning_rate: float, amplification: float = 1.0) -> float:
    """L_noise from the variance of one update, eta^2 tr(Sigma) / B.

    Args:
        amplification: 1 / (1 - beta) under heavy-ball or Nesterov momentum.

    Example:
        >>> noise_loss(update_variance=0.25, learning_rate=0.5)
        0.125
    """
    return update_variance / (4 * learning_rate) * amplification


def averaged_noise_loss(mean_loss: float, loss_at_mean: float, checkpoints: int, scatter: float) -> Noise:
    """L_noise from the loss at the mean of several checkpoints' weights.

    Too little where checkpoints follow one another so closely that they share their displacement.

    Args:
        mean_loss: of these checkpoints.
        loss_at_mean: of the mean of their weights, on the same examples.
        checkpoints: at least two.
        scatter: standard deviation of a checkpoint's loss about the run's trend. The loss of one checkpoint
            varies as sum (h s^2)^2 / 2 over directions of curvature h and displacement s, this noise as
            that over K - 1.

    Example:
        >>> found = averaged_noise_loss(0.30, 0.25, 5, scatter=0.02)
        >>> round(found.value, 4), round(found.error, 4)
        (0.0625, 0.01)
    """
    value = (mean_loss - loss_at_mean) * checkpoints / (checkpoints - 1)
    return Noise(value=value, error=scatter / math.sqrt(checkpoints - 1))


def loss_slope(steps: Sequence[float], losses: Sequence[float], *, confidence: float) -> Slope | None:
    """A power law through the losses of the last factor `WINDOW` of steps, by least squares in logarithms.

    Returns:
        -dL / d ln(step) at the last step; None with fewer than `MIN_POINTS` points there.

    Example:
        >>> steps = [100, 200, 400, 800]
        >>> round(loss_slope(steps, [1 / s**0.5 for s in steps], confidence=0.8).value * 800**0.5, 3)
        0.5
    """
    last = max(steps, default=0.0)
    points = [(s, loss) for s, loss in zip(steps, losses, strict=True) if s * WINDOW >= last and loss > 0]
    x = np.log([s for s, _ in points])
    if len(points) < MIN_POINTS or np.ptp(x) == 0:
        return None
    y = np.log([loss for _, loss in points])
    centred = x - x.mean()
    spread = float(centred @ centred)
    power = float(centred @ y) / spread
    at_last = math.exp(y.mean() + power * (math.log(last) - x.mean()))
    freedom = len(points) - 2
    scatter = float(np.sqrt(np.sum((y - y.mean() - power * centred) ** 2) / freedom))
    reach = float(stdtrit(freedom, (1 + confidence) / 2)) * scatter / math.sqrt(spread)
    return Slope(
        value=-power * at_last,
        low=-(power + reach) * at_last,
        high=-(power - reach) * at_last,
        scatter=scatter * at_last,
    )


def loss_change(
    noise: Noise, slope: Slope, *, noise_left: float, progress_left: float, confidence: float
) -> tuple[float, float, float]:
    """Of a ramp against the same run without: below zero where it ends lower.

    Args:
        noise: L_noise without the ramp.
        slope: fall of the loss per e-fold of steps.
        noise_left: share of L_noise that is left at the end.
        progress_left: share of the run's steps, each counted by how far it goes.
        confidence: of the interval; that of the slope's.

    Returns:
        Value, lower and upper end; the errors of noise and slope are taken as independent.

    Example:
        >>> flat = Slope(value=0.05, low=0.05, high=0.05, scatter=0.0)
        >>> change = loss_change(Noise(value=0.1), flat, noise_left=0.25, progress_left=0.5, confidence=0.8)
        >>> [round(end, 4) for end in change]
        [-0.0403, -0.0403, -0.0403]
    """
    taken, lost = 1 - noise_left, -math.log(progress_left)
    value = lost * slope.value - taken * noise.value
    of_noise = taken * noise.error * float(ndtri((1 + confidence) / 2))
    low = math.hypot(lost * (slope.value - slope.low), of_noise)
    high = math.hypot(lost * (slope.high - slope.value), of_noise)
    return value, value - low, value + high
