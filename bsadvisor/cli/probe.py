"""`bsadvisor probe`: the main job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bsadvisor import pipeline
from bsadvisor import report as reports
from bsadvisor.cli.output import (
    Format,
    check_writable,
    choose_format,
    publish_report,
    take_stdout,
    write_file,
)
from bsadvisor.cli.progress import progress_bar
from bsadvisor.cli.saved import read_report, state_beside
from bsadvisor.cli.signals import heeding_signals, stopped_exit_code
from bsadvisor.errors import EXIT_DONE, EXIT_INCONCLUSIVE, UsageError
from bsadvisor.pipeline import StopSignal
from bsadvisor.values import ProbeSettings, Report, TargetRequest

EXAMPLES = """
\b
Examples:
  bsadvisor probe model.py
  bsadvisor probe model.py:build --checkpoint runs/last.pt --batch-size 256 --lr 3e-4
  bsadvisor probe model.py --format json | jq .recommendations
  bsadvisor probe model.py --output report.json --time-budget 10
  bsadvisor probe model.py --output report.json --resume report.json

\b
Exit codes: 0 done, 2 wrong usage, 4 the target could not be loaded or run or the output not
written, 5 nothing could be resolved, 130 and 143 interrupted (the partial report is written).
"""

_DEFAULTS = ProbeSettings()


def probe(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]",
            help="FILE.py or FILE.py:NAME; may be left out where bsadvisor.yaml names the model.",
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Weights, and optimizer state if there is any."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="YAML settings; default: bsadvisor.yaml beside TARGET or here."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FILE.py:NAME", help="Training data; default: `data` in TARGET.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="In use today: examples per optimizer step, over all devices."),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(metavar="RATE", help="Learning rate in use today, at its peak.")
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of torch.optim: sgd, adamw, ...")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cuda, mps or cpu; default: the best one here.")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Cast the weights: float32, bfloat16, float16, float64."),
    ] = None,
    micro_batch: Annotated[
        int | None, typer.Option(metavar="N", help="Examples per gradient; default: chosen.")
    ] = None,
    max_examples: Annotated[
        int | None, typer.Option(metavar="N", help="Measure no more examples than this.")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(metavar="LOSS", help="cross_entropy, mse or FILE.py:NAME; default: `loss` in TARGET."),
    ] = None,
    precision: Annotated[
        float,
        typer.Option(metavar="P", help="Stop when half the interval of B_simple is below P times its value."),
    ] = _DEFAULTS.precision,
    time_budget: Annotated[
        float, typer.Option(metavar="SECONDS", help="Stop measuring after so long.")
    ] = _DEFAULTS.time_budget,
    confidence: Annotated[
        float, typer.Option(metavar="C", help="Of every interval, between 0 and 1.")
    ] = _DEFAULTS.confidence,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="Of every random choice.")
    ] = _DEFAULTS.seed,
    no_curvature: Annotated[
        bool,
        typer.Option("--no-curvature", help="Leave out B_noise, the stability limit and the saddle verdict."),
    ] = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="REPORT.json", help="Go on from the report of an unfinished probe.")
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="Default: by the ending of --output, else text.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report there instead of to stdout.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress and no notes on stderr.")] = False,
    trust_checkpoint: Annotated[
        bool,
        typer.Option("--trust-checkpoint", help="Load a checkpoint that runs code. Only one of your own!"),
    ] = False,
) -> None:
    """Measure a model and recommend batch sizes. Each comes with its learning rate, and every number
    with its uncertainty: on standard output, where nothing else is printed."""
    request = TargetRequest(
        target=target,
        config=config,
        checkpoint=checkpoint,
        data=data,
        loss=loss,
        optimizer=optimizer,
        batch_size=batch_size,
        learning_rate=lr,
        device=device,
        dtype=dtype,
        trust_checkpoint=trust_checkpoint,
    )
    settings = ProbeSettings(
        precision=precision,
        time_budget=time_budget,
        max_examples=max_examples,
        micro_batch=micro_batch,
        confidence=confidence,
        curvature=not no_curvature,
        seed=seed,
    )
    refuse_unusable(settings)
    chosen = choose_format(format, output)
    if output:
        check_writable(output)
    if resume:
        read_report(str(resume))
    stop = StopSignal()
    with take_stdout() as stdout:
        with heeding_signals(stop), progress_bar(shown=sys.stderr.isatty() and not quiet) as progress:
            report = pipeline.probe(
                request,
                settings,
                progress=progress,
                notify=keep_silent if quiet else say,
                stop=stop,
                resume=state_beside(resume) if resume else None,
                sidecar=state_beside(output) if output and chosen == "json" else None,
            )
        if output:
            write_file(output, reports.render(report, chosen))
        else:
            publish_report(report, chosen, stdout)
    raise typer.Exit(_exit_code(report, stop))


def refuse_unusable(settings: ProbeSettings) -> None:
    """Refuse values that nothing can be measured with; a NaN fails every comparison."""
    flags: dict[str, float | None] = {
        "--max-examples": settings.max_examples,
        "--micro-batch": settings.micro_batch,
        "--precision": settings.precision,
        "--time-budget": settings.time_budget,
    }
    for flag, number in flags.items():
        if number is not None and not number > 0:
            raise UsageError(f"{flag} {number} is not above 0", f"give {flag} a number above 0")
    if not 0 < settings.confidence < 1:
        raise UsageError(f"--confidence {settings.confidence} is no probability", "give --confidence 0.95")


def _exit_code(report: Report, stop: StopSignal) -> int:
    if stop.requested:
        return stopped_exit_code(stop)
    return EXIT_INCONCLUSIVE if report.gradient.noise_scale_simple.value is None else EXIT_DONE


def say(note: str) -> None:
    """What a waiting person should know."""
    print(f"note: {note}", file=sys.stderr)


def keep_silent(note: str) -> None:
    """For `--quiet`."""
