"""What a report remarks on dropout and augmentation."""

from __future__ import annotations

from collections.abc import Iterator

from bsadvisor.findings import finding
from bsadvisor.values import AssumptionFacts, DropoutStats, Estimate, Finding, GradientStats, Recommendation

MOST = 0.5
"""Share of the noise, at its low end, from which it is said."""


def about_dropout(
    gradient: GradientStats, facts: AssumptionFacts, recommended: Recommendation | None
) -> Iterator[Finding]:
    """Rates that drop everything, noise that is not the data's, and what the recommended pair changes."""
    everything = [place.name for place in facts.dropout if place.keep <= 0]
    if everything:
        yield finding("BSA232", names=", ".join(everything[:3]) + (", …" if len(everything) > 3 else ""))
    if facts.dropout_problem is not None:
        yield finding("BSA235", reason=facts.dropout_problem)
    if gradient.dropout is not None:
        yield from _about_masks(gradient.dropout)
        yield from _about_the_pair(gradient.dropout, recommended)


def _about_masks(dropout: DropoutStats) -> Iterator[Finding]:
    masks, augmentation, size = dropout.mask_share, dropout.augmentation_share, dropout.floor_batch_size
    shared = dropout.masks == "shared"
    if masks is not None and masks.value is not None and _is_most(masks) and not shared:
        yield finding("BSA230", share=masks.value, factor=1 - min(masks.value, 1.0))
    if shared:
        yield finding("BSA231", where=_half_at(size))
    if augmentation is not None and _is_most(augmentation):
        yield finding("BSA234", share=augmentation.value)


def _half_at(size: Estimate | None) -> str:
    if size is not None and size.value is not None:
        return f"at B = {size.value:,.0f} it is half of the noise"
    if size is not None and size.low is not None:
        return f"it is less than half of the noise below B = {size.low:,.0f}"
    return "how much of the noise it is was not seen"


def _is_most(share: Estimate) -> bool:
    return share.low is not None and share.low > MOST


def _about_the_pair(dropout: DropoutStats, recommended: Recommendation | None) -> Iterator[Finding]:
    """Where another batch size is recommended."""
    if recommended is None or recommended.current or not any(p.keep < 1 for p in dropout.keep_probabilities):
        return
    known = recommended.relative_temperature is not None and recommended.learning_rate is not None
    if known and dropout.masks != "shared":
        yield finding(
            "BSA233",
            batch_size=recommended.batch_size,
            learning_rate=recommended.learning_rate,
            noise=recommended.relative_temperature,
        )
