"""What a run's own noise leaves of the gradient once it has settled at its learning rate and batch size.

On a quadratic with curvature H, steps of learning rate eta on batches of B examples spread the weights until
the restoring force balances the noise. In every direction  lambda^2 E x^2  is then the gradient noise per step
times eta lambda c,  with c = 1/2 for gradient descent and for Adam, 1 / (2 (1 - beta)) with heavy-ball or
Nesterov momentum, as long as eta lambda is small. Summed up,

    |G|^2 = eta c tr(H Sigma) / B        B_simple = tr(Sigma) / |G|^2 = B tr(Sigma) / (eta c tr(H Sigma))

so that the noise scale of such a checkpoint says what eta and B were, and nothing of the task.
"""

from __future__ import annotations

import math

from bsadvisor.theory.noise_scale import Interval
from bsadvisor.theory.stability import Scheme, noise_gain_per_step


def own_noise_scale(
    scheme: Scheme, momentum: float, curvature: float, learning_rate: float, batch_size: float
) -> float:
    """B_simple of a run that has settled, if its loss were quadratic.

    Args:
        scheme, momentum: as in `theory.stability`.
        curvature: tr(H Sigma) / tr(Sigma) > 0, the mean curvature along the noise.
        learning_rate: eta; with SGD's dampening d, eta (1 - d).
        batch_size: B, in examples.

    Returns:
        Examples.

    Source: the stationary variance of an autoregression (Mandt et al. 2017); temperature as in McCandlish et
        al. 2018, equation C.1.

    Example:
        >>> own_noise_scale("gradient_descent", 0.0, curvature=2.0, learning_rate=0.1, batch_size=32)
        320.0
        >>> round(own_noise_scale("heavy_ball", 0.9, curvature=2.0, learning_rate=0.1, batch_size=32), 6)
        32.0
    """
    return batch_size / (learning_rate * curvature * noise_gain_per_step(scheme, momentum))


def ratio(measured: Interval, own: Interval) -> Interval:
    """Of two positive quantities with independent errors: on their logarithms, end by end.

    Args:
        measured, own: noise scales; a value that is NaN, and ends that are NaN, zero or infinite, are not known.

    Returns:
        Interval: 0 and infinity where an end is not known; where the first value is not known, its ends and
        those of the second are put together as they are worst.

    Source: first-order propagation of errors.

    Example:
        >>> found = ratio(Interval(value=8, low=4, high=16), Interval(value=2, low=2, high=2))
        >>> found.low, found.value, found.high
        (2.0, 4.0, 8.0)
    """
    low = _end(measured.value, measured.low, own.value, own.high)
    high = _end(measured.value, measured.high, own.value, own.low)
    return Interval(
        value=measured.value / own.value,
        low=0.0 if math.isnan(low) else low,
        high=math.inf if math.isnan(high) else high,
    )


def _end(value: float, end: float, own: float, own_end: float) -> float:
    """NaN where it is not known."""
    if not (0 < end < math.inf and 0 < own_end < math.inf):
        return math.nan
    if math.isnan(value) or math.isnan(own):
        return end / own_end
    reach = math.hypot(math.log(end / value), math.log(own_end / own))
    return value / own * math.exp(math.copysign(reach, end - value))
