"""The best single step from here: the loss along the noise-free update, and the cost of noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bsadvisor.theory.noise_scale import Array


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
    off. Between measured steps the fall per unit of eta is linear in eta, as on a quadratic.
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

        Source: the best point of a function that is a parabola between neighbouring rates.

        Example:
            >>> rates = np.array([1.0, 2.0, 4.0])
            >>> model = StepModel(rates=rates, decreases=2 * rates - rates**2 / 2, slope=2.0,
            ...                   noise_curvature=3.0, examples=math.inf)
            >>> model.best(math.inf), model.best(3)
            ((2.0, 2.0), (1.0, 1.0))
        """
        starts, ends = np.append(0.0, self.rates[:-1]), self.rates
        first, last = np.append(self.slope, (self.decreases / self.rates)[:-1]), self.decreases / self.rates
        bend = (last - first) / (ends - starts)
        linear = first - bend * starts
        square = bend - self.noise_curvature / 2 * (1 / batch_size - 1 / self.examples)
        falling = np.where(square < 0, square, -np.inf)
        tops = np.clip(-linear / (2 * falling), starts, ends)
        tops = np.where(square < 0, tops, ends)
        falls = tops * (linear + square * tops)
        highest = int(falls.argmax())
        if not falls[highest] > 0 or tops[highest] >= self.rates[-1]:
            return math.nan, math.nan
        return float(tops[highest]), float(falls[highest])

    def noise_scale(self) -> float:
        """eta_max tr(DHD Sigma) / slope: the batch size at which noise halves the best step of a quadratic.

        Source: McCandlish et al. 2018, equation 2.7, with slope / eta_max in place of G'HG.
        """
        return self.best(math.inf)[0] * self.noise_curvature / self.slope
