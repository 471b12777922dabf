"""`bsadvisor show`: a saved report again, in any format."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bsadvisor.cli.output import Format, check_writable, choose_format, publish_report, write_file
from bsadvisor.cli.saved import read_report

EXAMPLES = """
\b
Examples:
  bsadvisor show report.json
  bsadvisor show report.json --format markdown >> $GITHUB_STEP_SUMMARY
  bsadvisor probe model.py --format json | tee report.json | bsadvisor show -
"""


def show(
    report: Annotated[str, typer.Argument(metavar="REPORT.json", help="A saved report; - for stdin.")],
    format: Annotated[
        Format | None, typer.Option(help="Default: by the ending of --output, else text.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there instead of to stdout.")
    ] = None,
) -> None:
    """Render a saved report again, without the model."""
    from bsadvisor import report as reports

    if output:
        check_writable(output)
    saved = read_report(report)
    chosen = choose_format(format, output)
    if output:
        write_file(output, reports.render(saved, chosen))
    else:
        publish_report(saved, chosen, sys.stdout)
