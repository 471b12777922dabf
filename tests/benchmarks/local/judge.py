"""How far are predicted best steps, and their loss decreases, from the brute-force truth?

    python -m tests.benchmarks.local.judge [--seeds 5] [--only NAME] [--method NAME] [--write]

Every method answers for every stored checkpoint and batch size (`tests.benchmarks.local.truth`), from
several seeds of the probe: each seed is a point. xF is exp(mean |log(predicted / true)|); beside it the
share of points within a factor 1.5, and the share that the method answers at all. The constant guess is the geometric mean of
the other checkpoints' truths at that B: of all, or of those with the same optimizer. `BSADVISOR_DATA` names the folder of tinyshakespeare.txt.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from tests.benchmarks.local import lines, methods
from tests.benchmarks.local.probes import Checkpoint, Curve, Method
from tests.benchmarks.local.truth import Row, read
from tests.benchmarks.tasks import checkpoints

GUESS = "constant guess"
RESULTS = Path(__file__).parents[1] / "results" / "local.json"

FROM_PROBE: Mapping[str, Method] = {
    "the tool": methods.the_tool,
    "line held back, exact tr": lines.held_back,
    "line tilted, exact tr": lines.tilted,
    "line on own examples, exact tr": lines.own,
    "line tilted, 16 HVPs": lines.tilted_probed,
    "line on own examples, 16 HVPs": lines.own_probed,
    "line on own examples, forward only": lines.own_forward,
    "line on 256 own, forward only": lines.part_forward,
    "line tilted, forward only": lines.tilted_forward,
}
"""One answer per seed."""

FROM_ALL_DATA: Mapping[str, Method] = {
    "exact quadratic": methods.quadratic,
    "exact line, exact tr": methods.exact_line,
}

ALL: Mapping[str, Method] = {**FROM_PROBE, **FROM_ALL_DATA}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One method's prediction of one true point."""

    task: str
    method: str
    seed: int
    batch_size: int
    learning_rate: float | None
    loss_decrease: float | None
    true_learning_rate: float
    true_loss_decrease: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """Of one method over many points."""

    learning_rate_factor: float
    learning_rate_within: float
    loss_decrease_factor: float
    loss_decrease_within: float
    answered: float
    points: int


def answers(checkpoint: Checkpoint, seeds: Sequence[int], methods: Sequence[str]) -> Iterator[Answer]:
    """Of the methods at one checkpoint."""
    sizes = [point.batch_size for point in checkpoint.row.points]
    for name in methods:
        method = ALL[name]
        for seed in seeds if name in FROM_PROBE else (0,):
            yield from _compared(checkpoint.row, name, seed, method(checkpoint, sizes, seed))


def guesses(row: Row, rows: Sequence[Row]) -> Iterator[Answer]:
    """What no measurement is needed for: the truths of the other checkpoints."""
    rest = [other for other in rows if other.task != row.task]
    alike = [other for other in rest if _optimizer(other) == _optimizer(row)]
    for name, known in (("", rest), (", same optimizer", alike)):
        if known:
            yield from _compared(row, GUESS + name, 0, constant(known))


def _optimizer(row: Row) -> str:
    return row.task.split(", ")[1]


def constant(rest: Sequence[Row]) -> Curve:
    """The geometric mean of the truths at each B."""
    curve = {}
    for points in zip(*(row.points for row in rest), strict=True):
        logs = np.log([(point.learning_rate, point.loss_decrease) for point in points])
        rate, decrease = np.exp(logs.mean(0))
        curve[points[0].batch_size] = (float(rate), float(decrease))
    return curve


def _compared(row: Row, method: str, seed: int, curve: Curve) -> Iterator[Answer]:
    for point in row.points:
        rate, decrease = curve.get(point.batch_size, (None, None))
        yield Answer(
            task=row.task,
            method=method,
            seed=seed,
            batch_size=point.batch_size,
            learning_rate=_rounded(rate),
            loss_decrease=_rounded(decrease),
            true_learning_rate=point.learning_rate,
            true_loss_decrease=point.loss_decrease,
        )


def _rounded(value: float | None) -> float | None:
    """Enough digits to judge by, and few enough to store."""
    return None if value is None else float(f"{value:.4g}")


def score(given: Sequence[Answer]) -> Score:
    """Pooled over whatever answers are given."""
    rates = _logs((one.learning_rate, one.true_learning_rate) for one in given)
    drops = _logs((one.loss_decrease, one.true_loss_decrease) for one in given)
    return Score(
        learning_rate_factor=_factor(rates),
        learning_rate_within=_within(rates),
        loss_decrease_factor=_factor(drops),
        loss_decrease_within=_within(drops),
        answered=len(rates) / len(given),
        points=len(given),
    )


def _logs(pairs: Iterator[tuple[float | None, float]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([np.log(predicted / true) for predicted, true in pairs if predicted])


def _factor(logs: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(np.exp(np.abs(logs).mean())) if len(logs) else float("nan")


def _within(logs: np.ndarray[tuple[int], np.dtype[np.float64]], factor: float = 1.5) -> float:
    return float((np.abs(logs) <= np.log(factor)).mean()) if len(logs) else float("nan")


def table(given: Sequence[Answer]) -> Iterator[str]:
    """Predictions beside the truth: the geometric means over seeds, a line per checkpoint, method and B."""
    for task in dict.fromkeys(one.task for one in given):
        yield f"{task}\n  {'method':34} {'B':>5} {'eta':>10} {'true':>10} {'decrease':>10} {'true':>10}"
        for method in dict.fromkeys(one.method for one in given):
            for size in dict.fromkeys(one.batch_size for one in given):
                found = [
                    one
                    for one in given
                    if (one.task, one.method, one.batch_size) == (task, method, size) and one.learning_rate
                ]
                if found:
                    yield _line(found)


def _line(found: Sequence[Answer]) -> str:
    first = found[0]
    rate, decrease = np.exp(
        np.log([(one.learning_rate or 0.0, one.loss_decrease or 0.0) for one in found]).mean(0)
    )
    return (
        f"  {first.method:34} {first.batch_size:5} {rate:10.3g} {first.true_learning_rate:10.3g}"
        f" {decrease:10.3g} {first.true_loss_decrease:10.3g}"
    )


def summary(given: Sequence[Answer]) -> Iterator[str]:
    """A line per method, pooled; then the factors per checkpoint."""
    yield f"{'':34}    eta  in x1.5  decrease  in x1.5  answered  points"
    for method in dict.fromkeys(one.method for one in given):
        found = score([one for one in given if one.method == method])
        yield (
            f"{method:34} x{found.learning_rate_factor:5.2f} {found.learning_rate_within:7.0%}"
            f"   x{found.loss_decrease_factor:6.2f} {found.loss_decrease_within:8.0%}"
            f" {found.answered:9.0%} {found.points:7}"
        )
    for task in dict.fromkeys(one.task for one in given):
        yield f"{task}: factor of eta, of the decrease"
        for method in dict.fromkeys(one.method for one in given):
            some = [one for one in given if (one.task, one.method) == (task, method)]
            if not some:
                continue
            found = score(some)
            yield f"  {method:34} x{found.learning_rate_factor:.2f} x{found.loss_decrease_factor:.2f}"


def main() -> None:
    """Print every prediction beside the truth, and the pooled factors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--only", help="judge the checkpoints whose name ends with this; the others as stored"
    )
    parser.add_argument("--write", action="store_true", help="store the answers beside the other results")
    parser.add_argument("--method", choices=list(ALL), help="judge this method; the others as stored")
    arguments = parser.parse_args()
    asked = list(ALL) if arguments.method is None else [arguments.method]
    rows = {row.task: row for row in read()}
    given = [one for one in _stored() if one.method in ALL]
    for task in checkpoints():
        if task.name in rows and task.name.endswith(arguments.only or ""):
            given = [one for one in given if one.task != task.name or one.method not in asked]
            given += answers(Checkpoint(task=task, row=rows[task.name]), range(arguments.seeds), asked)
            if arguments.write:
                _write(given, list(rows.values()))
    given += [one for row in rows.values() for one in guesses(row, list(rows.values()))]
    print(*table(given), *summary(given), sep="\n")


def _write(given: Sequence[Answer], rows: Sequence[Row]) -> None:
    """An answer a line; the guesses need no storing."""
    pooled = [*given, *(one for row in rows for one in guesses(row, rows))]
    stored = {
        "command": "BSADVISOR_DATA=... python -m tests.benchmarks.local.judge --write",
        "device": "cpu",
        "torch": torch.__version__,
        "pooled": {
            name: asdict(score([one for one in pooled if one.method == name]))
            for name in dict.fromkeys(one.method for one in pooled)
        },
        "rows": [],
    }
    text = json.dumps(stored, indent=1).removesuffix("]\n}")
    lines_of_rows = ",\n".join("  " + json.dumps(asdict(one)) for one in given)
    RESULTS.write_text(f"{text}\n{lines_of_rows}\n ]\n}}\n", encoding="utf-8")


def _stored() -> list[Answer]:
    if not RESULTS.is_file():
        return []
    return [Answer(**row) for row in json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]]


if __name__ == "__main__":
    main()
