"""`bsadvisor check`: the preflight, which says yes, no or cannot tell."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bsadvisor.cli import flags
from bsadvisor.cli.output import (
    CheckFormat,
    check_writable,
    choose_check_format,
    publish_rendered,
    take_stdout,
    write_file,
)
from bsadvisor.cli.saved import read_report
from bsadvisor.errors import UsageError
from bsadvisor.settings import ProbeSettings, RuleSeverity, TargetRequest

EXAMPLES = """
\b
Examples:
  bsadvisor check report.json --batch-size 1024 --lr 1e-3
  bsadvisor check model.py --config bsadvisor.yaml --format github
  bsadvisor check runs/a.json runs/b.json --batch-size 512 --output check.xml
  bsadvisor probe model.py --format json | bsadvisor check - --batch-size 512
  bsadvisor check report.json --lr 3e-3 --rule learning_rate=limit

\b
Exit codes: 0 the pair is fine, 3 it violates a rule, 5 no rule could be judged, 2 wrong usage,
4 a target or report that cannot be read. Of several targets the worst: 2, then 4, 3, 5, 0.
"""

_DEFAULTS = ProbeSettings()

_OF_A_TARGET = ("checkpoint", "data", "loss", "optimizer", "device", "dtype")

_OF_A_PROBE = ("precision", "time_budget", "max_examples", "micro_batch", "confidence", "seed")


def check(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET|REPORT.json|-]",
            help="FILE.py[:NAME], which is probed first; a saved report; or - for a report on stdin.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Judged: examples per optimizer step, over all devices.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(metavar="RATE", help="Judged: the learning rate at its peak.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="YAML with the rules, and the pair; default: bsadvisor.yaml."),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A rule as in the YAML; may be repeated."),
    ] = None,
    fail_on: Annotated[
        RuleSeverity | None, typer.Option(help="The least severe violation that fails; default: error.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="OLD.json", help="An older report: for max_drift, and as a pair to start from."),
    ] = None,
    allow_inconclusive: Annotated[
        bool, typer.Option("--allow-inconclusive", help="Exit with 0 where no rule could be judged.")
    ] = False,
    format: Annotated[
        CheckFormat | None, typer.Option(help="Default: by the ending of --output, else text.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the result there instead of to stdout.")
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Write it there, too, by the ending: .json, .yaml, .md or .xml."),
    ] = None,
    checkpoint: flags.Checkpoint = None,
    data: flags.Data = None,
    loss: flags.Loss = None,
    optimizer: flags.Optimizer = None,
    device: flags.Device = None,
    dtype: flags.Dtype = None,
    micro_batch: flags.MicroBatch = None,
    max_examples: flags.MaxExamples = None,
    precision: flags.Precision = _DEFAULTS.precision,
    time_budget: flags.TimeBudget = _DEFAULTS.time_budget,
    confidence: flags.Confidence = _DEFAULTS.confidence,
    seed: flags.Seed = _DEFAULTS.seed,
    no_curvature: flags.NoCurvature = False,
    quiet: flags.Quiet = False,
    trust_checkpoint: flags.TrustCheckpoint = False,
) -> None:
    """Judge a pair before a run: yes, no, or cannot tell. Flags and YAML say what is judged; what it is
    judged from comes from the checkpoint, the file or a report."""
    from bsadvisor import report as reports
    from bsadvisor.cli.checking import Checker, is_report, refuse_doubles
    from bsadvisor.cli.measuring import refuse_unusable
    from bsadvisor.pipeline import StopSignal
    from bsadvisor.pipeline.checking import CheckSettings

    request = TargetRequest(
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
    probing = ProbeSettings(
        precision=precision,
        time_budget=time_budget,
        max_examples=max_examples,
        micro_batch=micro_batch,
        confidence=confidence,
        curvature=not no_curvature,
        seed=seed,
    )
    names = targets or []
    refuse_doubles(names, "give every target once")
    if baseline is not None and (baseline == "-" or len(names) == 1):
        refuse_doubles([*names, baseline], "a baseline is another report, made before")
    refuse_unusable(probing)
    if names and all(map(is_report, names)):
        _refuse_what_only_a_probe_heeds(request, probing)
    written = [path for path in (output, *(also or ())) if path is not None]
    refuse_doubles(list(map(str, written)), "give every file once")
    for path in written:
        check_writable(path)
    chosen = choose_check_format(format, output)
    kinds = {path: choose_check_format(None, path) for path in also or ()}
    checker = Checker(
        request=request,
        probing=probing,
        settings=CheckSettings(
            rules=rule or (), fail_on=fail_on, baseline=read_report(baseline) if baseline else None
        ),
        allow_inconclusive=allow_inconclusive,
        told_to_ci=bool({chosen, *kinds.values()} & {"github", "junit"}),
        quiet=quiet,
        stop=StopSignal(),
    )
    with take_stdout() as stdout:
        summary = checker.check(names or [None])
        for path, kind in kinds.items():
            write_file(path, reports.render_check(summary, kind))
        if output:
            write_file(output, reports.render_check(summary, chosen))
        else:
            publish_rendered(partial(reports.render_check, summary, chosen), stdout)
    raise typer.Exit(summary.exit_code)


def _refuse_what_only_a_probe_heeds(request: TargetRequest, probing: ProbeSettings) -> None:
    """A saved report was measured already."""
    typed = {
        **{name: getattr(request, name) is not None for name in _OF_A_TARGET},
        **{name: getattr(probing, name) != getattr(_DEFAULTS, name) for name in _OF_A_PROBE},
        "no_curvature": not probing.curvature,
    }
    flag = next((name.replace("_", "-") for name, given in typed.items() if given), None)
    if flag is not None:
        raise UsageError(
            f"--{flag} means nothing for a saved report", "leave it out, or check a target: model.py"
        )
