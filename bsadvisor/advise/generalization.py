"""What losses and gradients on held-out examples say, and what a change of batch size has to do with it.

Speed and generalization are kept apart: nothing here changes a recommendation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bsadvisor.findings import finding
from bsadvisor.values import (
    Estimate,
    Finding,
    Generalization,
    GeneralizationVerdict,
    Headline,
    HeldOutFacts,
    Recommendation,
    TargetDescription,
)

TOO_MANY_SHARED = 0.1
"""From this share of held-out training examples on, the gap says little and no verdict is given."""

CLOSE = 0.25
"""A gap that is not resolved is taken for none where its interval reaches no farther than this share of the loss."""

WORTH = 0.008
"""Share of the held-out loss that smaller weights must take off it, beyond what they take off the training loss.

The noise of a run with a large learning rate pushes weights to and fro; less than this was seen before the turn."""

LARGE_SHARE = 0.1
"""Of the data set in one batch: what was called a large batch where the gap was described (Keskar et al. 2017)."""

COOLER = 0.5
"""Of today's temperature: from here on, a large batch is one that explores less than today's."""


def judge_generalization(found: Generalization, shared: float) -> GeneralizationVerdict | None:
    """From the gap, and from what a growth of all weights does to either loss.

    Args:
        shared: share of the held-out examples that are training examples.

    Returns:
        `memorization`: a gap, and growing weights raise the held-out loss above what they do to the training
        loss, by something that is worth it. `fitting`: no gap, or one while growing weights or a step along the training gradient surely lower
        the held-out loss. `overfitting`: a gap, and neither of both. None: it cannot be told.
    """
    gap, growth, apart = found.gap, found.heldout_growth, found.growth_gap
    if shared > TOO_MANY_SHARED or gap.low is None or gap.high is None:
        return None
    if gap.low <= 0:
        return "fitting" if _is_close(found) else None
    if is_above_zero(growth) and is_above_zero(apart) and _is_overgrown(found):
        return "memorization"
    still_gains = growth is not None and growth.high is not None and growth.high < 0
    serves_both = is_above_zero(found.alignment)
    return "fitting" if still_gains or serves_both else "overfitting"


def is_above_zero(estimate: Estimate | None) -> bool:
    """Whether its whole interval is."""
    return estimate is not None and estimate.low is not None and estimate.low > 0


def _is_overgrown(found: Generalization) -> bool:
    """Whether smaller weights would serve held-out examples by more than the noise of a run displaces them."""
    shrinking, loss = found.shrinking, found.heldout_loss.value
    if shrinking is None or loss is None:
        return False
    gain = (shrinking.heldout_gain.value or 0.0) - max(shrinking.train_gain.value or 0.0, 0.0)
    return is_above_zero(shrinking.heldout_gain) and gain >= WORTH * abs(loss)


def _is_close(found: Generalization) -> bool:
    gap, losses = found.gap, (found.train_loss.value, found.heldout_loss.value)
    largest = max(abs(loss) for loss in losses if loss is not None)
    return gap.high is not None and gap.high <= CLOSE * largest


def about_generalization(
    facts: HeldOutFacts | None, found: Generalization | None, examples: str
) -> Iterator[Finding]:
    """Whether the held-out data is what it should be, and what the verdict means.

    Args:
        examples: what they are called, in the plural.
    """
    if facts is None:
        return
    if found is None and facts.shared > 0:
        yield finding("BSA601", share=facts.shared, how=_how(facts, examples))
    elif facts.shared > 0:
        yield finding("BSA602", share=facts.shared, how=_how(facts, examples))
    if found is None:
        return
    if found.mode == "train":
        yield finding("BSA606")
    if found.verdict == "memorization":
        growth = found.heldout_growth
        yield finding("BSA604", gap=_value(found.gap), growth=growth.value if growth else None)
    elif found.verdict == "overfitting":
        yield finding("BSA603", gap=_value(found.gap))
    elif found.verdict is None and facts.shared <= TOO_MANY_SHARED:
        yield finding("BSA605", examples=f"{found.heldout_examples:,} held-out {examples}")


def about_temperature(
    target: TargetDescription, headline: Headline, rows: Sequence[Recommendation]
) -> Iterator[Finding]:
    """Whether the recommended pair comes to where large batches have generalized worse."""
    row = next((row for row in rows if row.batch_size == headline.batch_size), None)
    size = target.dataset_size
    if row is None or row.relative_temperature is None or size is None or headline.action == "keep":
        return
    if row.batch_size >= LARGE_SHARE * size and row.relative_temperature <= COOLER:
        yield finding(
            "BSA607",
            batch_size=row.batch_size,
            share=row.batch_size / size,
            temperature=row.relative_temperature,
        )


def _how(facts: HeldOutFacts, examples: str) -> str:
    if facts.compared is None:
        return "both are rows of one data set"
    return f"{facts.compared:,} of them were looked for in {facts.looked_through:,} training {examples}"


def _value(estimate: Estimate) -> float:
    return estimate.value or 0.0
