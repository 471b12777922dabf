"""The best single step from here under a local quadratic model."""

from __future__ import annotations


def saturation(batch_size: float, noise_scale: float) -> float:
    """1 / (1 + Bn / B): the share of the noise-free step and of its loss decrease left at B.

    Source: McCandlish et al. 2018, equations 2.6 and 2.7, with B_simple in place of B_noise where no
        curvature was measured.

    Example:
        >>> saturation(100, 100)
        0.5
    """
    return 1 / (1 + noise_scale / batch_size)
