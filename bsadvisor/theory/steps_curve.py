"""The critical batch size from measured steps: S(B) = S_min (1 + B_crit / B), fitted in logarithms.

Source: McCandlish et al. 2018, equation 2.11 and appendix; the interval is the profile likelihood's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bsadvisor.theory.noise_scale import t_quantile
from bsadvisor.theory.training_cost import steps_over_minimum

Floats = np.ndarray[tuple[int], np.dtype[np.float64]]

MISFIT = 0.05
"""Relative error of the hyperbola itself: its root mean square residual on tuned runs is 3 to 12 %."""

GRID = np.exp(np.linspace(math.log(1e-3), math.log(1e6), 4001))
"""Critical batch sizes that are tried, in units of the smallest measured batch size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A fitted number and its interval; an end at the edge of what was tried is none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsCurve:
    """The hyperbola through measured points."""

    critical: Interval
    """B_crit in examples."""
    minimum_steps: Interval
    """S_min."""
    minimum_examples: Interval
    """E_min = B_crit S_min."""
    residual: float
    """Root mean square of log(measured / fitted)."""
    misfit: float
    """Squared residuals over their expected size, per point beyond the two that any hyperbola passes through."""

    def steps(self, batch_size: float) -> float:
        """S(B)."""
        return self.minimum_steps.value * steps_over_minimum(batch_size, self.critical.value)


def fit_steps_curve(
    batch_sizes: Sequence[float],
    log_steps: Sequence[float],
    errors: Sequence[float],
    *,
    freedom: int,
    confidence: float,
) -> StepsCurve:
    """Weighted least squares over a grid of critical batch sizes.

    Args:
        batch_sizes: at least two different ones.
        log_steps: natural logarithms of the measured steps.
        errors: standard error of each logarithm, from the seeds.
        freedom: degrees of freedom that the errors were estimated with.
        confidence: of the intervals.

    Example:
        >>> sizes = [8, 32, 128, 512]
        >>> logs = [math.log(50 * (1 + 64 / size)) for size in sizes]
        >>> curve = fit_steps_curve(sizes, logs, [0.05] * 4, freedom=4, confidence=0.9)
        >>> round(curve.critical.value), round(curve.minimum_steps.value)
        (64, 50)
    """
    sizes, logs = np.asarray(batch_sizes, float), np.asarray(log_steps, float)
    variance = np.asarray(errors, float) ** 2 + MISFIT**2
    candidates = GRID * sizes.min()
    shape = np.log1p(candidates[:, None] / sizes)
    weights = 1 / variance
    levels = ((logs - shape) * weights).sum(1) / weights.sum()
    chi_squared = ((logs - shape - levels[:, None]) ** 2 * weights).sum(1)
    best = int(chi_squared.argmin())
    spare = len(sizes) - 2
    scale = max(1.0, chi_squared[best] / spare) if spare > 0 else 1.0
    allowed = chi_squared[best] + scale * t_quantile(confidence, max(freedom, 1)) ** 2
    inside = np.flatnonzero(chi_squared <= allowed)
    first, last = int(inside[0]), int(inside[-1])
    low = float(candidates[first]) if first > 0 else None
    high = float(candidates[last]) if last < len(candidates) - 1 else None
    residuals = logs - shape[best] - levels[best]
    return StepsCurve(
        critical=Interval(value=float(candidates[best]), low=low, high=high),
        minimum_steps=Interval(
            value=math.exp(levels[best]),
            low=None if high is None else math.exp(levels[last]),
            high=None if low is None else math.exp(levels[first]),
        ),
        minimum_examples=Interval(
            value=float(np.exp(levels[best]) * candidates[best]),
            low=None if low is None else float(np.exp(levels[first]) * low),
            high=None if high is None else float(np.exp(levels[last]) * high),
        ),
        residual=float(np.sqrt(np.mean(residuals**2))),
        misfit=float(chi_squared[best] / spare) if spare > 0 else 0.0,
    )


def information(critical: float, batch_sizes: Sequence[float], errors: Sequence[float]) -> float:
    """What steps at these batch sizes say of log B_crit, where S_min is not known either: one over its variance.

    Args:
        critical: B_crit, about.
        batch_sizes: where steps are measured.
        errors: standard error of each logarithm, without that of the hyperbola itself.

    Example:
        >>> near, far = information(64, [32, 128], [0.1, 0.1]), information(64, [8, 512], [0.1, 0.1])
        >>> far > 4 * near
        True
    """
    slopes = critical / (critical + np.asarray(batch_sizes, float))
    weights = 1 / (np.asarray(errors, float) ** 2 + MISFIT**2)
    return float((weights * (slopes - np.average(slopes, weights=weights)) ** 2).sum())
