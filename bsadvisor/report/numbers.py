"""The one place where numbers become text, with no more digits than their interval supports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Interval(Protocol):
    """An estimate, or the prediction of the critical batch size."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


# --- single numbers -----------------------------------------------------------------------------


def integer(number: int) -> str:
    """`1,024`: batch sizes and other counts."""
    return f"{number:,}"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1,024 images`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def learning_rate(rate: float) -> str:
    """`1.9e-3`."""
    mantissa, exponent = f"{rate:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def given_learning_rate(rate: float) -> str:
    """`3.25e-4`: the digits that somebody chose, up to four."""
    mantissa, exponent = f"{rate:.3e}".split("e")
    whole, decimals = mantissa.split(".")
    return f"{whole}.{decimals.rstrip('0') or '0'}e{int(exponent)}"


def factor(number: float) -> str:
    """`0.44x`."""
    return f"{significant(number)}x"


def ratio(number: float) -> str:
    """`1.76`, `12.5` or `128`: for columns of numbers around one."""
    if not 0.1 <= abs(number) < 100:
        return significant(number, digits=2 if abs(number) < 0.1 else 3)
    return f"{number:.2f}" if abs(number) < 10 else f"{number:.1f}"


def beta(decay: float) -> str:
    """`0.992` or `0.99994`: what matters of a moving average is its distance from one, to two digits."""
    places = 1 - _exponent(1 - decay, digits=2) if decay < 1 else 0
    return f"{decay:.{max(places, 1)}f}".rstrip("0").rstrip(".")


def percent(level: float) -> str:
    """`80 %`: a level of confidence."""
    return f"{100 * level:.10g} %"


def share(part: float) -> str:
    """`41 %`: a part of a whole."""
    return f"{100 * part:.0f} %"


def seconds(duration: float) -> str:
    """`6.2`, without the unit."""
    return f"{duration:.1f}" if duration < 100 else f"{duration:,.0f}"


def significant(number: float, digits: int = 2) -> str:
    """Rounded to so many digits, in words that a person would use: `0.031`, `1,200`, `3.2e-9`."""
    return _rounded(number, _exponent(number, digits) - digits + 1)


def _exponent(number: float, digits: int = 6) -> int:
    """Power of ten of the leading digit once the number is rounded."""
    return int(f"{number:.{digits - 1}e}".split("e")[1])


def _rounded(number: float, place: int) -> str:
    """To a multiple of 10^place; in powers of ten where the zeros would be hard to count."""
    if number == 0:
        return "0"
    if not 1e-3 <= abs(number) < 1e7:
        return learning_rate(number)
    return f"{round(number, -place):,.{max(-place, 0)}f}"


# --- intervals ----------------------------------------------------------------------------------


def interval(estimate: Interval, unit: str = "", write: Callable[[float], str] | None = None) -> str:
    """`212 [160, 300] images`, `≥ 160 images, no upper bound` or `not resolved`."""
    value, low, high = estimate.value, estimate.low, estimate.high
    write = write or _digits_for(estimate)
    if value is None or (low is None) != (high is None):
        return span(low, high, unit, write)
    if low is None or high is None:
        return f"{write(value)}{_after(unit)}, no interval"
    return f"{write(value)} [{write(low)}, {write(high)}]{_after(unit)}"


def span(
    low: float | None, high: float | None, unit: str = "", write: Callable[[float], str] = significant
) -> str:
    """`12 … 760`, or the one bound there is; from below, zero is none."""
    if low is not None and high is not None:
        return f"{write(low)} … {write(high)}{_after(unit)}"
    if high is not None:
        return f"≤ {write(high)}{_after(unit)}, no lower bound"
    return f"≥ {write(low)}{_after(unit)}, no upper bound" if low else "not resolved"


def _after(unit: str) -> str:
    return f" {unit}" if unit else ""


def _digits_for(estimate: Interval) -> Callable[[float], str]:
    """Two digits of the half width, at least two and at most four of each number."""
    low, high = estimate.low, estimate.high
    if low is None or high is None or low == high:
        return significant
    supported = _exponent(high / 2 - low / 2) - 1

    def write(number: float) -> str:
        leading = _exponent(number)
        return _rounded(number, min(max(supported, leading - 3), leading - 1))

    return write
