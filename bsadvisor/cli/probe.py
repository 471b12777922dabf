"""`bsadvisor probe`: the main job."""

from __future__ import annotations

from typing import Annotated

import typer

from bsadvisor.cli import flags
from bsadvisor.settings import ProbeSettings, TargetRequest, TrialSettings

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
    target: flags.Target = None,
    checkpoint: flags.Checkpoint = None,
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
    no_curvature: flags.NoCurvature = False,
    trial: Annotated[
        bool | None,
        typer.Option(
            "--trial/--no-trial",
            help="Measure the pairs by training, too; default: where that fits into the time budget.",
        ),
    ] = None,
    horizon: flags.Horizon = _DEFAULTS.trial.horizon,
    target_loss: flags.TargetLoss = None,
    keep_betas: flags.KeepBetas = False,
    resume: flags.Resume = None,
    format: flags.ReportFormat = None,
    output: flags.Output = None,
    quiet: flags.Quiet = False,
    trust_checkpoint: flags.TrustCheckpoint = False,
) -> None:
    """Measure a model and recommend batch sizes. Each comes with its learning rate, and every number
    with its uncertainty: on standard output, where nothing else is printed."""
    from bsadvisor.cli.measuring import measure_and_publish, refuse_unusable

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
        trial=TrialSettings(
            when="if_it_fits" if trial is None else "always" if trial else "never",
            horizon=horizon,
            target_loss=target_loss,
            keep_betas=keep_betas,
        ),
    )
    refuse_unusable(settings)
    measure_and_publish("probe", request, settings, resume=resume, format=format, output=output, quiet=quiet)
