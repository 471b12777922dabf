"""`bsadvisor selftest`: does it tell the truth on this machine?"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bsadvisor.cli.output import publish
from bsadvisor.errors import EXIT_BUG, EXIT_DONE

EXAMPLES = """
\b
Examples:
  bsadvisor selftest
  bsadvisor selftest --device cuda
"""


def selftest(
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cuda, mps or cpu; default: the best one here.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="Of every random choice.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
) -> None:
    """Measure problems with known answers on this machine. Exit code 1 where one is missed."""
    from bsadvisor import pipeline
    from bsadvisor.report.selftest import selftest_table

    results = pipeline.selftest(device, seed, _keep_silent if quiet else _say)
    publish(selftest_table(results), sys.stdout)
    raise typer.Exit(EXIT_DONE if all(result.passed for result in results) else EXIT_BUG)


def _say(what: str) -> None:
    print(what, file=sys.stderr)


def _keep_silent(what: str) -> None:
    """For `--quiet`."""
