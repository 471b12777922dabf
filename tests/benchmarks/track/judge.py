"""Does the ramp that `track` advises end lower than constant batch sizes, and where it advises none, would one?

    BSADVISOR_DATA=DIR python -m tests.benchmarks.track [--seeds 6] [--only NAME] [--write]

For every case the run's own pair is trained for 1,000 steps and its checkpoints are tracked. Then, on the same
number of examples and over the same seeds: the pair in use throughout; the ramp (where none is advised, one of two
doublings, to see whether that was right); and, throughout, the batch size that takes as many steps as the
ramp, with the learning rate unchanged or by the tool's rule, whichever ends lower. Losses are held-out ones, means
over the seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from bsadvisor.advise.pairs import PairInUse
from bsadvisor.advise.ramp import Worth, ramp_with
from bsadvisor.pipeline import StopSignal
from bsadvisor.pipeline.tracking import track
from bsadvisor.settings import ProbeSettings, TargetRequest
from bsadvisor.theory.annealing import Noise, Slope
from bsadvisor.theory.scaling import SATURATING_POWER, Family, saturating_power
from bsadvisor.values import RampStage, TrackReport
from tests.benchmarks.accuracy.cases import Case
from tests.benchmarks.track.cases import FRESH, STEPS, TEST, Seen, Stage, case_named, train

RESULTS = Path(__file__).parents[1] / "results" / "track.json"

FINAL = 4
"""Evaluations that are averaged at the end of a run."""

SMOOTHED = 3
"""Evaluations that are averaged on the way."""


def judge(name: str, seeds: int, *, steps: int = STEPS) -> dict[str, Any]:
    """Train, track, and run what is advised."""
    case = case_named(name)
    base, rate, examples = case.batch_size, case.learning_rate, case.batch_size * steps
    with tempfile.TemporaryDirectory() as folder:
        constant = [Stage(from_example=0, batch_size=base, learning_rate=rate)]
        first = train(name, constant, 0, examples=examples, folder=Path(folder))
        tracked = _track(name, Path(folder))
    ramp = _stages(tracked, case, examples)
    mean_batch = round(examples / _steps(ramp, examples))

    def runs(schedule: Sequence[Stage]) -> list[list[Seen]]:
        return [train(name, schedule, seed, examples=examples) for seed in range(seeds)]

    at_mean = min(
        (
            runs([Stage(from_example=0, batch_size=mean_batch, learning_rate=rate * factor)])
            for factor in (1.0, _rule(case, mean_batch, tracked))
        ),
        key=final_loss,
    )
    small = [first, *(train(name, constant, seed, examples=examples) for seed in range(1, seeds))]
    ramped = runs(
        [Stage(from_example=s.from_example, batch_size=s.batch_size, learning_rate=rate) for s in ramp]
    )
    return _row(name, tracked, ramp, small=small, at_mean=at_mean, ramped=ramped)


def _track(name: str, folder: Path) -> TrackReport:
    os.environ["BSADVISOR_CASE"] = name
    return track(
        TargetRequest(target=str(Path(__file__).with_name("target.py"))),
        [str(path) for path in folder.glob("*.pt")],
        ProbeSettings(time_budget=1e6, max_examples=2048),
        progress=lambda step: None,
        notify=lambda note: None,
        stop=StopSignal(),
    )


def _stages(tracked: TrackReport, case: Case, examples: int) -> tuple[RampStage, ...]:
    """As advised, or of two doublings."""
    if tracked.ramp:
        return tracked.ramp
    about = tracked.target
    pair = PairInUse(
        batch_size=case.batch_size, learning_rate=case.learning_rate, optimizer=about.optimizer_details
    )
    flat = Slope(value=0.0, low=0.0, high=0.0, scatter=0.0)
    nothing = Worth(noise=Noise(value=0.0), noise_from="gradients", slope=flat, loss_of="heldout")
    return ramp_with(pair, case.batch_size, examples, 2, nothing).stages


def _steps(ramp: Sequence[RampStage], examples: int) -> int:
    last = ramp[-1]
    return last.from_step + math.ceil((examples - last.from_example) / last.batch_size)


def _rule(case: Case, batch_size: int, tracked: TrackReport) -> float:
    """Of the learning rate, by the rule that the tool recommends pairs with."""
    family: Family = "adam" if case.optimizer == "adamw" else "sgd"
    scale = next((trend.last for trend in tracked.trends if trend.against == "step"), 1e9)
    return saturating_power(batch_size, case.batch_size, scale, SATURATING_POWER[family])


# --- what came out ------------------------------------------------------------------------------


def final_loss(runs: Sequence[Sequence[Seen]]) -> float:
    return mean(_finals(runs))


def _finals(runs: Sequence[Sequence[Seen]]) -> list[float]:
    return [mean(seen.loss for seen in run[-FINAL:]) for run in runs]


def steps_to(runs: Sequence[Sequence[Seen]], loss: float) -> int | None:
    """Steps after which the smoothed mean over the seeds is at the loss or below, and stays there; None: never."""
    means = [mean(run[index].loss for run in runs) for index in range(len(runs[0]))]
    reached = runs[0][-1].steps if final_loss(runs) <= loss else None
    for index in range(len(means) - 1, SMOOTHED - 2, -1):
        if mean(means[index - SMOOTHED + 1 : index + 1]) > loss:
            break
        reached = runs[0][index].steps
    return reached


def _row(
    name: str,
    tracked: TrackReport,
    ramp: Sequence[RampStage],
    *,
    small: Sequence[Sequence[Seen]],
    at_mean: Sequence[Sequence[Seen]],
    ramped: Sequence[Sequence[Seen]],
) -> dict[str, Any]:
    kinds = {"small": small, "mean": at_mean, "ramp": ramped}
    losses = {kind: final_loss(runs) for kind, runs in kinds.items()}
    differences = [a - b for a, b in zip(_finals(ramped), _finals(small), strict=True)]
    trend = next((trend for trend in tracked.trends if trend.against == "step"), None)
    change = tracked.ramp_summary.loss_change if tracked.ramp_summary else None
    return {
        "case": name,
        "seeds": len(small),
        "advised": bool(tracked.ramp),
        "reason": tracked.ramp_reason,
        "ramp": [[stage.from_step, stage.batch_size] for stage in ramp],
        "growth": [trend.growth.value, trend.growth.low, trend.growth.high] if trend else None,
        "predicted_change": [change.value, change.low, change.high] if change else None,
        "change": losses["ramp"] - losses["small"],
        "change_error": stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else None,
        "final_loss": losses,
        "steps": {kind: runs[0][-1].steps for kind, runs in kinds.items()},
        "steps_to_loss_of_mean": {kind: steps_to(runs, losses["mean"]) for kind, runs in kinds.items()},
        "steps_to_loss_of_small": {kind: steps_to(runs, losses["small"]) for kind, runs in kinds.items()},
    }


def shown(row: dict[str, Any]) -> str:
    """The three runs side by side."""
    losses, steps = row["final_loss"], row["steps"]
    to_mean, to_small = row["steps_to_loss_of_mean"]["ramp"], row["steps_to_loss_of_small"]["ramp"]
    kind = "Try " if row["advised"] else "open" if "cannot be told" in row["reason"] else "none"
    return (
        f"{row['case']:36} {kind}"
        f" small {losses['small']:.4f} in {steps['small']:4}  mean {losses['mean']:.4f} in {steps['mean']:4}"
        f"  ramp {losses['ramp']:.4f} in {steps['ramp']:4}; ramp is at the mean's in {to_mean},"
        f" at the small one's in {to_small}"
    )


def main() -> None:
    """Print a line per case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--only", nargs="*", default=[*TEST, *FRESH])
    parser.add_argument("--write", action="store_true", help="store the rows beside the other results")
    arguments = parser.parse_args()
    for name in arguments.only:
        row = judge(name, arguments.seeds)
        print(shown(row), flush=True)
        if arguments.write:
            _store(row)


def _store(row: dict[str, Any]) -> None:
    """In the place of the case's former row."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
    by_case = {known["case"]: known for known in [*rows, row]}
    kept = [by_case[name] for name in (*TEST, *FRESH) if name in by_case]
    stored = {"torch": torch.__version__, "rows": kept}
    RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
