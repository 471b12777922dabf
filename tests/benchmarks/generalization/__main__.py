"""Does the verdict turn where the held-out loss does, and is it silent on healthy runs?

    python -m tests.benchmarks.generalization [--split design] [--only NAME] [--write]

Noisy runs come to memorize labels of which 30 % are drawn at random: the verdict is to turn from `fitting` to
`memorization` within the span in which the held-out loss turns. Healthy checkpoints are those whose held-out
loss is surely lower at 1.5 times their steps: none is to be called `memorization`.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.generalization.cases import Run, runs
from tests.benchmarks.generalization.judge import judge, turn
from tests.benchmarks.generalization.truth import checkpoints

RESULTS = Path(__file__).parents[1] / "results" / "generalization.json"

Rows = list[dict[str, Any]]


def judged(run: Run) -> tuple[Rows, Rows]:
    """The verdicts along a run, and where they turn if it comes to memorize."""
    found = list(checkpoints(run))
    verdicts = [judge(checkpoint) for checkpoint in found]
    turns: Rows = []
    if run.kind == "noisy":
        turned = turn(found, verdicts)
        turns = [{**asdict(turned), "within": turned.within}]
    return [asdict(one) for one in verdicts], turns


def summary(rows: Sequence[dict[str, Any]], turns: Sequence[dict[str, Any]]) -> list[str]:
    """The figures that count, a line each."""
    healthy = Counter(row["verdict"] for row in rows if row["healthy"])
    left_out = sum(row["kind"] == "healthy" and not row["healthy"] for row in rows)
    lines = []
    for name in dict.fromkeys(row["run"] for row in turns):
        of_name = [row for row in turns if row["run"] == name]
        within = sum(row["within"] for row in of_name)
        lines.append(f"{name}: the verdict turns within the span in {within} of {len(of_name)} seeds")
        for row in of_name:
            lines.append(
                f"  seed {row['seed']}: held-out loss turns in {row['span'][0]} … {row['span'][1]}, last fitting "
                f"{row['last_fitting']}, first memorization {row['first_memorization']}, early {row['early']}, "
                f"missed {row['missed']}"
            )
    lines.append(
        f"healthy checkpoints: {healthy.total()} ({left_out} others were not), of which memorization "
        f"{healthy['memorization']}, overfitting {healthy['overfitting']}, fitting {healthy['fitting']}, "
        f"not told {healthy[None]}"
    )
    return lines


def main() -> None:
    """Judge the runs and print what became of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=("design", "test"), default="test")
    parser.add_argument("--only", default="", help="runs with this in `NAME, seed N`")
    parser.add_argument("--write", action="store_true", help="store the rows beside the others")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stored = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"rows": [], "turns": []}
    chosen = [
        run for run in runs(arguments.split) if arguments.only in f"{run.kind} {run.name}, seed {run.seed}"
    ]
    every: tuple[Rows, Rows] = [], []
    for run in chosen:
        rows, turns = judged(run)
        every[0].extend(rows)
        every[1].extend(turns)
        if arguments.write:
            _store(stored, rows, turns)
    shown = (stored["rows"], stored["turns"]) if arguments.write else every
    print("\n".join(summary(*shown)))


def _store(stored: dict[str, Any], rows: Rows, turns: Rows) -> None:
    """In place of earlier rows of the same run."""
    new = {"rows": rows, "turns": turns}
    for part, added in new.items():
        same = {(row["run"], row["seed"]) for row in added}
        kept = [row for row in stored[part] if (row["run"], row["seed"]) not in same]
        stored[part] = sorted([*kept, *added], key=lambda row: (row["run"], row["seed"], row.get("step", 0)))
    about = {"torch": torch.__version__, "device": f"cpu, {platform.machine()}"}
    RESULTS.write_text(json.dumps({**about, **stored}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
