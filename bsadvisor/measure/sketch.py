"""A random projection of a gradient that keeps inner products, in a few thousand numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bsadvisor.measure import norms

CHUNK = 2**18
"""Elements that are signed and folded at a time: a scratch tensor that stays in the cache."""

OFFSETS = 2**16
"""Places in the pool of signs at which a chunk may start to read."""

TOTAL_BUCKETS = 2**16
MIN_BUCKETS, MAX_BUCKETS = 512, 4096


class Sketch:
    """CountSketch of a list of tensors: each is signed at random and folded into its own buckets.

    A tensor that fits its buckets is copied, so small models are not approximated at all. Inner
    products of sketches are unbiased with relative error about sqrt(2 / buckets). Squared norms are
    exact and come for free, while a chunk is in the cache.

    Signs come from a pool a little longer than a chunk, read from a random offset for each chunk:
    no memory grows with the model, and structured gradients (equal rows) stay incoherent.

    Args:
        sizes: elements of each tensor.
        seed: of signs and offsets.
        device: where the sketch lives.

    Source: Charikar, Chen and Farach-Colton 2002 (CountSketch).
    Cost: one more pass over the gradient's memory; no copy of it.
    """

    def __init__(self, sizes: Sequence[int], *, seed: int, device: torch.device) -> None:
        buckets = min(max(TOTAL_BUCKETS // max(len(sizes), 1), MIN_BUCKETS), MAX_BUCKETS)
        self.widths = [min(size, buckets) for size in sizes]
        self.short = [number for number, size in enumerate(sizes) if size <= buckets]
        """Numbers of the tensors that are copied."""
        self.long = [number for number, size in enumerate(sizes) if size > buckets]
        generator = torch.Generator().manual_seed(seed)
        length = OFFSETS + min(CHUNK, max(sizes, default=0)) if self.long else 0
        bits = torch.randint(0, 2, (length,), generator=generator, dtype=torch.int8)
        self._pool = (bits * 2 - 1).to(device, torch.float32)
        self._offsets = {
            number: torch.randint(0, OFFSETS, (-(-sizes[number] // CHUNK),), generator=generator).tolist()
            for number in self.long
        }

    @property
    def num_buckets(self) -> int:
        """Length of one sketch."""
        return sum(self.widths)

    def __call__(self, gradients: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The sketch of flat tensors, and their norms: those of `short`, then of `long`."""
        parts = list(gradients)
        short = [parts[number] for number in self.short]
        lengths = list(torch._foreach_norm(short)) if short else []
        for number in self.long:
            parts[number], length = self._fold(parts[number], self.widths[number], self._offsets[number])
            lengths.append(length)
        return torch.cat(parts), torch.stack(lengths)

    def _fold(self, gradient: Tensor, width: int, offsets: Sequence[int]) -> tuple[Tensor, Tensor]:
        folds: list[Tensor] = []
        partial: list[Tensor] = []
        for chunk, offset in zip(torch.split(gradient, CHUNK), offsets, strict=True):
            signed = chunk * self._pool[offset : offset + chunk.numel()]
            partial += torch._foreach_norm(torch.split(signed, norms.CHUNK))
            folds.append(_fold_chunk(signed, width))
        folded = folds[0] if len(folds) == 1 else torch.stack(folds).sum(0)
        return folded, partial[0] if len(partial) == 1 else torch.stack(partial).square().sum().sqrt()


def _fold_chunk(signed: Tensor, width: int) -> Tensor:
    """Add up a chunk in rows of `width`; the last row may be shorter."""
    whole = signed.numel() - signed.numel() % width
    folded = signed[:whole].view(whole // width, width).sum(0)
    if whole < signed.numel():
        folded[: signed.numel() - whole] += signed[whole:]
    return folded
