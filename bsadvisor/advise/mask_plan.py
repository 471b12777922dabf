"""How much the split of the noise into data and masks gets."""

from __future__ import annotations

from dataclasses import dataclass

from bsadvisor.theory.noise_scale import MIN_MICRO_BATCHES

MICRO_BATCHES = 32

SMALLER = 4
"""The floor is seen by micro-batches so many times smaller."""

FREE_SECONDS = 2.0
"""Nobody minds this long."""

LEAST_MICRO_BATCH = 4

COUPLED = "examples couple in a batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPlan:
    """Sizes of the phase."""

    micro_batches: int
    micro_batch: int
    small: int | None
    """Micro-batch by which a floor is seen; None: it is not sought."""
    ridge_batches: int = MIN_MICRO_BATCHES
    """For the inputs of linear layers."""


def mask_plan(
    *,
    available: int,
    micro_batch: int,
    coupled: bool,
    seconds_per_example: float,
    passes: int,
    seconds: float,
) -> MaskPlan | None:
    """Micro-batches as in the gradient phase, smaller ones where time is short; None where even those take too long.

    Args:
        available: examples that there surely are.
        micro_batch: of the gradient phase; kept where examples are `coupled`, for it changes the loss.
        seconds_per_example: of one pass.
        passes: over each micro-batch.
        seconds: that the least number of micro-batches may take.
    """
    size = min(micro_batch, available // MIN_MICRO_BATCHES)
    affordable = seconds / max(seconds_per_example * passes * MIN_MICRO_BATCHES, 1e-12)
    if coupled and (affordable < micro_batch or size < micro_batch):
        return None
    while size > affordable and size >= 2 * LEAST_MICRO_BATCH:
        size //= 2
    if size < 1 or size > affordable:
        return None
    small = None if coupled or size < 2 else max(1, size // SMALLER)
    return MaskPlan(micro_batches=min(MICRO_BATCHES, available // size), micro_batch=size, small=small)


def seconds_allowed(gradient_seconds: float) -> float:
    """For the whole phase: as much as the gradient took, but for what nobody minds."""
    return max(gradient_seconds, FREE_SECONDS)
