"""`bsadvisor selftest`: does it tell the truth on this machine?"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bsadvisor import pipeline
from bsadvisor.cli.output import publish
from bsadvisor.errors import EXIT_BUG, EXIT_DONE
from bsadvisor.report import numbers
from bsadvisor.values import SelftestResult

EXAMPLES = """
\b
Examples:
  bsadvisor selftest
  bsadvisor selftest --device cuda
"""

HEADINGS = ("problem", "quantity", "truth", "answer", "")


def selftest(
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cuda, mps or cpu; default: the best one here.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="Of every random choice.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
) -> None:
    """Measure problems with known answers on this machine. Exit code 1 where one is missed."""
    results = pipeline.selftest(device, seed, _keep_silent if quiet else _say)
    publish(_table(results), sys.stdout)
    raise typer.Exit(EXIT_DONE if all(result.passed for result in results) else EXIT_BUG)


def _table(results: tuple[SelftestResult, ...]) -> str:
    rows = [HEADINGS, *map(_row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "".join(line.rstrip() + "\n" for line in lines)


def _row(result: SelftestResult) -> tuple[str, ...]:
    truth, answer = numbers.significant(result.truth, digits=4), numbers.interval(result.estimate)
    return result.name, result.quantity, truth, answer, "ok" if result.passed else "WRONG"


def _say(what: str) -> None:
    print(what, file=sys.stderr)


def _keep_silent(what: str) -> None:
    """For `--quiet`."""
