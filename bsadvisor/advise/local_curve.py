"""The section `local`: the best single step at each batch size of the ladder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bsadvisor.values import Estimate, LocalPoint


def local_curve(
    best: Callable[[float], tuple[Estimate, Estimate]], batch_sizes: Sequence[int]
) -> tuple[LocalPoint, ...]:
    """The best step and its loss decrease over the ladder."""
    points = ((batch_size, best(batch_size)) for batch_size in batch_sizes)
    return tuple(
        LocalPoint(batch_size=batch_size, learning_rate=rate, loss_decrease=decrease)
        for batch_size, (rate, decrease) in points
    )


def inverse(curvature: Estimate | None) -> Estimate | None:
    """The best noise-free step of a quadratic: 1 / curvature; no value where that is not positive."""
    if curvature is None:
        return None
    low, value, high = (
        1 / end if end is not None and end > 0 else None
        for end in (curvature.high, curvature.value, curvature.low)
    )
    return Estimate(value=value, low=low, high=high, confidence=curvature.confidence)
