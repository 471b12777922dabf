"""How large a micro-batch, how many examples next, when to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bsadvisor.errors import DataError, UsageError
from bsadvisor.settings import ProbeSettings
from bsadvisor.theory.noise_scale import (
    MIN_MICRO_BATCHES,
    BlockSums,
    examples_for_precision,
    noise_scale,
    relative_half_width,
)
from bsadvisor.values import StoppedBy

FIRST_MICRO_BATCHES = 32
MAX_MICRO_BATCH = 128
"""Larger ones save no time per example worth having, and cost memory."""

UNTRIED_MICRO_BATCH = 32
"""Where no batch size in use says what fits."""

FORECAST_MARGIN = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Available:
    """What the data allows."""

    examples: int | None
    """For the gradient; None for a stream without a known end."""
    certain: int
    """Examples that there surely are."""
    batch_in_use: int | None
    """Per device."""


def micro_batch(available: Available, settings: ProbeSettings) -> int:
    """The largest that leaves enough micro-batches and is known to fit: a power of two.

    Raises:
        UsageError: the one asked for leaves too few.
    """
    limit = example_limit(available, settings)
    if settings.micro_batch is not None:
        if settings.micro_batch * MIN_MICRO_BATCHES > limit:
            raise UsageError(
                f"--micro-batch {settings.micro_batch} leaves fewer than {MIN_MICRO_BATCHES} "
                f"micro-batches of {limit:,} examples",
                f"--micro-batch {limit // MIN_MICRO_BATCHES} or less",
            )
        return settings.micro_batch
    fits = min(MAX_MICRO_BATCH, available.batch_in_use or UNTRIED_MICRO_BATCH)
    return _power_of_two_below(
        max(1, min(fits, available.certain // FIRST_MICRO_BATCHES, limit // FIRST_MICRO_BATCHES))
    )


def coupled_micro_batch(available: Available, settings: ProbeSettings) -> int:
    """As close to one device's batch as leaves enough micro-batches: for losses that couple examples."""
    limit = min(example_limit(available, settings), available.certain)
    return max(1, min(available.batch_in_use or UNTRIED_MICRO_BATCH, limit // MIN_MICRO_BATCHES))


def refuse_too_few(certain: int, settings: ProbeSettings) -> None:
    """Before anything is measured.

    Raises:
        DataError: fewer examples than one for each micro-batch.
    """
    limit = min(certain, settings.max_examples or certain)
    if limit < MIN_MICRO_BATCHES:
        raise DataError(
            f"{limit} examples are too few: the noise takes {MIN_MICRO_BATCHES} micro-batches of at least one",
            "give more training data, or raise --max-examples",
        )


def example_limit(available: Available, settings: ProbeSettings) -> int:
    """The most examples that may be used; for a stream without a limit, no end in sight."""
    limits = [limit for limit in (available.examples, settings.max_examples) if limit is not None]
    return min(limits, default=2**62)


def next_round(
    sums: BlockSums | None, micro_batch: int, available: Available, settings: ProbeSettings
) -> int | StoppedBy:
    """The number of examples to measure in all by the end of the next round, or why to stop.

    Rounds double until the forecast of `examples_for_precision` is nearer.
    """
    limit = example_limit(available, settings)
    if sums is None or sums.num_blocks < MIN_MICRO_BATCHES:
        return _whole(min(FIRST_MICRO_BATCHES * micro_batch, limit), micro_batch)
    measured = sums.num_examples
    if is_precise(sums, settings):
        return "precision"
    if limit - measured < micro_batch:
        return "max_examples" if limit == settings.max_examples else "data"
    wanted = examples_for_precision(sums, settings.precision, settings.confidence) * FORECAST_MARGIN
    aim = min(max(wanted, measured + micro_batch), 2 * measured, limit)
    return _whole(math.ceil(aim / micro_batch) * micro_batch if aim < limit else limit, micro_batch)


def is_precise(sums: BlockSums, settings: ProbeSettings) -> bool:
    """Whether the interval of B_simple is as narrow as was asked; gradients of exactly zero are exact."""
    if not sums.weighted_squared_norm.any():
        return True
    return relative_half_width(noise_scale(sums, settings.confidence)) < settings.precision


def _whole(examples: int, micro_batch: int) -> int:
    return examples // micro_batch * micro_batch


def _power_of_two_below(number: int) -> int:
    return 1 << (number.bit_length() - 1)
