"""How often are a tool's saddle verdicts right on the cases of one split?

    python -m tests.benchmarks.saddles.judge MODULE:FUNCTION [--split test] [--seeds 5] [--write]

The function takes a `Case` and the seed of a probe, and returns the verdict and the figures behind it;
`escape_steps` among them is set against the measured steps. Labels are those of `truth.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from typing import Any

import torch
from scipy.stats import binomtest

from tests.benchmarks.saddles.cases import CASES, SPLITS
from tests.benchmarks.saddles.problem import Case
from tests.benchmarks.saddles.truth import RESULTS as TRUTH
from tests.benchmarks.saddles.truth import median_step

RESULTS = {
    "test": TRUTH.with_name("saddle-verdicts.json"),
    "fresh": TRUTH.with_name("saddle-verdicts-fresh.json"),
    "sealed": TRUTH.with_name("saddle-verdicts-sealed.json"),
}
"""The splits that judge; what is tuned on is not stored."""

ALARMS = ("warning", "possible")
DRIFT = 0.05
"""Part of its stored loss by which a rebuilt checkpoint may differ before that is said."""

VerdictOf = Callable[[Case, int], tuple[str, dict[str, float]]]
"""Called with the seeds of one case in turn, so that it may keep what it built."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The verdicts on one case, one per probe, beside what is true of it."""

    name: str
    family: str
    label: str
    verdicts: tuple[str, ...]
    evidence: tuple[dict[str, float], ...]
    measured_left: float | None
    """Median steps until the loss left the band; None if it did not."""
    drifted: bool
    """The checkpoint was rebuilt with another loss than the one that was labelled."""

    @property
    def alarms(self) -> int:
        """Probes that called it a saddle that holds training up."""
        return sum(verdict in ALARMS for verdict in self.verdicts)

    @property
    def predicted_left(self) -> float | None:
        """Median predicted escape steps, over the probes that predicted any."""
        found = [figures.get("escape_steps", math.inf) for figures in self.evidence]
        finite = [steps for steps in found if math.isfinite(steps) and steps > 0]
        return statistics.median(finite) if finite else None


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share with its exact (Clopper-Pearson) 95 % interval.

    The interval takes the tries as independent: over `cases` they are, over `probes` of few cases not.
    """

    of: str
    hits: int
    tries: int
    low: float
    high: float


def rate(of: str, hits: int, tries: int) -> Rate:
    """Nothing is known from no tries."""
    if not tries:
        return Rate(of=of, hits=0, tries=0, low=0.0, high=1.0)
    interval = binomtest(hits, tries).proportion_ci(0.95, method="exact")
    return Rate(of=of, hits=hits, tries=tries, low=float(interval.low), high=float(interval.high))


def truths() -> dict[str, dict[str, Any]]:
    """The stored rows of `truth.py`, by name."""
    rows = json.loads(TRUTH.read_text(encoding="utf-8"))["rows"]
    return {row["name"]: row for row in rows}


def judge(case: Case, truth: dict[str, Any], verdict_of: VerdictOf, seeds: Iterable[int]) -> Judged:
    """Ask for a verdict with every seed."""
    torch.set_num_threads(1)
    answers = [verdict_of(case, seed) for seed in seeds]
    left = median_step([run["left"] for run in truth["runs"]])
    return Judged(
        name=case.name,
        family=case.family,
        label=truth["label"],
        verdicts=tuple(verdict for verdict, _ in answers),
        evidence=tuple(figures for _, figures in answers),
        measured_left=left if math.isfinite(left) else None,
        drifted=_drifted(case, truth["curvature"]["loss"]),
    )


def _drifted(case: Case, stored: float) -> bool:
    task = case.build()
    for module in task.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    with torch.no_grad():
        loss = float(task.loss((task.inputs, task.targets)))
    return not abs(loss / stored - 1) <= DRIFT


def rates(judged: Sequence[Judged]) -> list[Rate]:
    """Sensitivity on true saddles and false alarms on ordinary ones; by probe, and by the case's majority."""
    found = []
    for name, label in (("sensitivity", "true_saddle"), ("false alarms", "ordinary")):
        some = [one for one in judged if one.label == label]
        probes = sum(len(one.verdicts) for one in some)
        found.append(rate(f"{name}, probes", sum(one.alarms for one in some), probes))
        majority = sum(2 * one.alarms > len(one.verdicts) for one in some)
        found.append(rate(f"{name}, cases", majority, len(some)))
    return found


def misses(judged: Sequence[Judged]) -> list[str]:
    """A line per wrong probe, with its evidence."""
    lines = []
    for one in judged:
        if one.label not in ("true_saddle", "ordinary"):
            continue
        for seed, (verdict, figures) in enumerate(zip(one.verdicts, one.evidence, strict=True)):
            if (verdict in ALARMS) != (one.label == "true_saddle"):
                told = "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
                lines.append(f"{one.label} {one.name!r}, probe {seed}: {verdict}  {told}".rstrip())
    return lines


def escape_ratios(judged: Sequence[Judged]) -> dict[str, float]:
    """Predicted over measured steps to leave the band, of the true saddles with a prediction."""
    return {
        one.name: one.predicted_left / one.measured_left
        for one in judged
        if one.label == "true_saddle" and one.predicted_left and one.measured_left
    }


def escape_table(judged: Sequence[Judged]) -> list[str]:
    """Per true saddle the measured and predicted steps; then the typical ratio, and how many are near."""
    ratios = escape_ratios(judged)
    lines = [
        f"{one.name:52} {one.measured_left or math.inf:8.0f} {one.predicted_left or math.nan:9.0f}"
        f" {ratios.get(one.name, math.nan):8.2f}"
        for one in judged
        if one.label == "true_saddle"
    ]
    if ratios:
        middle = math.exp(statistics.median(math.log(value) for value in ratios.values()))
        near = sum(0.1 <= value <= 10 for value in ratios.values())
        lines.append(f"median ratio {middle:.2f}; within a factor of 10: {near} of {len(ratios)}")
    return [f"{'true saddle':52} {'measured':>8} {'predicted':>9} {'ratio':>8}", *lines]


def report(judged: Sequence[Judged]) -> list[str]:
    """Everything that is printed."""
    lines = [
        f"{one.label:12} {one.name:52} {dict(Counter(one.verdicts))}{'  DRIFTED' if one.drifted else ''}"
        for one in judged
    ]
    lines += ["", *misses(judged), "", *escape_table(judged), ""]
    for one in rates(judged):
        share = one.hits / one.tries if one.tries else math.nan
        lines.append(f"{one.of:20} {one.hits}/{one.tries} = {share:.3f}  [{one.low:.3f}, {one.high:.3f}]")
    return lines


def stored(judged: Sequence[Judged], split: str) -> dict[str, Any]:
    """What --write keeps."""
    return {
        "torch": torch.__version__,
        "device": "cpu",
        "split": split,
        "rates": [asdict(one) for one in rates(judged)],
        "escape_ratios": escape_ratios(judged),
        "rows": [asdict(one) for one in judged],
    }


def judge_named(name: str, function: str, seeds: int) -> Judged:
    """For another process, which builds the cases itself."""
    module, _, attribute = function.partition(":")
    verdict_of: VerdictOf = getattr(import_module(module), attribute)
    case = next(case for case in CASES if case.name == name)
    return judge(case, truths()[name], verdict_of, range(seeds))


def main() -> None:
    """Verdicts per case, misses, the escape table and the rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("function", help="MODULE:FUNCTION that gives the verdict on a case with a seed")
    parser.add_argument("--split", choices=SPLITS, default="design")
    parser.add_argument("--seeds", type=int, default=5, help="probes per case")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="store in results/, of a split that judges")
    arguments = parser.parse_args()
    if arguments.write and arguments.split not in RESULTS:
        parser.error("what is tuned on is not stored")
    ask = partial(judge_named, function=arguments.function, seeds=arguments.seeds)
    with get_context("spawn").Pool(arguments.processes) as pool:
        judged = pool.map(ask, [case.name for case in CASES if case.split == arguments.split], chunksize=1)
    print("\n".join(report(judged)))
    if arguments.write:
        text = json.dumps(stored(judged, arguments.split), indent=1)
        RESULTS[arguments.split].write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
