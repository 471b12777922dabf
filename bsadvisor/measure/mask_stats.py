"""From repeated gradients to the values of the report's `gradient.dropout`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from bsadvisor.measure.mask_noise import RepeatedGradients
from bsadvisor.measure.statistics import estimate
from bsadvisor.theory import mask_noise as theory
from bsadvisor.theory.mask_noise import MaskVariances, Statistic
from bsadvisor.values import DropoutRidge, DropoutStats, Estimate, KeepProbability

SURE = 0.999
"""Level at which a floor is called one: a false alarm in a thousand probes."""

HARDLY_SHARED = 0.2
"""Share of an example's mask noise, below which its masks are its own: a shared one has all of it, or much."""


def dropout_stats(
    found: RepeatedGradients,
    *,
    keep_probabilities: tuple[KeepProbability, ...],
    ridges: tuple[DropoutRidge, ...],
    batch_size: int | None,
    confidence: float,
) -> DropoutStats:
    """All that the repeats tell, at the batch size in use where there is one."""
    sums, floor = found.sums, found.floor

    def part(statistic: Statistic, wanted: bool = True) -> Estimate | None:
        return estimate(theory.split(sums, statistic, confidence), confidence) if wanted else None

    masked, augmented = sums.masks > 1, sums.draws > 1
    size = round(sums.mean.num_examples / sums.mean.num_blocks)
    verdict = _verdict(found, confidence)
    until = None if floor is None else _floor_batch_size(found, floor, confidence, shared=verdict == "shared")
    return DropoutStats(
        data_trace=estimate(theory.split(sums, lambda parts: parts.data, confidence), confidence),
        mask_trace=part(lambda parts: parts.mask, masked),
        augmentation_trace=part(lambda parts: parts.augmentation, augmented),
        mask_share=part(lambda parts: parts.mask / parts.total, masked),
        augmentation_share=part(lambda parts: parts.augmentation / parts.total, augmented),
        masks=verdict if masked else None,
        mask_sharing=_sharing(found, confidence),
        mask_floor=None if floor is None else _floor(floor, confidence),
        floor_batch_size=until,
        averaged_away=None
        if floor is None or batch_size is None
        else _averaged_away(floor, batch_size, confidence),
        keep_probabilities=keep_probabilities,
        ridges=ridges,
        micro_batches=sums.mean.num_blocks,
        micro_batch_size=size,
        small_micro_batch_size=None if floor is None else round(floor.small_size),
    )


def _verdict(found: RepeatedGradients, confidence: float) -> Literal["per_example", "shared", "unknown"]:
    sure, usual = _sharing(found, SURE), _sharing(found, confidence)
    if sure is not None and sure.low is not None and sure.low > 0:
        return "shared"
    own = usual is not None and usual.high is not None and usual.high < HARDLY_SHARED
    return "per_example" if own else "unknown"


def _sharing(found: RepeatedGradients, confidence: float) -> Estimate | None:
    seen = found.sharing
    if seen is None:
        return None
    return estimate(theory.sharing(seen.single, seen.copies, seen.count, confidence), confidence)


def _floor(floor: MaskVariances, confidence: float) -> Estimate:
    return estimate(theory.floor_of(floor, lambda line: line.floor, confidence), confidence)


def _floor_batch_size(
    found: RepeatedGradients, floor: MaskVariances, confidence: float, *, shared: bool
) -> Estimate:
    """Its error is that of the floor: the rest is known far better."""
    rest = float(theory.floor_of(floor, lambda line: line.rest, confidence).value)
    others = theory.split(found.sums, lambda parts: parts.data + parts.augmentation, confidence).value
    averaged = max(others, 0.0) + max(rest, 0.0)
    of_floor = theory.floor_of(floor, lambda line: line.floor, confidence)
    size = estimate(theory.floor_batch_size(of_floor, averaged), confidence)
    return size if shared else replace(size, value=None, high=None)


def _averaged_away(floor: MaskVariances, batch_size: int, confidence: float) -> Estimate:
    """(rest / B) over the whole; its error is that of the floor."""
    rest = max(float(theory.floor_of(floor, lambda line: line.rest, confidence).value), 0.0) / batch_size
    of_floor = theory.floor_of(floor, lambda line: line.floor, confidence)

    def share(constant: float) -> float:
        return rest / (rest + max(constant, 0.0)) if rest > 0 else 0.0

    return Estimate(
        value=share(of_floor.value),
        low=share(of_floor.high),
        high=share(of_floor.low),
        confidence=confidence,
    )
