"""Steps and examples to a target loss as a function of the batch size.

    S(B) = S_min (1 + B_crit / B),   E(B) = E_min (1 + B / B_crit),   B_crit = E_min / S_min

Source: McCandlish et al. 2018, equations 2.11 and 2.12.
"""

from __future__ import annotations


def steps_over_minimum(batch_size: float, critical: float) -> float:
    """S(B) / S_min.

    Example:
        >>> steps_over_minimum(32, 96)
        4.0
    """
    return 1 + critical / batch_size


def examples_over_minimum(batch_size: float, critical: float) -> float:
    """E(B) / E_min.

    Example:
        >>> examples_over_minimum(32, 96) == 1 + 1 / 3
        True
    """
    return 1 + batch_size / critical


def steps_factor(batch_size: float, reference: float, critical: float) -> float:
    """S(B) / S(reference)."""
    return steps_over_minimum(batch_size, critical) / steps_over_minimum(reference, critical)


def inefficiency(batch_size: float, critical: float) -> float:
    """(S / S_min)(E / E_min) over its least value 4: 1 at B_crit, 1.125 a factor of two away.

    Example:
        >>> inefficiency(50, 100)
        1.125
    """
    return steps_over_minimum(batch_size, critical) * examples_over_minimum(batch_size, critical) / 4
