"""The noise scale of every checkpoint as a mark with its interval, on a logarithmic line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bsadvisor.report import numbers
from bsadvisor.values import Estimate

LONGEST = 36

SHORTEST = 8


def trend_chart(scales: Sequence[Estimate], *, cells: int, unicode: bool) -> list[str]:
    """One line of `cells` characters per estimate: `├──●───┤`, open where there is no such end.

    Empty strings where nothing is known.
    """
    ends = [end for scale in scales for end in (scale.low, scale.value, scale.high) if end and end > 0]
    if not ends:
        return ["" for _ in scales]
    low, high = math.log(min(ends)), math.log(max(ends))
    width = max(high - low, 1e-9)

    def place(number: float) -> int:
        return round((math.log(number) - low) / width * (cells - 1)) if high > low else 0

    return [_line(scale, place, cells, unicode=unicode) for scale in scales]


def _line(scale: Estimate, place: Callable[[float], int], cells: int, *, unicode: bool) -> str:
    left, right, bar, mark, open_left, open_right = "├┤─●╶╶" if unicode else "||-*<>"
    if not scale.low and not scale.value and not scale.high:
        return ""
    first = place(scale.low) if scale.low and scale.low > 0 else 0
    last = place(scale.high) if scale.high else cells - 1
    line = [" "] * cells
    line[first : last + 1] = bar * (last + 1 - first)
    line[first] = left if scale.low and scale.low > 0 else open_left
    line[last] = right if scale.high else open_right
    if scale.value and scale.value > 0:
        line[place(scale.value)] = mark
    return "".join(line)


def axis(scales: Sequence[Estimate], *, cells: int) -> str:
    """The ends of the line."""
    ends = [end for scale in scales for end in (scale.low, scale.value, scale.high) if end and end > 0]
    if not ends:
        return ""
    low, high = (numbers.significant(end) for end in (min(ends), max(ends)))
    return f"{low}{high:>{max(cells - len(low), len(high) + 1)}}"
