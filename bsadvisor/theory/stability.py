"""The largest learning rate at which a quadratic with curvature lambda does not blow up.

Schemes, in PyTorch's conventions, with gradient g and momentum beta:

    gradient_descent    x -= eta g                              torch.optim.SGD
    heavy_ball          m = beta m + g;         x -= eta m      SGD(momentum=beta)
    nesterov            m = beta m + g;         x -= eta (g + beta m)
    ema                 m = beta m + (1 - beta) g;  x -= eta m  Adam with a frozen preconditioner D,
                                                                lambda that of D^1/2 H D^1/2

SGD with `dampening` d multiplies g by 1 - d: divide heavy ball's limits by 1 - d (d = beta is ema's).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

Scheme = Literal["gradient_descent", "heavy_ball", "nesterov", "ema"]

BISECTIONS = 48
"""To 4e-15 of the interval; a root finder from scipy would cost `bsadvisor scale` half a second to load."""


def learning_rate_limit(scheme: Scheme, curvature: float, momentum: float) -> float:
    """The learning rate above which full-batch steps along this curvature diverge.

    2 / lambda, 2 (1 + beta) / lambda, 2 (1 + beta) / ((1 + 2 beta) lambda) and
    2 (1 + beta) / ((1 - beta) lambda), in the order of `Scheme`.

    Args:
        curvature: lambda, the largest eigenvalue; loss per squared unit of x.
        momentum: beta in [0, 1); plain gradient descent ignores it.

    Returns:
        eta; infinite where lambda is not positive.

    Source: Polyak 1964 for heavy ball; Cohen et al. 2021 (Nesterov) and 2022 (Adam).

    Example:
        >>> learning_rate_limit("gradient_descent", 4.0, 0.0)
        0.5
        >>> round(learning_rate_limit("ema", 1.0, 0.9), 6)
        38.0
    """
    return _edge(scheme, momentum) / curvature if curvature > 0 else math.inf


def _edge(scheme: Scheme, momentum: float) -> float:
    """eta lambda at the full-batch limit."""
    twice = 2 * (1 + momentum)
    edges = {
        "gradient_descent": 2.0,
        "heavy_ball": twice,
        "nesterov": twice / (1 + 2 * momentum),
        "ema": twice / (1 - momentum),
    }
    return edges[scheme]


def noise_gain(scheme: Scheme, step: float, momentum: float) -> float:
    """lambda^2 E x^2 in equilibrium over the variance of the gradient noise that causes it.

    Args:
        step: eta lambda, between 0 and the full-batch limit.
        momentum: beta in [0, 1).

    Returns:
        A pure number: 0 at eta = 0, infinite at the limit.

    Source: variance of an autoregression of order two (heavy ball: Mandt et al. 2017); for Nesterov
        with a moving average of order one.

    Example:
        >>> noise_gain("gradient_descent", 1.0, 0.0)  # eta lambda / (2 - eta lambda)
        1.0
    """
    return step * _gain_per_step(scheme, step, momentum)


def noise_gain_per_step(scheme: Scheme, momentum: float) -> float:
    """`noise_gain` over eta lambda, where that is small.

    Args:
        momentum: beta in [0, 1).

    Returns:
        1/2 for plain gradient descent and a moving average, 1 / (2 (1 - beta)) with momentum that adds up.

    Source: as `noise_gain`.

    Example:
        >>> noise_gain_per_step("gradient_descent", 0.0), round(noise_gain_per_step("nesterov", 0.9), 6)
        (0.5, 5.0)
    """
    return _gain_per_step(scheme, 0.0, momentum)


def _gain_per_step(scheme: Scheme, step: float, momentum: float) -> float:
    beta = 0.0 if scheme == "gradient_descent" else momentum
    if scheme == "nesterov":
        bent = 1 + beta + beta * (1 + 2 * beta) * step
        return bent / ((1 - beta + beta * step) * (2 * (1 + beta) - (1 + 2 * beta) * step))
    weight = 1 - beta if scheme == "ema" else 1.0
    return weight * (1 + beta) / ((1 - beta) * (2 * (1 + beta) - weight * step))


def mini_batch_limit(
    scheme: Scheme,
    curvature: float,
    trace: float,
    batch_size: float,
    momentum: float,
    *,
    square_trace: float | None = None,
) -> float:
    """The learning rate above which mini-batch steps diverge in mean square: a lower bound of it.

    Gaussian linear regression that interpolates stays bounded if and only if the sum over eigenvalues
    of R_i / (B - R_i) is below 1, R_i the `noise_gain` at eta lambda_i. Of the spectrum only the largest
    eigenvalue, tr(H) and perhaps tr(H^2) are known; the others are put where they hurt most. Without
    tr(H^2) and without momentum that is 2 / (lambda (1 + 1/B) + tr(H) / B). Nesterov's bound is the
    more cautious the nearer its momentum is to 1.

    Args:
        curvature: lambda, the largest eigenvalue; loss per squared unit of x.
        trace: tr(H) in that unit; counted as lambda where it is less.
        batch_size: B, in examples.
        momentum: beta in [0, 1); plain gradient descent ignores it.
        square_trace: tr(H^2) in that unit squared; None where it is not known.

    Returns:
        eta; infinite where lambda is not positive.

    Source: the second-moment recursion of Gaussian features; Ma et al. 2018 (The power of
        interpolation) for gradient descent.

    Example:
        >>> round(mini_batch_limit("gradient_descent", 1.0, 5.0, 8, 0.0), 6) == round(2 / (1 + 6 / 8), 6)
        True
    """
    if curvature <= 0:
        return math.inf
    dimensions = max(trace / curvature, 1.0)
    spread = None if square_trace is None else min(max(square_trace / curvature**2, 1.0), dimensions)

    def excess(step: float) -> float:
        top = noise_gain(scheme, step, momentum) / batch_size
        if top >= 1 / 2:  # the largest eigenvalue alone diverges
            return top
        smallest = step * _gain_per_step(scheme, 0.0, momentum) / batch_size
        return _feedback(top / (1 - top), smallest, dimensions, spread) - 1

    return _root(excess, _edge(scheme, momentum)) / curvature


def _root(rising: Callable[[float], float], end: float) -> float:
    """Where a rising function passes zero between 0 and `end`, by bisection."""
    low, high = 0.0, end
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return low


def _feedback(largest: float, smallest: float, dimensions: float, spread: float | None) -> float:
    """Upper bound of the sum over eigenvalues, from the summand per unit of eigenvalue at both ends.

    That is convex in the eigenvalue, so it lies below the chord from `smallest` (at 0) to `largest`; the
    chord sums to the two traces, here in units of the largest eigenvalue.
    """
    rise = largest - smallest
    if spread is None:
        spread = dimensions if rise > 0 else 1.0
    return smallest * dimensions + rise * spread
