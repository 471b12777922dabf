"""How the noise scale of a run changes: a power law Bn ~ x^p through measured noise scales, with its interval.

What is measured is q = 1 / Bn = |G|^2 / tr(Sigma), whose error is about normal and which may come out
negative. Around the power law the true Bn of a checkpoint scatters as well, because |G|^2 at an iterate
is partly made of the run's own noise. So, with z_i and e_i standard normal,
    ln Bn_i = a + p ln x_i + tau z_i,    q_i = 1 / Bn_i + s_i e_i.
The likelihood of p is had on a grid, averaged over a and tau: where the errors s_i are small against
the scatter, that gives about the t interval of a straight line through n points, a little wider.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]

MIN_POINTS = 3
"""Two points lie on any power law."""

SMALLEST_ERROR = 0.1
"""Relative error of q that the grid of noise scales can still resolve."""

_STEP = 0.1
"""Of the grid of ln Bn."""

_GROWTHS = np.linspace(-12, 12, 121)
"""ln of the growth of Bn between the two ends of the run: what is tried."""

_SCATTERS = np.geomspace(0.1, 3.0, 9)
"""tau that are tried: below, scatter is lost among the errors; above, a factor of 20 is common."""

_MARGIN = 4.0
"""How far beyond the measured noise scales, in logarithms, the level is sought."""

_EXCLUDED = 0.01
"""Likelihood over the largest at which a growth counts as excluded."""

_TINY = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True)
class Inverse:
    """A measured q = 1 / Bn, in 1 / examples, with its standard error."""

    value: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """Bn(x) = level (x / x_1)^exponent, with x_1 the first abscissa."""

    exponent: float
    low: float | None
    """Of the exponent; None: beyond what was tried."""
    high: float | None
    level: float
    """Noise scale at x_1, in examples."""
    scatter: float
    """tau: standard deviation of ln Bn about the law, beyond the errors of measurement."""

    def at(self, x: float, first: float) -> float:
        """Bn(x), in examples."""
        return float(self.level * (x / first) ** self.exponent)


def inverse_of(
    value: float | None, low: float | None, high: float | None, confidence: float
) -> Inverse | None:
    """q and its standard error from an interval of Bn; None where the interval says nothing.

    Args:
        value, low, high: of Bn in examples, as `theory.noise_scale` inverts an interval of q: no value
            where q was not above zero, no upper end where the lower end of q is not.
        confidence: of the interval.

    Example:
        >>> found = inverse_of(100.0, 50.0, None, confidence=0.95)
        >>> round(found.value, 6), round(found.error, 4)
        (0.01, 0.0051)
    """
    if low is None or low <= 0:
        return None
    middle = 0.0 if value is None else 1 / value
    error = (1 / low - middle) / float(ndtri((1 + confidence) / 2))
    return Inverse(value=middle, error=error) if error > 0 else None


def fit_power_law(
    abscissas: Sequence[float], inverses: Sequence[Inverse], *, confidence: float
) -> PowerLaw | None:
    """The law with its exponent's interval: peak and quantiles of the averaged likelihood.

    Args:
        abscissas: x_i > 0: steps or losses.
        inverses: q_i with their errors.
        confidence: of the interval.

    Returns:
        None with fewer than `MIN_POINTS` points, or where all x are equal.

    Example:
        >>> steps = [100, 200, 400, 800, 1600]
        >>> exact = [Inverse(value=0.1 / s**0.5, error=0.01 / s**0.5) for s in steps]
        >>> law = fit_power_law(steps, exact, confidence=0.9)
        >>> round(law.exponent, 1), round(law.level, -1)
        (0.5, 100.0)
    """
    x = np.log(np.asarray(abscissas, float))
    reach = float(np.ptp(x)) if len(x) else 0.0
    if len(x) < MIN_POINTS or reach < 1e-9:
        return None
    grid, positions = _grid(inverses), (x - x.mean()) / reach
    likelihood = _log_likelihood(grid, inverses, positions)
    weight = np.exp(likelihood - likelihood.max()) * _SCATTERS[:, None, None]
    of_growth = weight.sum((0, 2))
    growth, row = _peak(_GROWTHS, of_growth)
    level, _ = _peak(grid, weight[:, row].sum(0))
    return PowerLaw(
        exponent=growth / reach,
        low=_end(of_growth, (1 - confidence) / 2, at_edge=0, reach=reach),
        high=_end(of_growth, (1 + confidence) / 2, at_edge=-1, reach=reach),
        level=math.exp(level + growth * float(positions[0])),
        scatter=math.exp(_quantile(np.log(_SCATTERS), weight.sum((1, 2)), 0.5)),
    )


def _grid(inverses: Sequence[Inverse]) -> Array:
    """Values of ln Bn: around those that were measured, or bounded."""
    largest = max(max(found.value + 2 * found.error, found.error) for found in inverses)
    smallest = min(max(found.value - 2 * found.error, found.error / 4) for found in inverses)
    return np.arange(-math.log(largest) - _MARGIN, -math.log(smallest) + _MARGIN, _STEP)


def _log_likelihood(grid: Array, inverses: Sequence[Inverse], positions: Array) -> Array:
    """(scatters, growths, levels), with levels on the grid at the mean position."""
    spreads = [_spread(grid, tau) for tau in _SCATTERS]
    columns = np.arange(len(grid))
    total = np.zeros((len(_SCATTERS), len(_GROWTHS), len(grid)))
    for found, position in zip(inverses, positions, strict=True):
        density = _density(found, grid)
        tables = np.log(np.stack([density @ spread for spread in spreads]) + _TINY)
        shifted = columns + _GROWTHS[:, None] * position / _STEP
        below = np.clip(np.floor(shifted).astype(int), 0, len(grid) - 2)
        share = np.clip(shifted - below, 0, 1)
        total += (1 - share) * tables[:, below] + share * tables[:, below + 1]
    return total


def _spread(grid: Array, tau: float) -> Array:
    """(true, by the law): how true noise scales are spread about the law's."""
    kernel = np.exp(-0.5 * ((grid[:, None] - grid) / tau) ** 2)
    return np.asarray(kernel / kernel.sum(0))


def _density(found: Inverse, grid: Array) -> Array:
    """Of the measured q where the true noise scale is exp(grid), up to a constant."""
    error = max(found.error, SMALLEST_ERROR * abs(found.value))
    return np.asarray(np.exp(-0.5 * ((found.value - np.exp(-grid)) / error) ** 2))


def _peak(values: Array, weight: Array) -> tuple[float, int]:
    """Where a density on an even grid is largest, by a parabola through its logarithm there; and its row."""
    best = int(np.clip(weight.argmax(), 1, len(weight) - 2))
    before, here, after = (math.log(weight[best + side] + _TINY) for side in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return float(values[best] + min(max(shift, -1.0), 1.0) * (values[1] - values[0])), best


def _end(of_growth: Array, level: float, *, at_edge: int, reach: float) -> float | None:
    """A quantile as an exponent; None where growth beyond all that was tried is not excluded."""
    if of_growth[at_edge] > _EXCLUDED * of_growth.max():
        return None
    return _quantile(_GROWTHS, of_growth, level) / reach


def _quantile(values: Array, weight: Array, level: float) -> float:
    """Of a density on an even grid."""
    cumulative = np.cumsum(weight) - weight / 2
    return float(np.interp(level * weight.sum(), cumulative, values))
