"""The best single step at each batch size, from the noise-free one and the noise scale."""

from __future__ import annotations

from collections.abc import Sequence

from bsadvisor.theory.local import saturation
from bsadvisor.values import Estimate, LocalPoint


def noise_free(found: Estimate, direction_examples: int, noise_scale: Estimate) -> Estimate:
    """Correct a step found along a gradient of n examples to that along the true gradient.

    The measured direction is itself a batch gradient with B = n, so the line search returns
    eta_max / (1 + Bn / n).
    """
    low, value, high = (
        None if step is None or noise is None else step / saturation(direction_examples, noise)
        for step, noise in zip(_ends(found), _ends(noise_scale), strict=True)
    )
    return Estimate(value=value, low=low, high=high, confidence=found.confidence)


def local_curve(
    best_step: Estimate, best_decrease: Estimate, noise_scale: Estimate, batch_sizes: Sequence[int]
) -> tuple[LocalPoint, ...]:
    """eta_max / (1 + Bn / B) and its loss decrease, over the ladder."""
    return tuple(
        LocalPoint(
            batch_size=batch_size,
            learning_rate=_at(batch_size, best_step, noise_scale),
            loss_decrease=_at(batch_size, best_decrease, noise_scale),
        )
        for batch_size in batch_sizes
    )


def inverse(curvature: Estimate | None) -> Estimate | None:
    """The best noise-free step of a quadratic: 1 / curvature; no value where that is not positive."""
    if curvature is None:
        return None
    low, value, high = (
        1 / end if end is not None and end > 0 else None for end in reversed(_ends(curvature))
    )
    return Estimate(value=value, low=low, high=high, confidence=curvature.confidence)


def _at(batch_size: int, noise_free_value: Estimate, noise_scale: Estimate) -> Estimate:
    """Both intervals at their worst at once, so the level is at least the stated one."""
    low, value, high = (
        None if best is None or noise is None else best * saturation(batch_size, noise)
        for best, noise in zip(_ends(noise_free_value), reversed(_ends(noise_scale)), strict=True)
    )
    return Estimate(value=value, low=low, high=high, confidence=noise_free_value.confidence)


def _ends(estimate: Estimate) -> tuple[float | None, float | None, float | None]:
    return estimate.low, estimate.value, estimate.high
