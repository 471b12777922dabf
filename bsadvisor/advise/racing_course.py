"""What a trial starts from, and the heats that its strategy is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bsadvisor.advise.trial_lines import Seeds
from bsadvisor.theory import scaling
from bsadvisor.values import Heat, HeatResult

RATIO = 2.0
"""Of neighbouring learning rates."""

CONFIDENCE = 0.9

LONGEST = 4
"""A run may take so many times the expected steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a trial starts from."""

    batch_size: int
    """In use."""
    learning_rate: float
    smallest: int
    """Batch sizes are multiples of it, by powers of two."""
    largest: int
    horizon: int
    target_loss: float | None
    family: scaling.Family
    noise_scale: float | None
    """Of the learning-rate rule, from the probe."""
    seed: int

    @property
    def seeds(self) -> Seeds:
        return Seeds.after(self.seed)


def legs(results: Sequence[HeatResult]) -> list[list[HeatResult]]:
    """The heats to each target; only those to the last one are compared."""
    found: list[list[HeatResult]] = []
    for result in results:
        if not found or result.heat.target_loss is None:
            found.append([])
        found[-1].append(result)
    return found


def current_leg(results: Sequence[HeatResult]) -> list[HeatResult]:
    """The heats since the target was last set."""
    return legs(results)[-1]


def heat_at(
    size: int, rates: tuple[float, ...], seed: int, leg: Sequence[HeatResult], expected: float
) -> Heat:
    """Runs at one batch size to the target of the leg."""
    return Heat(
        batch_size=size,
        learning_rates=rates,
        seeds=(seed,),
        target_loss=leg[0].target_loss,
        pace_setter=rates[-1],
        expected_steps=expected,
        max_steps=max(4, math.ceil(LONGEST * expected)),
    )
