"""`bsadvisor check` beside brute force: `python -m tests.benchmarks.accuracy.preflight [--split test] [--write]`.

Every pair of the truth's grid is judged by `check`, from a report with predicted and from one with measured
advice. A pair is bad where it takes more than twice the examples of the cheapest pair, or more than twice the
steps of the best learning rate at its batch size (or never got there); all others are good.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from bsadvisor.pipeline.checking import CheckSettings, check_report
from bsadvisor.settings import TargetRequest
from bsadvisor.values import CheckVerdict, Report
from tests.benchmarks.accuracy.cases import Split, available
from tests.benchmarks.accuracy.judge import trial_report
from tests.benchmarks.accuracy.truth import RESULTS as TRUTHS

RESULTS = TRUTHS.with_name("preflight.json")

TOO_MUCH = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One pair of one case."""

    name: str
    batch_size: int
    learning_rate: float
    good: bool
    verdict: CheckVerdict
    broken: tuple[str, ...]


def pairs(entry: dict[str, Any]) -> Iterator[tuple[int, float, bool]]:
    """Batch size, learning rate, and whether the pair is good."""
    grid = [
        (
            cell["batch_size"],
            cell["learning_rate"],
            math.inf if None in cell["steps"] else float(np.exp(np.mean(np.log(cell["steps"])))),
        )
        for cell in entry["grid"]
    ]
    cheapest = min(size * steps for size, _, steps in grid)
    fewest = {size: min(steps for other, _, steps in grid if other == size) for size, _, _ in grid}
    for size, rate, steps in grid:
        yield size, rate, size * steps <= TOO_MUCH * cheapest and steps <= TOO_MUCH * fewest[size]


def judged(entry: dict[str, Any], report: Report) -> Iterator[Judged]:
    for size, rate, good in pairs(entry):
        request = TargetRequest(batch_size=size, learning_rate=rate)
        found = check_report(report, request, CheckSettings(), Path("/nonexistent"))
        yield Judged(
            name=entry["name"],
            batch_size=size,
            learning_rate=rate,
            good=good,
            verdict=found.verdict or "unknown",
            broken=tuple(violation.rule for violation in found.violations or ()),
        )


def table(basis: str, found: Sequence[Judged]) -> Iterator[str]:
    """Of good and of bad pairs, how many pass, fail and are left open."""
    for good in (True, False):
        some = [one for one in found if one.good is good]
        verdicts = Counter(one.verdict for one in some)
        shares = ", ".join(
            f"{name} {verdicts[name]} ({verdicts[name] / max(len(some), 1):.1%})"
            for name in ("pass", "fail", "unknown")
        )
        yield f"{basis:9} {'good' if good else 'bad':4} {len(some):4} pairs: {shares}"
    failed = [one for one in found if one.verdict == "fail"]
    wrong = Counter(rule for one in failed if one.good for rule in one.broken)
    right = sum(not one.good for one in failed)
    yield f"{basis:9} of {len(failed)} that failed {right} are bad; rules that failed good ones: {dict(wrong)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=get_args(Split), default="test")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    truths = {entry["name"]: entry for entry in json.loads(TRUTHS.read_text(encoding="utf-8"))["rows"]}
    rows: dict[str, list[Judged]] = {"predicted": [], "measured": []}
    with tempfile.TemporaryDirectory() as folder:
        for case in available():
            if case.split != chosen.split or case.name not in truths:
                continue
            setter = truths[case.name]["pace_setter"]
            reports = {
                "predicted": trial_report(case, 0, Path(folder), pace_setter=setter, when="never"),
                "measured": trial_report(case, 0, Path(folder), pace_setter=setter),
            }
            for basis, report in reports.items():
                rows[basis] += judged(truths[case.name], report)
    for basis, found in rows.items():
        for line in table(basis, found):
            print(line)
    if chosen.write:
        stored = {basis: [asdict(one) for one in found] for basis, found in rows.items()}
        text = json.dumps({"torch": torch.__version__, "rows": stored}, indent=1)
        RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
