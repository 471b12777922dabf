"""Steps to a target as a function of the learning rate, near the best: a parabola in logarithms.

log S(eta) = log S* + k (log eta - log eta*)^2
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

USUAL_CURVATURE = 0.8
"""k: ten per cent more steps at a factor sqrt(2) either side of the best, as on 56 tuned points."""

LOWEST_CURVATURE, HIGHEST_CURVATURE = 0.4, 2.0

FAR = math.log(2.0)
"""Steps so far apart say nothing of the curvature near the best rate."""

SLOWER = 1.25
"""Runs of a trial are given up at so many times the steps of the best learning rate: as soon as these are known."""

TOLERATED = math.log(1.1)
"""Ten per cent more steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCurve:
    """The parabola."""

    best_rate: float
    best_steps: float
    curvature: float
    """k."""

    def excess(self, rate: float) -> float:
        """Steps at a learning rate over those at the best."""
        return math.exp(self.curvature * math.log(rate / self.best_rate) ** 2)

    @property
    def tolerance(self) -> float:
        """Factor either side of the best rate that costs ten per cent more steps.

        Example:
            >>> round(RateCurve(best_rate=1.0, best_steps=1.0, curvature=0.8).tolerance, 2)
            1.41
        """
        return math.exp(math.sqrt(TOLERATED / self.curvature))


def fit_rate_curve(rates: Sequence[float], steps: Sequence[float], curvature: float) -> RateCurve:
    """Through the best rate and its neighbours; `curvature` where these do not show one.

    Args:
        rates: increasing, at least one.
        steps: to the target; infinite for a run that blew up.
        curvature: k expected: it is averaged with what three points show.

    The best rate is never taken to lie further out than half way to the next rate that would have been
    tried, and not above one that blew up: the curve says nothing there.

    Example:
        >>> curve = fit_rate_curve([0.7, 1.0, 1 / 0.7], [110.7, 100, 110.7], 0.8)
        >>> round(curve.best_rate, 3), round(curve.best_steps)
        (1.0, 100)
    """
    best = min(range(len(rates)), key=lambda index: steps[index])
    near = [index for index in (best - 1, best, best + 1) if 0 <= index < len(rates)]
    known = [index for index in near if math.isfinite(steps[index])]
    x = [math.log(rates[index]) for index in known]
    y = [math.log(max(steps[index], 0.1)) for index in known]
    if len(known) == 3 and max(y) - min(y) < FAR:
        curvature = (_clipped(_second_difference(x, y)) + curvature) / 2
    centre = math.log(rates[best])
    if len(known) >= 2:
        centre = _vertex(x, [min(b, min(y) + FAR) for b in y], curvature)
    low, high = _reach(rates, steps, best)
    centre = min(max(centre, low), high)
    level = _mean([b - curvature * (a - centre) ** 2 for a, b in zip(x, y, strict=True)])
    return RateCurve(best_rate=math.exp(centre), best_steps=math.exp(level), curvature=curvature)


def _second_difference(x: Sequence[float], y: Sequence[float]) -> float:
    left, right = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    return (right - left) / (x[2] - x[0])


def _clipped(curvature: float) -> float:
    return min(max(curvature, LOWEST_CURVATURE), HIGHEST_CURVATURE)


def _vertex(x: Sequence[float], y: Sequence[float], curvature: float) -> float:
    """Least squares of a parabola of given curvature: y - k x^2 is a straight line."""
    middle, flat = _mean(x), [b - curvature * a * a for a, b in zip(x, y, strict=True)]
    level = _mean(flat)
    slope = sum((a - middle) * (b - level) for a, b in zip(x, flat, strict=True))
    slope /= sum((a - middle) ** 2 for a in x)
    return -slope / (2 * curvature)


def _reach(rates: Sequence[float], steps: Sequence[float], best: int) -> tuple[float, float]:
    """Where the best rate may be thought to lie, as logarithms: never towards a rate that blew up."""
    logs = [math.log(rate) for rate in rates]
    gap = min((b - a for a, b in itertools.pairwise(logs)), default=0.0)
    low = (logs[best] + logs[best - 1]) / 2 if best > 0 else logs[best] - gap / 2
    high = (logs[best] + logs[best + 1]) / 2 if best + 1 < len(logs) else logs[best] + gap / 2
    if best + 1 < len(logs) and math.isinf(steps[best + 1]):
        high = logs[best]
    return low, high


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
