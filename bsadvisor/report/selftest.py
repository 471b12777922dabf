"""The answers of `bsadvisor selftest`, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from bsadvisor.report import numbers
from bsadvisor.values import SelftestResult

HEADINGS = ("problem", "quantity", "truth", "answer", "")


def selftest_table(results: Sequence[SelftestResult]) -> str:
    """A line per known answer: the truth, what was measured, and whether one holds the other."""
    rows = [HEADINGS, *map(_row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(line.rstrip() + "\n" for line in lines)


def _row(result: SelftestResult) -> tuple[str, ...]:
    truth, answer = numbers.significant(result.truth, digits=4), numbers.interval(result.estimate)
    return result.name, result.quantity, truth, answer, "ok" if result.passed else "WRONG"
