"""`bsadvisor track`: the noise scale over a run, and a batch-size ramp for the next one."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bsadvisor.cli import flags
from bsadvisor.cli.output import check_writable, choose_format, publish_report, take_stdout, write_file
from bsadvisor.errors import EXIT_DONE, EXIT_INCONCLUSIVE
from bsadvisor.settings import ProbeSettings, TargetRequest

if TYPE_CHECKING:
    from bsadvisor.pipeline import StopSignal
    from bsadvisor.values import TrackReport

EXAMPLES = """
\\b
Examples:
  bsadvisor track model.py runs/step-*.pt
  bsadvisor track model.py runs/step-*.pt --time-budget 600 --output track.json

\\b
Exit codes: 0 done, 2 wrong usage, 4 a checkpoint or the target could not be loaded or run or the
output not written, 5 nothing could be resolved, 130 and 143 interrupted (what was measured is reported).
"""

_DEFAULTS = ProbeSettings(time_budget=300.0)


def track(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="FILE.py or FILE.py:NAME.")],
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="CHECKPOINT...", help="Of one run, in any order.")
    ],
    config: flags.Config = None,
    data: flags.Data = None,
    batch_size: flags.BatchSize = None,
    lr: flags.LearningRate = None,
    optimizer: flags.Optimizer = None,
    device: flags.Device = None,
    dtype: flags.Dtype = None,
    micro_batch: flags.MicroBatch = None,
    max_examples: flags.MaxExamples = None,
    loss: flags.Loss = None,
    precision: flags.Precision = _DEFAULTS.precision,
    time_budget: flags.TimeBudget = _DEFAULTS.time_budget,
    confidence: flags.Confidence = _DEFAULTS.confidence,
    seed: flags.Seed = _DEFAULTS.seed,
    format: flags.ReportFormat = None,
    output: flags.Output = None,
    quiet: flags.Quiet = False,
    trust_checkpoint: flags.TrustCheckpoint = False,
) -> None:
    """Follow the noise scale over a run's checkpoints. Where larger batches late in the run are expected to end
    it lower, a ramp of the batch size for the next run is given, with ready settings."""
    from bsadvisor import report as reports
    from bsadvisor.cli.measuring import keep_silent, refuse_unusable, say
    from bsadvisor.cli.progress import progress_bar
    from bsadvisor.cli.signals import heeding_signals
    from bsadvisor.pipeline import StopSignal
    from bsadvisor.pipeline.tracking import track as measure

    request = TargetRequest(
        target=target,
        config=config,
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
        seed=seed,
    )
    refuse_unusable(settings)
    chosen = choose_format(format, output)
    if output:
        check_writable(output)
    stop = StopSignal()
    with take_stdout() as stdout:
        with heeding_signals(stop), progress_bar(shown=sys.stderr.isatty() and not quiet) as progress:
            found = measure(
                request,
                checkpoints,
                settings,
                progress=progress,
                notify=keep_silent if quiet else say,
                stop=stop,
            )
        if output:
            write_file(output, reports.render(found, chosen))
        else:
            publish_report(found, chosen, stdout)
    raise typer.Exit(_exit_code(found, stop))


def _exit_code(found: TrackReport, stop: StopSignal) -> int:
    from bsadvisor.cli.signals import stopped_exit_code

    if stop.requested:
        return stopped_exit_code(stop)
    resolved = any(one.noise_scale_simple.value is not None for one in found.checkpoints)
    return EXIT_DONE if resolved else EXIT_INCONCLUSIVE
