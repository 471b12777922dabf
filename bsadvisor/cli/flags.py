"""Flags that several commands share: each is written down once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bsadvisor.cli.output import Format

Target = Annotated[
    str | None,
    typer.Argument(
        metavar="[TARGET]",
        help="FILE.py or FILE.py:NAME; may be left out where bsadvisor.yaml names the model.",
    ),
]
Checkpoint = Annotated[
    str | None, typer.Option(metavar="PATH", help="Weights, and optimizer state if there is any.")
]
Config = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="YAML settings; default: bsadvisor.yaml beside TARGET or here."),
]
Data = Annotated[
    str | None, typer.Option(metavar="FILE.py:NAME", help="Training data; default: `data` in TARGET.")
]
BatchSize = Annotated[
    int | None,
    typer.Option(metavar="N", help="In use today: examples per optimizer step, over all devices."),
]
LearningRate = Annotated[
    float | None, typer.Option("--lr", metavar="RATE", help="Learning rate in use today, at its peak.")
]
Optimizer = Annotated[str | None, typer.Option(metavar="NAME", help="Of torch.optim: sgd, adamw, ...")]
Device = Annotated[
    str | None, typer.Option(metavar="NAME", help="cuda, mps or cpu; default: the best one here.")
]
Dtype = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Cast the weights: float32, bfloat16, float16, float64."),
]
MicroBatch = Annotated[int | None, typer.Option(metavar="N", help="Examples per gradient; default: chosen.")]
MaxExamples = Annotated[int | None, typer.Option(metavar="N", help="Measure no more examples than this.")]
Precision = Annotated[
    float,
    typer.Option(metavar="P", help="Stop when half the interval of B_simple is below P times its value."),
]
NoCurvature = Annotated[
    bool,
    typer.Option("--no-curvature", help="Leave out B_noise, the stability limit and the saddle verdict."),
]
Loss = Annotated[
    str | None,
    typer.Option(metavar="LOSS", help="cross_entropy, mse or FILE.py:NAME; default: `loss` in TARGET."),
]
TimeBudget = Annotated[float, typer.Option(metavar="SECONDS", help="Stop measuring after so long.")]
Confidence = Annotated[float, typer.Option(metavar="C", help="Of every interval, between 0 and 1.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="Of every random choice.")]
Horizon = Annotated[
    int,
    typer.Option(metavar="STEPS", help="Of the trial: its target is the loss so many steps ahead."),
]
TargetLoss = Annotated[float | None, typer.Option(metavar="LOSS", help="Of the trial, instead of --horizon.")]
KeepBetas = Annotated[
    bool, typer.Option("--keep-betas", help="In the trial, do not adapt beta_2 to the batch size.")
]
Resume = Annotated[
    Path | None, typer.Option(metavar="REPORT.json", help="Go on from the report of an unfinished run.")
]
ReportFormat = Annotated[Format | None, typer.Option(help="Default: by the ending of --output, else text.")]
Output = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write the report there instead of to stdout.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes on stderr.")]
TrustCheckpoint = Annotated[
    bool,
    typer.Option("--trust-checkpoint", help="Load a checkpoint that runs code. Only one of your own!"),
]
