"""What is true of each saddle case, by brute force: the full Hessian's ends, and runs from there.

    python -m tests.benchmarks.saddles.truth [--cases WORD ...] [--write]

A true saddle has certified negative curvature on the full data, and a run from there with the case's
own optimizer and pair stays within 5 % of its loss for at least 100 steps, then drops by 20 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

from tests.benchmarks.saddles.cases import CASES, SPLITS, named
from tests.benchmarks.saddles.curvature import Curvature, measure
from tests.benchmarks.saddles.problem import Case, SaddleTask, training

RESULTS = Path(__file__).parents[1] / "results" / "saddle-cases.json"
SEEDS = 3
BAND = 0.05
STAY = 100
DROP = 0.2
AT_ONCE = 20
WATCHED = 2048
"""Examples, the same ones throughout, on which the loss of a run is followed."""


@dataclass(frozen=True, kw_only=True)
class Escape:
    """One run: steps until its loss left the band, and until it had dropped; None within the horizon."""

    left: int | None
    dropped: int | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case."""

    name: str
    family: str
    split: str
    intent: str
    label: str
    parameters: int
    examples: int
    horizon: int
    curvature: Curvature
    runs: tuple[Escape, ...]


def escape(task: SaddleTask, seed: int, horizon: int) -> Escape:
    """Train on from the checkpoint until the loss has dropped, or it is plain that this is no saddle.

    The loss is looked at every other step at first, then at every fiftieth part of the steps taken.
    """
    model = deepcopy(task.model)
    stepper = task.pair.stepper(model)
    if task.optimizer_state is not None:
        stepper.load_state_dict(deepcopy(task.optimizer_state))  # it would share its tensors
    start, left = _watched(task, model), None
    torch.manual_seed(seed)
    for step, _ in enumerate(training(task, model, stepper, seed + 1), 1):
        if step % max(2, step // 50):
            continue
        ratio = _watched(task, model) / start
        if left is None and not abs(ratio - 1) <= BAND:
            left = step
        if ratio <= 1 - DROP:
            return Escape(left=left, dropped=step)
        if step >= horizon or (left is not None and left < STAY < step):
            return Escape(left=left, dropped=None)
    raise AssertionError("training never ends by itself")


def _watched(task: SaddleTask, model: nn.Module) -> float:
    """The loss without dropout; BatchNorm normalises by the rows themselves."""
    drops = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    for module in drops:
        module.eval()
    with torch.no_grad():
        loss = float(task.loss_of(model, (task.inputs[:WATCHED], task.targets[:WATCHED])))
    for module in drops:
        module.train()
    return loss


def median_step(steps: Sequence[int | None]) -> float:
    """Runs that never came so far count as infinite."""
    return statistics.median(float("inf") if step is None else step for step in steps)


def label(intent: str, negative: bool, runs: Sequence[Escape]) -> str:
    """By the measured truth, of the median run, whatever the case was meant to be.

    A case meant as a saddle that is none counts as ordinary where it drops at once, and else as
    `not_a_saddle`, which no rate counts.
    """
    left, dropped = median_step([run.left for run in runs]), median_step([run.dropped for run in runs])
    if negative and left >= STAY and dropped < float("inf"):
        return "true_saddle"
    at_once = dropped <= AT_ONCE
    return "ordinary" if intent == "ordinary" or at_once else "not_a_saddle"


def row_of(case: Case) -> Row:
    """Measure one case."""
    torch.set_num_threads(1)
    task = case.build()
    curvature = measure(task)
    runs = tuple(escape(task, seed, case.horizon) for seed in range(SEEDS))
    return Row(
        name=case.name,
        family=case.family,
        split=case.split,
        intent=case.intent,
        label=label(case.intent, curvature.negative, runs),
        parameters=task.num_parameters,
        examples=len(task.inputs),
        horizon=case.horizon,
        curvature=curvature,
        runs=runs,
    )


def show(row: Row) -> str:
    """One line."""
    at, runs = row.curvature, row.runs
    return (
        f"{row.split:6} {row.name:40} {row.label:12} loss {at.loss:8.4g}  |g| {at.gradient_norm:8.2g}"
        f"  lambda {at.lambda_min:9.3g} (+-{at.residual:7.1g}) ... {at.lambda_max:8.3g}"
        f"  left {[run.left for run in runs]}  dropped {[run.dropped for run in runs]}"
    )


def store(rows: Sequence[Row]) -> None:
    """Put the rows in the place of those of the same name; cases that are gone lose theirs."""
    kept = {row["name"]: row for row in json.loads(RESULTS.read_text())["rows"]} if RESULTS.exists() else {}
    kept |= {row.name: asdict(row) for row in rows}
    stored = {
        "torch": torch.__version__,
        "device": "cpu",
        "definition": {"band": BAND, "stay": STAY, "drop": DROP, "seeds": SEEDS, "watched": WATCHED},
        "rows": [kept[case.name] for case in CASES if case.name in kept],
    }
    RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """A line per case, then how many of each label in each split."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="*", default=[""], help="only those of these words")
    parser.add_argument("--write", action="store_true", help="store the rows in results/saddle-cases.json")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    rows = []
    with get_context("spawn").Pool(arguments.processes) as pool:
        for row in pool.imap_unordered(row_of_name, [case.name for case in named(*arguments.cases)]):
            rows.append(row)
            print(show(row), flush=True)
            if arguments.write:
                store([row])
    for split in SPLITS:
        labels = [row.label for row in rows if row.split == split]
        print(split, {name: labels.count(name) for name in sorted(set(labels))})


def row_of_name(name: str) -> Row:
    """For another process, which builds the cases itself."""
    return row_of(next(case for case in CASES if case.name == name))


if __name__ == "__main__":
    main()
