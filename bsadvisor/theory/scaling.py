"""The learning rate at another batch size, anchored on a pair that works."""

from __future__ import annotations

import math
from typing import Literal

Family = Literal["sgd", "adam", "other"]

SATURATING_POWER: dict[Family, float] = {"sgd": 0.5, "adam": 0.75, "other": 0.5}
"""Exponent p of `saturating_power`, by the least error on 56 tuned points of 14 long branches."""

MEAN_ERROR: dict[Family, float] = {"sgd": 1.40, "adam": 1.49, "other": 1.55}
"""exp(mean |log(predicted / tuned)|) of that rule on those points; the square root's for `other`."""

SQUARE_ROOT_ERROR: dict[Family, float] = {"sgd": 1.55, "adam": 1.64, "other": 1.64}
"""The same of the square root, which needs no noise scale; the larger of both for `other`."""

RANGE_CONFIDENCE = 0.8

WELL_BELOW = 4.0
"""B counts as well below the noise scale up to a quarter of it: there the local exponent of the gain,
1 / (1 + B / Bn), is still 0.8 of the linear rule's."""


def saturating_power(batch_size: float, anchor: float, noise_scale: float, power: float) -> float:
    """eta(B) / eta(B_0) = [(1 + Bn / B_0) / (1 + Bn / B)]^p: rises as B^p, flat above the noise scale.

    Args:
        batch_size, anchor: B and B_0, in examples.
        noise_scale: Bn, in examples.
        power: p; 1 is the one-step optimum (the AdaScale gain), 0.5 and 0.75 fit tuned runs.

    Source: McCandlish et al. 2018, equation 2.6 and appendix E.2.

    Example:
        >>> saturating_power(64, 64, noise_scale=100, power=0.5)
        1.0
        >>> round(saturating_power(1e9, 1, noise_scale=99, power=1), 3)
        100.0
    """
    gain = (1 + noise_scale / anchor) / (1 + noise_scale / batch_size)
    return float(gain**power)


def adascale(batch_size: float, anchor: float, noise_scale: float) -> float:
    """eta(B) / eta(B_0) = (1 + Bn / B_0) / (1 + Bn / B): the best single step of SGD on a quadratic.

    Linear far below the noise scale, flat far above. With a noise variance tr(Sigma) / B_0 at the anchor
    and S = B / B_0 it is the AdaScale gain (tr(Sigma) / B_0 + |G|^2) / (tr(Sigma) / B + |G|^2).

    Source: McCandlish et al. 2018, equation 2.6; Johnson et al. 2020 (AdaScale), the gain ratio.

    Example:
        >>> adascale(96, 32, noise_scale=96)
        2.0
    """
    return saturating_power(batch_size, anchor, noise_scale, power=1)


def square_root(batch_size: float, anchor: float) -> float:
    """eta(B) / eta(B_0) = sqrt(B / B_0): the same noise eta^2 Sigma / B in every update.

    Source: Krizhevsky 2014 (One weird trick), section 5; Hoffer et al. 2017.

    Example:
        >>> square_root(8192, 512)
        4.0
    """
    return math.sqrt(batch_size / anchor)


def linear(batch_size: float, anchor: float) -> float:
    """eta(B) / eta(B_0) = B / B_0: the same progress, and the same noise, per example.

    Source: Goyal et al. 2017, the linear scaling rule.

    Example:
        >>> linear(8192, 256)
        32.0
    """
    return batch_size / anchor


def noise_dominates_up_to(noise_scale: float) -> float:
    """The largest batch size that is well below the noise scale: most of its gradient is noise.

    Example:
        >>> noise_dominates_up_to(2000)
        500.0
    """
    return noise_scale / WELL_BELOW


def range_factor(family: Family, errors: dict[Family, float] = MEAN_ERROR) -> float:
    """Factor either side of the rule that holds `RANGE_CONFIDENCE` of its errors.

    For normal errors the 80 % half width is 1.606 times the mean absolute error, for Laplace errors
    1.609 times.

    Example:
        >>> round(range_factor("sgd"), 2)
        1.72
    """
    return math.exp(math.log(errors[family]) * math.log(5))


def half_life_beta(beta: float, batch_size: float, anchor: float) -> float:
    """beta^(B / B_0): the second moment forgets after the same number of examples.

    Source: Marek et al. 2025, section 4.3.

    Example:
        >>> round(half_life_beta(0.999, 256, 32), 5)
        0.99203
    """
    return float(beta ** (batch_size / anchor))


def constant_timescale_decay(weight_decay: float, batch_factor: float, rate_factor: float) -> float:
    """AdamW's weight decay that keeps its averaging time, B / (eta lambda), in examples.

    Source: Bergsma et al. 2025 (Power Lines).

    Example:
        >>> constant_timescale_decay(0.1, batch_factor=4, rate_factor=2)
        0.2
    """
    return weight_decay * batch_factor / rate_factor
