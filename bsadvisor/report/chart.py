"""What each batch size costs in steps and in examples, as bars that grow from the middle."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bsadvisor.report import numbers
from bsadvisor.values import Recommendation

LONGEST_BAR = 22

LEFT, RIGHT = "steps over the least", "examples over the least"


def chart(rows: Sequence[Recommendation], *, width: int, unicode: bool) -> list[str]:
    """One line per batch size, logarithmic: the critical batch size is where both bars are equal.

    Empty where there is no choice to draw, or no room.
    """
    batches = [numbers.integer(row.batch_size) for row in rows]
    steps = [row.steps_over_minimum for row in rows]
    examples = [row.examples_over_minimum for row in rows]
    top = max([*steps, *examples], default=1.0)
    labels = max(map(len, batches), default=0)
    figures = max((len(numbers.ratio(cost)) for cost in [*steps, *examples]), default=0)
    cells = min(LONGEST_BAR, (width - labels - 2 * figures - len("      ")) // 2)
    side = cells + 1 + figures
    if len(rows) < 2 or top <= 1 or side < len(RIGHT):
        return []
    lines = [f"{'':{labels}}  {LEFT:>{side}}  {RIGHT}"]
    full = "━" if unicode else "="
    for batch, step, example in zip(batches, steps, examples, strict=True):
        left = _bar(step, top, cells, "╺" if unicode else "=", full)
        right = _bar(example, top, cells, "╸" if unicode else "=", full)[::-1]
        middle = f"{numbers.ratio(step):>{figures}}  {numbers.ratio(example):<{figures}}"
        lines.append(f"{batch:>{labels}}  {left:>{cells}} {middle} {right}".rstrip())
    return lines


def _bar(cost: float, top: float, cells: int, half: str, full: str) -> str:
    """A bar that starts at its right, in half cells."""
    halves = round(2 * cells * math.log(max(cost, 1.0)) / math.log(top))
    return half * (halves % 2) + full * (halves // 2)
