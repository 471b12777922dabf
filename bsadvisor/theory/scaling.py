"""The learning rate at another batch size, anchored on a pair that works."""

from __future__ import annotations

import math
from typing import Literal

Family = Literal["sgd", "adam", "other"]

SATURATING_POWER: dict[Family, float] = {"sgd": 0.5, "adam": 0.75, "other": 0.5}
"""Exponent p of `saturating_power`, by the least error on 56 tuned points of 14 long branches."""

MEAN_ERROR: dict[Family, float] = {"sgd": 1.40, "adam": 1.49, "other": 1.55}
"""exp(mean |log(predicted / tuned)|) of that rule on those points; the square root's for `other`."""

RANGE_CONFIDENCE = 0.8


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


def square_root(batch_size: float, anchor: float) -> float:
    """eta(B) / eta(B_0) = sqrt(B / B_0): the same noise in every update (Krizhevsky 2014)."""
    return math.sqrt(batch_size / anchor)


def linear(batch_size: float, anchor: float) -> float:
    """eta(B) / eta(B_0) = B / B_0: the same progress per example (Goyal et al. 2017)."""
    return batch_size / anchor


def range_factor(family: Family) -> float:
    """Factor either side of the rule that holds `RANGE_CONFIDENCE` of its errors.

    For normal errors the 80 % half width is 1.606 times the mean absolute error, for Laplace errors
    1.609 times.

    Example:
        >>> round(range_factor("sgd"), 2)
        1.72
    """
    return math.exp(math.log(MEAN_ERROR[family]) * math.log(5))


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
    """
    return weight_decay * batch_factor / rate_factor
