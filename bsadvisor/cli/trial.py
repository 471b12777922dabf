"""`bsadvisor trial`: the critical batch size and the learning rates, measured by training."""

from __future__ import annotations

from typing import Annotated

import typer

from bsadvisor.cli import flags
from bsadvisor.settings import ProbeSettings, TargetRequest, TrialSettings

EXAMPLES = """
\b
Examples:
  bsadvisor trial model.py --dry-run
  bsadvisor trial model.py --checkpoint runs/last.pt
  bsadvisor trial model.py --horizon 300 --time-budget 1800 --output report.json
  bsadvisor trial model.py --output report.json --resume report.json

\b
Exit codes: 0 done, 2 wrong usage, 4 the target could not be loaded or run or the output not
written, 5 the target loss was not reached, 130 and 143 interrupted (the partial report is written).
"""

TIME_BUDGET = 600.0

_DEFAULTS = ProbeSettings()


def trial(
    target: flags.Target = None,
    checkpoint: flags.Checkpoint = None,
    config: flags.Config = None,
    data: flags.Data = None,
    batch_size: flags.BatchSize = None,
    lr: flags.LearningRate = None,
    optimizer: flags.Optimizer = None,
    device: flags.Device = None,
    dtype: flags.Dtype = None,
    loss: flags.Loss = None,
    horizon: flags.Horizon = _DEFAULTS.trial.horizon,
    target_loss: flags.TargetLoss = None,
    keep_betas: flags.KeepBetas = False,
    time_budget: flags.TimeBudget = TIME_BUDGET,
    max_examples: Annotated[
        int | None,
        typer.Option(metavar="N", help="Train on no more examples than this, in all runs together."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be run, and how long it would take.")
    ] = False,
    seed: flags.Seed = _DEFAULTS.seed,
    resume: flags.Resume = None,
    format: flags.ReportFormat = None,
    output: flags.Output = None,
    quiet: flags.Quiet = False,
    trust_checkpoint: flags.TrustCheckpoint = False,
) -> None:
    """Measure the critical batch size by training. Short runs start at the checkpoint with several pairs,
    and count the steps to the same loss; the model and its files stay as they are."""
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
        time_budget=time_budget,
        curvature=False,
        seed=seed,
        trial=TrialSettings(
            when="always",
            horizon=horizon,
            target_loss=target_loss,
            keep_betas=keep_betas,
            max_examples=max_examples,
            dry_run=dry_run,
        ),
    )
    refuse_unusable(settings)
    measure_and_publish("trial", request, settings, resume=resume, format=format, output=output, quiet=quiet)
