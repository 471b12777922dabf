"""Steps and examples to a target loss as a function of the batch size.

    S(B) = S_min (1 + B_crit / B),   E(B) = E_min (1 + B / B_crit),   B_crit = E_min / S_min

Source: McCandlish et al. 2018, equations 2.11 and 2.12.
"""

from __future__ import annotations

from typing import Protocol


class Bounded(Protocol):
    """A number and its interval; None where there is no such end."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def usable_fit(critical: Bounded, minimum_steps: Bounded) -> tuple[float, float] | None:
    """B_crit and S_min to reckon with; without an upper end the least B_crit that is possible, and its S_min."""
    if critical.high is None and critical.low is not None and minimum_steps.high is not None:
        return critical.low, minimum_steps.high
    if critical.value is None or minimum_steps.value is None:
        return None
    return critical.value, minimum_steps.value


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
