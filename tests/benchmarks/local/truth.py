"""The best single step at each batch size and what it takes off the loss, by brute force.

    python -m tests.benchmarks.local.truth [--only NAME] [--write]

For each checkpoint and B: the eta that minimises E L(theta - eta D g_B) over batches of B examples drawn
with replacement, L being the loss over all data and D the frozen 1 / (sqrt(v) + eps) of AdamW. The
slope and the curvature along a batch's update are control variates, for their means are known: G'DG and
G'DHDG + tr(DHD Sigma)/B. A log grid is moved until the minimum of the mean lies inside it, then
batches are added until both standard errors are small. `BSADVISOR_DATA` names the folder of
tinyshakespeare.txt.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bsadvisor.theory.noise_scale import Array, jackknife_variance
from tests.benchmarks.local.full_data import Curvature, FullData, full_data
from tests.benchmarks.tasks import Task, checkpoints

RESULTS = Path(__file__).parents[1] / "results" / "local-truth.json"
BATCH_SIZES = (4, 16, 64, 256, 1024)
GRID: Array = 1.3 ** np.arange(-1.0, 2.0)
BLOCK = 16
"""Batches between looks at the standard errors."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """The truth at one batch size."""

    batch_size: int
    learning_rate: float
    learning_rate_error: float
    """Relative standard error."""
    loss_decrease: float
    loss_decrease_error: float
    batches: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One checkpoint."""

    task: str
    examples: int
    loss: float
    curvature: Curvature
    line: tuple[tuple[float, float], ...]
    """Steps along the exact update D G, and the loss decrease of each."""
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How precise the truth shall be."""

    error: float = 0.03
    batches: int = 480
    draws: int = 0
    """Random directions for the curvature of the noise; with 0 it is exact."""


EFFORTS = {False: Effort(), True: Effort(draws=120, batches=96)}
"""By whether it is a transformer, on which a curvature for every example is too dear."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Random batches, one a row."""

    decreases: Array
    """A column per rate."""
    controls: Array
    """Columns of known mean, less it."""

    def __add__(self, other: Sample) -> Sample:
        return Sample(
            decreases=np.concatenate([self.decreases, other.decreases]),
            controls=np.concatenate([self.controls, other.controls]),
        )

    def adjusted(self, shift: float = 0.0) -> Array:
        """The decreases less what a regression on the controls, the last one shifted, explains of them."""
        centred = self.controls - self.controls.mean(0)
        weights, *_ = np.linalg.lstsq(centred, self.decreases - self.decreases.mean(0))
        table: Array = self.decreases - (self.controls + np.array([0.0, shift])) @ weights
        return table


class Stepper:
    """Draws batches of one size and tries steps along their updates."""

    def __init__(self, full: FullData, curvature: Curvature, batch_size: int) -> None:
        self.full = full
        self.curvature = curvature
        self.batch_size = batch_size
        self.gradient = full.gradient(torch.arange(full.size))
        self.start = full.loss(torch.zeros_like(self.gradient))
        self.generator = torch.Generator().manual_seed(batch_size)

    def block(self, rates: Array, batches: int) -> Sample:
        updates = [self._update() for _ in range(batches)]
        return Sample(
            decreases=np.array([self._decreases(rates, update) for update in updates]),
            controls=np.array([self._controls(update) for update in updates]),
        )

    def _update(self) -> Tensor:
        rows = torch.randint(self.full.size, (self.batch_size,), generator=self.generator)
        return self.full.update(rows)

    def _decreases(self, rates: Array, update: Tensor) -> list[float]:
        return [self.start - self.full.loss(float(rate) * update) for rate in rates]

    def _controls(self, update: Tensor) -> list[float]:
        """The slope and the curvature along the update, less their means."""
        about = self.curvature
        mean = about.along_gradient + about.of_noise / self.batch_size
        slope = float(self.gradient @ update) - about.slope
        return [slope, self.full.curvature_along(update) - mean]


def vertex(rates: Array, decreases: Array) -> tuple[Array, Array]:
    """The top of the parabola through three points: (eta, decrease), over any leading axes."""
    x, y = rates, decreases
    first = (y[..., 1] - y[..., 0]) / (x[1] - x[0])
    second = ((y[..., 2] - y[..., 1]) / (x[2] - x[1]) - first) / (x[2] - x[0])
    rate = (x[0] + x[1]) / 2 - first / (2 * second)
    return rate, y[..., 0] + first * (rate - x[0]) + second * (rate - x[0]) * (rate - x[1])


def best_step(full: FullData, curvature: Curvature, batch_size: int, effort: Effort) -> Point:
    """The truth at one batch size, searched from the quadratic model's on."""
    stepper = Stepper(full, curvature, batch_size)
    steepness = abs(curvature.along_gradient) + abs(curvature.of_noise) / batch_size
    rates = _grid(stepper, curvature.slope / steepness)
    sample = stepper.block(rates, 2 * BLOCK)
    while True:
        table = sample.adjusted()
        rate, decrease = vertex(rates, table.mean(0))
        shifted = sample.adjusted(curvature.of_noise_error / batch_size).mean(0)
        errors = _errors(rates, table, shifted)
        if not rates[0] < rate < rates[-1]:
            rates = _grid(stepper, float(rates[table.mean(0).argmax()]))
            sample = stepper.block(rates, len(table))
        elif max(errors) < effort.error or len(table) >= effort.batches:
            return Point(
                batch_size=batch_size,
                learning_rate=float(rate),
                learning_rate_error=errors[0],
                loss_decrease=float(decrease),
                loss_decrease_error=errors[1],
                batches=len(table),
            )
        else:
            sample += stepper.block(rates, BLOCK)


def _grid(stepper: Stepper, first: float) -> Array:
    """Three rates, moved until the middle one is the best, then centred on the parabola's top."""
    rates: Array = first * GRID
    while True:
        mean = stepper.block(rates, 2 * BLOCK).adjusted().mean(0)
        best = int(mean.argmax()) if mean[1] > 0 else 0
        if best == 1:
            return float(vertex(rates, mean)[0]) * GRID
        rates = rates * (GRID[0] if best == 0 else GRID[-1])


def _errors(rates: Array, table: Array, shifted: Array) -> tuple[float, float]:
    """Relative standard errors of the vertex: the jackknife's over batches, and a shift's of the control's mean."""
    kept = vertex(rates, (table.sum(0) - table) / (len(table) - 1))
    pairs = zip(kept, vertex(rates, table.mean(0)), vertex(rates, shifted), strict=True)
    first, second = (
        math.hypot(math.sqrt(float(jackknife_variance(part))), float(moved - value)) / abs(float(value))
        for part, value, moved in pairs
    )
    return first, second


def line(full: FullData, around: float) -> tuple[tuple[float, float], ...]:
    """Decreases along the exact update, at steps in factors of 1.5 around one."""
    update = full.update(torch.arange(full.size))
    start = full.loss(torch.zeros_like(update))
    rates = [around * 1.5**power for power in range(-16, 9)]
    return tuple((rate, start - full.loss(rate * update)) for rate in rates)


def measure(task: Task, effort: Effort, batch_sizes: tuple[int, ...] = BATCH_SIZES) -> Row:
    """All points of one checkpoint."""
    full = full_data(task)
    curvature = full.curvature(effort.draws)
    points = tuple(best_step(full, curvature, batch_size, effort) for batch_size in batch_sizes)
    return Row(
        task=task.name,
        examples=full.size,
        loss=full.loss(torch.zeros_like(full.origin)),
        curvature=curvature,
        line=line(full, points[-1].learning_rate),
        points=points,
    )


def stored_rows() -> list[dict[str, object]]:
    """What is stored so far."""
    if not RESULTS.is_file():
        return []
    rows: list[dict[str, object]] = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    return rows


def read() -> list[Row]:
    """The stored truth."""
    return [
        Row(
            **{
                **stored,  # type: ignore[arg-type]
                "curvature": Curvature(**stored["curvature"]),  # type: ignore[arg-type]
                "line": tuple((rate, decrease) for rate, decrease in stored["line"]),  # type: ignore[attr-defined]
                "points": tuple(Point(**point) for point in stored["points"]),  # type: ignore[attr-defined]
            }
        )
        for stored in stored_rows()
    ]


def write(row: Row) -> None:
    """Add a checkpoint to the stored ones, or put it in its old row's place."""
    rows = [old for old in stored_rows() if old["task"] != row.task]
    stored = {
        "command": "BSADVISOR_DATA=... python -m tests.benchmarks.local.truth --write",
        "device": "cpu",
        "torch": torch.__version__,
        "rows": sorted([*rows, asdict(row)], key=lambda old: str(old["task"])),
    }
    RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def lines(row: Row) -> Iterator[str]:
    """A checkpoint in words."""
    about = row.curvature
    yield (
        f"{row.task}: loss {row.loss:.4f}, B_noise {about.noise_scale:.1f}"
        f" (tr(DHDS) +- {about.of_noise_error / abs(about.of_noise):.1%}), quadratic eta_max {about.learning_rate:.4g}"
    )
    for point in row.points:
        yield (
            f"  B {point.batch_size:5}  eta {point.learning_rate:10.4g} +- {point.learning_rate_error:4.1%}"
            f"  decrease {point.loss_decrease:10.4g} +- {point.loss_decrease_error:4.1%}  {point.batches} batches"
        )


def main() -> None:
    """Print every checkpoint's truth."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="checkpoints whose name ends with this")
    parser.add_argument("--write", action="store_true", help="store the rows beside the other results")
    arguments = parser.parse_args()
    for task in checkpoints():
        if not task.name.endswith(arguments.only):
            continue
        row = measure(task, EFFORTS["transformer" in task.name])
        print(*lines(row), sep="\n", flush=True)
        if arguments.write:
            write(row)


if __name__ == "__main__":
    main()
