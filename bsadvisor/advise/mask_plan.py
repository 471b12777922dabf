"""How much the split of the noise into data and masks gets: by counting, so that it repeats."""

from __future__ import annotations

from dataclasses import dataclass

from bsadvisor.theory.noise_scale import MIN_MICRO_BATCHES

MICRO_BATCHES = 32

SMALLER = 4
"""The floor is seen by micro-batches so many times smaller."""

LARGE_MODEL = 10**6
"""Parameters from which a pass takes as long as its examples, so that fewer of them take less."""

LEAST_MICRO_BATCH = 4

FREE_SECONDS = 5.0
"""Nobody minds this long; a small model takes a fraction of a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskPlan:
    """Sizes of the phase."""

    micro_batches: int
    micro_batch: int
    small: int | None
    """Micro-batch by which a floor is seen; None: it is not sought."""
    ridge_batches: int = MIN_MICRO_BATCHES
    """For the inputs of linear layers."""


def mask_plan(*, available: int, micro_batch: int, coupled: bool, parameters: int) -> MaskPlan | None:
    """Micro-batches as in the gradient phase, of a large model a quarter of them; None with too few examples.

    Args:
        available: examples that there surely are.
        micro_batch: of the gradient phase; kept where examples are `coupled`, for it changes the loss.
        parameters: that are trained.
    """
    if coupled:
        enough = available >= micro_batch * MIN_MICRO_BATCHES
        return _plan(available, micro_batch, None) if enough else None
    size = min(micro_batch, available // MIN_MICRO_BATCHES)
    if parameters >= LARGE_MODEL:
        size = min(size, max(size // SMALLER, LEAST_MICRO_BATCH))
    return _plan(available, size, max(1, size // SMALLER) if size > 1 else None) if size else None


def _plan(available: int, size: int, small: int | None) -> MaskPlan:
    return MaskPlan(micro_batches=min(MICRO_BATCHES, available // size), micro_batch=size, small=small)


def seconds_allowed(gradient_seconds: float) -> float:
    """For the whole phase: as much as the gradient took, but for what nobody minds."""
    return max(gradient_seconds, FREE_SECONDS)
