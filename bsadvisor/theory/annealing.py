"""What less noise late in a run is worth: the noise's share of the loss against the progress it costs.

On a quadratic where the noise has settled, the loss is above its minimum by L_noise = eta tr(Sigma) / (4 B),
with eta / (1 - beta) under momentum and tr(D Sigma) for Adam: to first order in eta times the curvature.
A ramp that ends with the share n of today's eta / B takes (1 - n) L_noise off. It also takes fewer steps:
where the loss otherwise falls by `slope` per e-fold of steps, that costs slope ln(1 / t), for the share t
of today's steps, each counted by how far it goes.

Source: derived (theory of the stationary covariance: C H + H C = (eta / B) Sigma); Smith et al. 2018 for
growing B in place of decaying eta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

MIN_POINTS = 3

WINDOW = 4.0
"""The slope is taken from the last factor of so much in steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """By how much the loss falls per e-fold of steps, at the last step; positive where it falls."""

    value: float
    low: float
    high: float


def noise_loss(update_variance: float, learning_rate: float, amplification: float = 1.0) -> float:
    """L_noise from the variance of one update, eta^2 tr(Sigma) / B.

    Args:
        amplification: 1 / (1 - beta) under heavy-ball or Nesterov momentum.

    Example:
        >>> noise_loss(update_variance=0.25, learning_rate=0.5)
        0.125
    """
    return update_variance / (4 * learning_rate) * amplification


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
    residual = float(np.sqrt(np.sum((y - y.mean() - power * centred) ** 2) / freedom / spread))
    reach = float(stdtrit(freedom, (1 + confidence) / 2)) * residual
    return Slope(value=-power * at_last, low=-(power + reach) * at_last, high=-(power - reach) * at_last)


def loss_change(noise: float, slope: float, *, noise_left: float, progress_left: float) -> float:
    """Of a ramp against the same run without: below zero where it ends lower.

    Args:
        noise: L_noise without the ramp.
        slope: fall of the loss per e-fold of steps.
        noise_left: share of L_noise that is left at the end.
        progress_left: share of the run's steps, each counted by how far it goes.

    Example:
        >>> round(loss_change(0.1, 0.05, noise_left=0.25, progress_left=0.5), 4)
        -0.0403
    """
    return -noise * (1 - noise_left) - slope * math.log(progress_left)
