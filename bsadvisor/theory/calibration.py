"""How far B_simple at a checkpoint is from the critical batch size of the run: the stored errors."""

from __future__ import annotations

import math
from statistics import mean, stdev

from bsadvisor.theory.noise_scale import t_quantile

SIMPLE_OVER_CRITICAL = (0.13, 0.15, 0.34, 0.38, 0.92, 1.3, 2.5, 2.8, 3.9, 4.3, 4.8, 7.2, 7.4, 8.4)
"""B_simple over the brute-force B_crit on 14 long branches: digits (softmax, MLP, ConvNet with and
without BatchNorm) and a character transformer; SGD and AdamW; early and mid training."""

BAND_CONFIDENCE = 0.8

SAMPLING_SHARE = 1.2816 / 1.96
"""From a 95 % to an 80 % half width of a normal error."""


def systematic_ratio() -> float:
    """Geometric mean of the stored ratios: what B_simple is divided by.

    Example:
        >>> round(systematic_ratio(), 2)
        1.61
    """
    return math.exp(mean(map(math.log, SIMPLE_OVER_CRITICAL)))


def band_log_half_width() -> float:
    """Half width of the 80 % prediction interval of log(B_simple / B_crit) for one more task.

    Example:
        >>> round(math.exp(band_log_half_width()))
        8
    """
    logs = [math.log(ratio) for ratio in SIMPLE_OVER_CRITICAL]
    return t_quantile(BAND_CONFIDENCE, len(logs) - 1) * stdev(logs) * math.sqrt(1 + 1 / len(logs))
