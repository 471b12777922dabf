"""What dropout and augmentation do, in a line or two."""

from __future__ import annotations

from collections.abc import Iterator

from bsadvisor.report import numbers
from bsadvisor.values import DropoutRidge, DropoutStats, Estimate

WORTH_SAYING = 0.95
"""A factor of the stable learning rate."""


def dropout_lines(dropout: DropoutStats) -> Iterator[str]:
    """Shares of the noise, whether a batch averages the masks away, and the ridge that they make."""
    shares = ("masks", dropout.mask_share), ("augmentation", dropout.augmentation_share)
    known = [(name, _percent(share)) for name, share in shares if share is not None]
    if len(known) == 1:
        yield f"{known[0][1]} of the gradient noise"
    elif known:
        yield f"{', '.join(f'{name} {share}' for name, share in known)} of the noise"
    if dropout.masks is not None:
        yield _masks(dropout)
    weakest = _weakest(dropout.ridges)
    if weakest is not None:
        factor = numbers.interval(weakest.learning_rate_factor)
        yield f"its ridge on {weakest.name}: stable η times {factor}"


def _masks(dropout: DropoutStats) -> str:
    """How they average."""
    keeps = _keeps(dropout)
    size = dropout.floor_batch_size
    low = None if size is None else size.low
    if dropout.masks == "shared":
        if size is not None and size.value is not None:
            return f"{keeps}masks shared: half the noise stays at B = {numbers.interval(size)}"
        return f"{keeps}masks shared by a batch: a part of the noise stays"
    whose = "a mask for each example" if dropout.masks == "per_example" else "masks"
    if low is None:
        return f"{keeps}{whose}"
    return f"{keeps}{whose}, averaged away up to B = {numbers.significant(low)}"


def _keeps(dropout: DropoutStats) -> str:
    """`keeps 0.5 … 0.9; ` of all places."""
    keeps = sorted({place.keep for place in dropout.keep_probabilities})
    if not keeps:
        return ""
    low, high = f"{keeps[0]:.3g}", f"{keeps[-1]:.3g}"
    return f"keeps {low if low == high else f'{low} … {high}'}; "


def _weakest(ridges: tuple[DropoutRidge, ...]) -> DropoutRidge | None:
    """The layer whose limit falls most, where that is worth a line."""
    known = [(ridge.learning_rate_factor.value, ridge) for ridge in ridges]
    fallen = [(value, ridge) for value, ridge in known if value is not None and value < WORTH_SAYING]
    return min(fallen, key=lambda pair: pair[0])[1] if fallen else None


def _percent(share: Estimate) -> str:
    return numbers.interval(share, "%", write=lambda part: f"{100 * part:.0f}")
