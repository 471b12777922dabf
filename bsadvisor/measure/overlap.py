"""Held-out examples that are training examples after all, told by what they hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bsadvisor.measure.sampler import Sampler

HELDOUT, TRAINING = 512, 100_000
"""Examples that are compared, at most."""

CHUNK = 64
"""Examples fetched at a time."""

COLUMNS = 4096
"""Numbers of each tensor of an example that are looked at, at most."""

SURE = 4.0
"""Standard errors by which held-out examples must be seen in the training data more often than its own twins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How many held-out examples are in the training data, as far as that was looked through."""

    heldout: int
    """Examples compared."""
    training: int
    found: int
    """Of the held-out ones."""
    twins: float
    """Share of as many training examples that have a twin among the training examples: alike by chance."""
    share: float
    """Estimated share of the held-out examples that are training examples; 0 where that is no more than chance."""


def find_overlap(
    training: Sampler, heldout: Sampler, *, population: int | None, should_stop: Callable[[], bool]
) -> Overlap | None:
    """Compare held-out examples with training examples, bit for bit.

    Examples that change each time they are drawn are not recognised. Data of few different values has twins
    by nature: they are no more frequent between the two sets than within the training data.

    Args:
        training: of which as many are looked through as time allows.
        heldout: of which up to `HELDOUT` are compared.
        population: training examples; None for a stream.

    Returns:
        None where examples hold no tensors.

    Cost: drawing the examples, without a forward pass.
    """
    sought = _marks(heldout, HELDOUT, lambda: False)
    seen = _marks(training, TRAINING, should_stop)
    if not len(sought) or not len(seen):
        return None
    distinct, counts = seen.unique(return_counts=True)
    found = int(torch.isin(sought, distinct).sum())
    again = distinct[counts > 1]
    twins = float(torch.isin(seen[: len(sought)], again).double().mean())
    rate = found / len(sought)
    chance = math.sqrt(max(twins * (1 - twins), 1 / len(sought)) / len(sought))
    # Of a training set that was not looked through to its end, what was not seen holds as many again.
    reach = len(seen) / population if population else 1.0
    share = min((rate - twins) / reach, 1.0) if rate - twins > SURE * chance else 0.0
    return Overlap(heldout=len(sought), training=len(seen), found=found, twins=twins, share=share)


def _marks(sampler: Sampler, most: int, should_stop: Callable[[], bool]) -> Tensor:
    """A number per example that tells it from others: (n,), int64."""
    found: list[Tensor] = []
    count = min(sampler.num_certain, most)
    chunk = min(CHUNK, count)
    for batch in sampler.first(count // chunk if chunk else 0, chunk):
        marks = [_mark(tensor) for tensor in _tensors(batch) if tensor.ndim and len(tensor) == chunk]
        if not marks:
            break
        found.append(torch.stack(marks).sum(0))
        if should_stop():
            break
    return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)


def _mark(tensor: Tensor) -> Tensor:
    """Of each row: its bits times random numbers, summed up in whole numbers, so in any order."""
    rows = tensor.detach().reshape(len(tensor), -1)
    rows = rows[:, :: max(1, rows.shape[1] // COLUMNS)].cpu()
    if rows.is_complex():
        rows = torch.view_as_real(rows).flatten(1)
    whole = rows.double().view(torch.int64) if rows.is_floating_point() else rows.long()
    mixed = (whole ^ (whole >> 29)) * 0x2545F4914F6CDD1D
    generator = torch.Generator().manual_seed(rows.shape[1])
    factors = torch.randint(2**62, (rows.shape[1],), generator=generator) * 2 + 1
    return ((mixed ^ (mixed >> 32)) * factors).sum(1)


def _tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif hasattr(batch, "values"):
        yield from _tensors(list(batch.values()))
    elif isinstance(batch, (list, tuple)):
        for part in batch:
            yield from _tensors(part)
