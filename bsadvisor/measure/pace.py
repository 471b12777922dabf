"""How long training steps and evaluations take here, for the plan of a trial."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bsadvisor.measure.branches import Branch, Ground, SequentialBranches

TIMED_STEPS = 3

LARGER = 8
"""Ratio of the two batch sizes that are timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds of a step, a straight line in the batch size, and of an evaluation."""

    fixed: float
    per_example: float
    evaluation: float

    def step(self, batch_size: int) -> float:
        """Seconds of one at a batch size."""
        return self.fixed + self.per_example * batch_size


def measure_pace(ground: Ground, batch_size: int, learning_rate: float) -> Pace:
    """From a few steps at two batch sizes, and one evaluation.

    Cost: eight steps, four of them at `LARGER` times the batch size.
    """
    larger = min(LARGER * batch_size, len(ground.examples))
    small = _seconds(ground, batch_size, learning_rate)
    large = _seconds(ground, larger, learning_rate)
    slope = max(0.0, (large - small) / (larger - batch_size)) if larger > batch_size else 0.0
    began = time.perf_counter()
    ground.loss()
    return Pace(
        fixed=max(0.0, small - slope * batch_size),
        per_example=slope,
        evaluation=time.perf_counter() - began,
    )


def _seconds(ground: Ground, batch_size: int, learning_rate: float) -> float:
    """Of one step, the first one left out."""
    branch = Branch(learning_rate=learning_rate, seed=ground.seed)
    branches = SequentialBranches(ground, [branch], batch_size)
    branches.advance(1)
    began = time.perf_counter()
    branches.advance(TIMED_STEPS)
    return (time.perf_counter() - began) / TIMED_STEPS
