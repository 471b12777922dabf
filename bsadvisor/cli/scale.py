"""`bsadvisor scale`: what learning rate at another batch size?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bsadvisor.cli.output import Format, check_writable, choose_format, publish_report, write_file
from bsadvisor.cli.saved import read_report
from bsadvisor.errors import UsageError
from bsadvisor.settings import LARGEST_BATCH, ScaleRequest

EXAMPLES = """
\b
Examples:
  bsadvisor scale --from-batch 256 --from-lr 3e-4 --to-batch 2048 --optimizer adamw
  bsadvisor scale --to-batch 2048 --report report.json
  bsadvisor scale --from-batch 64 --from-lr 0.1 --to-batch 16 --optimizer sgd --format json
"""

RATES = (1e-20, 1e6)


def scale(
    to_batch: Annotated[int, typer.Option(metavar="N", help="The batch size to go to, in examples.")],
    from_batch: Annotated[
        int | None, typer.Option(metavar="N", help="The batch size that works; default: the report's.")
    ] = None,
    from_lr: Annotated[
        float | None, typer.Option(metavar="RATE", help="Its learning rate; default: the report's.")
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(metavar="NAME", help="sgd, adamw, ...; default: the report's.")
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            metavar="REPORT.json", help="A saved report of probe, for its noise scale; - for stdin."
        ),
    ] = None,
    betas: Annotated[
        tuple[float, float] | None, typer.Option(metavar="B1 B2", help="Of Adam, at --from-batch.")
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(metavar="RATE", help="In use at --from-batch.")
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="Default: by the ending of --output, else text.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write there instead of to stdout.")
    ] = None,
) -> None:
    """Say what learning rate fits another batch size. Every named scaling rule stands beside the recommended
    one, with whether it holds here."""
    from bsadvisor import pipeline
    from bsadvisor import report as reports

    request = ScaleRequest(
        to_batch_size=to_batch,
        from_batch_size=from_batch,
        from_learning_rate=from_lr,
        optimizer=optimizer,
        betas=betas,
        weight_decay=weight_decay,
    )
    _check(request)
    chosen = choose_format(format, output)
    if output:
        check_writable(output)
    answer = pipeline.scale(request, read_report(report) if report else None)
    if output:
        write_file(output, reports.render(answer, chosen))
    else:
        publish_report(answer, chosen, sys.stdout)


def _check(request: ScaleRequest) -> None:
    """Refuse what no rule can start from; a NaN fails every comparison."""
    for flag, size in (("--from-batch", request.from_batch_size), ("--to-batch", request.to_batch_size)):
        if size is not None and not 1 <= size <= LARGEST_BATCH:
            raise UsageError(
                f"{flag} {size} is no batch size", f"give {flag} a whole number of examples from 1 on"
            )
    rate, (least, most) = request.from_learning_rate, RATES
    if rate is not None and not least <= rate <= most:
        raise UsageError(f"--from-lr {rate} is no learning rate", "give --from-lr one above 0, such as 3e-4")
    if request.betas is not None and not all(0 <= beta < 1 for beta in request.betas):
        raise UsageError(
            "--betas {} {} are not both from 0 to below 1".format(*request.betas), "give --betas 0.9 0.999"
        )
    decay = request.weight_decay
    if decay is not None and not 0 <= decay <= most:
        raise UsageError(f"--weight-decay {decay} is none", "give --weight-decay 0 or above, such as 0.1")
