"""The best single step from here: the loss along the noise-free update, and the cost of noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bsadvisor.theory.noise_scale import Array

DENSITY = 32
"""Points at which the line is evaluated from one measured step to the next."""


def saturation(batch_size: float, noise_scale: float) -> float:
    """1 / (1 + Bn / B): the share of the noise-free step and of its loss decrease left at B on a quadratic.

    Source: McCandlish et al. 2018, equations 2.6 and 2.7.

    Example:
        >>> saturation(100, 100)
        0.5
    """
    return 1 / (1 + noise_scale / batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepModel:
    """The expected fall of the loss for a step eta along D g of any batch size.

    L(theta) - E L(theta - eta D g_B) is the fall along the noise-free update, whatever its shape, less
    eta^2 tr(DHD Sigma) / 2B. The line was measured along an update of n examples, whose noise is taken
    off. Between measured steps the fall per unit of eta, which is linear on a quadratic, is a cubic.
    """

    rates: Array
    """(R,) steps eta that were tried, rising and positive."""
    decreases: Array
    """(R,) fall of the loss at each."""
    slope: float
    """Its derivative at eta = 0."""
    noise_curvature: float
    """tr(DHD Sigma)."""
    examples: float
    """n, of the update that was followed."""

    def tilted(self, change: float) -> StepModel:
        """The same with another slope at 0, by `change`.

        Example:
            >>> model = StepModel(rates=np.array([1.0]), decreases=np.array([1.0]), slope=2.0,
            ...                   noise_curvature=0.0, examples=1.0)
            >>> model.tilted(1.0).decreases.tolist()
            [2.0]
        """
        return replace(self, decreases=self.decreases + change * self.rates, slope=self.slope + change)

    def best(self, batch_size: float) -> tuple[float, float]:
        """The best eta at a batch size, and its expected fall of the loss.

        Args:
            batch_size: examples; infinite for the noise-free step.

        Returns:
            eta and the fall; NaN where no step lowers the loss, or none that was tried is too long.

        Source: the highest of many points of a cubic Hermite spline, and the parabola through it and its neighbours.

        Example:
            >>> rates = np.array([1.0, 2.0, 4.0])
            >>> model = StepModel(rates=rates, decreases=2 * rates - rates**2 / 2, slope=2.0,
            ...                   noise_curvature=3.0, examples=math.inf)
            >>> [round(x, 6) for x in (*model.best(math.inf), *model.best(3))]
            [2.0, 2.0, 1.0, 1.0]
        """
        rates = self._between()
        falls = rates * self._per_rate(rates) - self._noise_cost(rates, batch_size)
        top = int(falls.argmax())
        if not falls[top] > 0 or top in (0, len(rates) - 1):
            return math.nan, math.nan
        around = slice(top - 1, top + 2)
        square, linear, constant = np.polyfit(rates[around] / rates[top], falls[around], 2)
        share = float(-linear / (2 * square))
        return float(share * rates[top]), float(constant + linear * share / 2)

    def _between(self) -> Array:
        """The rates that were tried, and many between each of them and its neighbour."""
        starts = np.append(0.0, self.rates[:-1])
        shares = np.arange(1, DENSITY + 1) / DENSITY
        return np.asarray(starts[:, None] + np.outer(self.rates - starts, shares)).ravel()

    def _per_rate(self, rates: Array) -> Array:
        """The fall of the loss per unit of eta: a cubic between rates, with the derivatives of parabolas there."""
        x = np.append(0.0, self.rates)
        y = np.append(self.slope, self.decreases / self.rates)
        derivative = np.gradient(y, x, edge_order=2 if len(x) > 2 else 1)
        left = np.clip(np.searchsorted(x, rates) - 1, 0, len(x) - 2)
        width = x[left + 1] - x[left]
        t = (rates - x[left]) / width
        straight = y[left] + t * (y[left + 1] - y[left])
        chord = y[left + 1] - y[left]
        bent = (1 - t) * (derivative[left] * width - chord) - t * (derivative[left + 1] * width - chord)
        return np.asarray(straight + t * (1 - t) * bent)

    def _noise_cost(self, rates: Array, batch_size: float) -> Array:
        """The noise of B examples in place of that of n."""
        return np.asarray(rates**2 * self.noise_curvature / 2 * (1 / batch_size - 1 / self.examples))

    def noise_scale(self) -> float:
        """eta_max tr(DHD Sigma) / slope: the batch size at which noise halves the best step of a quadratic.

        Source: McCandlish et al. 2018, equation 2.7, with slope / eta_max in place of G'HG.
        """
        return self.best(math.inf)[0] * self.noise_curvature / self.slope
