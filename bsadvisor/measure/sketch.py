"""A random projection of a gradient that keeps inner products, in a few thousand numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CHUNK = 2**18
"""Elements that are signed and folded at a time: a scratch tensor that stays in the cache."""

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
    Cost: one more pass over the gradient's memory; no copy of it.
    """

    def __init__(self, sizes: Sequence[int], *, seed: int, device: torch.device) -> None:
        buckets = min(max(TOTAL_BUCKETS // max(len(sizes), 1), MIN_BUCKETS), MAX_BUCKETS)
        self.widths = [min(size, buckets) for size in sizes]
        generator = torch.Generator().manual_seed(seed)
        longest = min(CHUNK, max(sizes, default=0))
        bits = torch.randint(0, 2, (2 * longest,), generator=generator, dtype=torch.int8)
        self._pool = (bits * 2 - 1).to(device, torch.float32)
        self._offsets = [
            torch.randint(0, longest, (-(-size // CHUNK),), generator=generator).tolist() for size in sizes
        ]

    @property
    def num_buckets(self) -> int:
        """Length of one sketch."""
        return sum(self.widths)

    def __call__(self, gradients: Sequence[Tensor]) -> Tensor:
        """The sketch of flat tensors: shape (num_buckets,)."""
        return torch.cat(
            [
                gradient if gradient.numel() == width else self._fold(gradient, width, offsets)
                for gradient, width, offsets in zip(gradients, self.widths, self._offsets, strict=True)
            ]
        )

    def _fold(self, gradient: Tensor, width: int, offsets: Sequence[int]) -> Tensor:
        folded = gradient.new_zeros(width)
        for chunk, offset in zip(torch.split(gradient, CHUNK), offsets, strict=True):
            signed = chunk * self._pool[offset : offset + chunk.numel()]
            whole = signed.numel() - signed.numel() % width
            folded += signed[:whole].view(-1, width).sum(0)
            folded[: signed.numel() - whole] += signed[whole:]
        return folded
