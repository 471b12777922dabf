"""A random projection of a gradient that keeps inner products, in a few thousand numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CHUNK = 2**18
"""Elements of a tensor that are worked on at a time, so that they are in the cache for all that is done."""

OFFSETS = 2**14
"""Places in the pool of signs at which a chunk may start to read."""

TOTAL_BUCKETS = 2**16
MIN_BUCKETS, MAX_BUCKETS = 512, 4096


class Sketch:
    """CountSketch of a list of tensors: each is signed at random and folded into its own buckets.

    A tensor that fits its buckets is copied, so small models are not approximated at all. Inner
    products of sketches are unbiased with relative error about sqrt(2 / buckets).

    Signs come from a pool a little longer than a chunk, read from a random offset for each chunk:
    no memory grows with the model, and structured gradients (equal rows) stay incoherent.

    Args:
        sizes: elements of each tensor.
        seed: of signs and offsets.
        device: where the sketch lives.

    Source: Charikar, Chen and Farach-Colton 2002 (CountSketch).
    Cost: one pass over the gradient while it is in the cache; no copy of it.
    """

    def __init__(self, sizes: Sequence[int], *, seed: int, device: torch.device) -> None:
        buckets = min(max(TOTAL_BUCKETS // max(len(sizes), 1), MIN_BUCKETS), MAX_BUCKETS)
        self.widths = [min(size, buckets) for size in sizes]
        folded = [number for number, size in enumerate(sizes) if size > buckets]
        generator = torch.Generator().manual_seed(seed)
        length = OFFSETS + min(CHUNK, max(sizes)) if folded else 0
        bits = torch.randint(0, 2, (length,), generator=generator, dtype=torch.int8)
        pool = (bits * 2 - 1).to(device, torch.float32)
        self._signs = {number: _signs(sizes[number], pool, generator) for number in folded}
        """Per tensor that is folded, the signs of each of its chunks: views of the one pool."""
        self._parts: list[Tensor] = []

    @property
    def num_buckets(self) -> int:
        """Length of one sketch."""
        return sum(self.widths)

    def of(self, tensors: Sequence[Tensor]) -> Tensor:
        """The sketch of one gradient, given as flat tensors."""
        for number, tensor in enumerate(tensors):
            for start in range(0, max(tensor.numel(), 1), CHUNK):
                self.add(number, start, tensor[start : start + CHUNK].unsqueeze(0))
        return self.take()[0]

    def add(self, number: int, start: int, chunk: Tensor) -> None:
        """Take in a chunk (R, elements) of R gradients of a tensor; chunks come in order."""
        signs = self._signs.get(number)
        if signs is None:
            self._parts.append(chunk)
        elif start == 0:
            self._parts.append(chunk * signs[0])
        else:
            self._parts[number][:, : chunk.shape[1]].addcmul_(chunk, signs[start // CHUNK])

    def take(self) -> Tensor:
        """The sketches (R, buckets) of the R gradients whose chunks are in."""
        for number in self._signs:
            self._parts[number] = _folded(self._parts[number], self.widths[number])
        sketches = torch.cat(self._parts, dim=1)
        self._parts.clear()
        return sketches


def _signs(size: int, pool: Tensor, generator: torch.Generator) -> list[Tensor]:
    lengths = [min(CHUNK, size - start) for start in range(0, size, CHUNK)]
    offsets = torch.randint(0, OFFSETS, (len(lengths),), generator=generator).tolist()
    return [pool[offset : offset + length] for offset, length in zip(offsets, lengths, strict=True)]


def _folded(signed: Tensor, width: int) -> Tensor:
    """The sum of the rows of `width` of each signed tensor; the last row may be shorter."""
    rows, rest = divmod(signed.shape[1], width)
    folded = signed[:, : rows * width].view(len(signed), rows, width).sum(1)
    if rest:
        folded[:, :rest] += signed[:, rows * width :]
    return folded
