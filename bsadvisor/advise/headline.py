"""The one line a person can copy."""

from __future__ import annotations

from collections.abc import Sequence

from bsadvisor.advise.pairs import balanced
from bsadvisor.theory.training_cost import inefficiency
from bsadvisor.values import CriticalBatchSize, Headline, Recommendation

AS_GOOD = 1.125
"""Steps times examples over the least: a factor of two from B_crit, within any prediction's error."""


def headline(
    rows: Sequence[Recommendation],
    critical: CriticalBatchSize,
    *,
    batch_in_use: int | None,
    has_checkpoint: bool,
    at_saddle: bool = False,
) -> Headline:
    """`try` another pair, `keep` today's, or `none` with the reason."""
    if not rows or critical.value is None:
        return _none("the gradient was not resolved from its noise")
    if not has_checkpoint:
        return _none("no checkpoint was given, and at initial weights noise scales are far below the run's")
    if at_saddle:
        return _none("the weights sit at a saddle, whose noise says little of the run that leaves it")
    if critical.high is None:
        return _none("the noise scale has no upper end yet: no change can be recommended from it")
    if batch_in_use is not None and inefficiency(batch_in_use, critical.value) <= AS_GOOD:
        return Headline(
            action="keep",
            batch_size=batch_in_use,
            reason="within a factor of two of the predicted critical batch size",
        )
    best = balanced([row.batch_size for row in rows], critical.value)
    if best == batch_in_use:
        return Headline(
            action="keep", batch_size=best, reason="the data set and devices allow no better batch size"
        )
    return Headline(action="try", batch_size=best, reason="nearest to the predicted critical batch size")


def _none(reason: str) -> Headline:
    return Headline(action="none", batch_size=None, reason=reason)
