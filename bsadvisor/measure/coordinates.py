"""Mean and mean square of some coordinates of the gradient, picked at random."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MOST = 4096
"""Coordinates: a share of them is known to one or two per cent."""


class Coordinates:
    """Weighted sums over micro-batches, of gradients that come in chunks.

    Args:
        places: tensor and first element of each chunk, in order.
        sizes: elements of each tensor.
        chunk: elements of a chunk, but for the last of a tensor.
        seed: of the pick.
        device: where the gradients live.

    Cost: one small gather per chunk that holds a picked coordinate; no memory that grows with the model.
    """

    def __init__(
        self,
        places: Sequence[tuple[int, int]],
        sizes: Sequence[int],
        chunk: int,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        starts = torch.tensor([0, *sizes]).cumsum(0)
        total = int(starts[-1])
        picks = torch.arange(total)
        if total > MOST:
            generator = torch.Generator().manual_seed(seed)
            picks = torch.randint(total, (MOST,), generator=generator).unique()
        self._of_chunk: list[Tensor | None] = []
        for tensor, start in places:
            first = int(starts[tensor]) + start
            last = first + min(chunk, sizes[tensor] - start)
            inside = picks[(picks >= first) & (picks < last)] - first
            self._of_chunk.append(inside.to(device) if len(inside) else None)
        kind = torch.float32 if device.type == "mps" else torch.float64
        self.sums = torch.zeros(2, len(picks), dtype=kind, device=device)
        """Of w h and of w h^2."""
        self._parts: list[Tensor] = []

    def add(self, place: int, chunk: Tensor) -> None:
        """Take in a chunk (R, elements) of R gradients; chunks come in order."""
        picked = self._of_chunk[place]
        if picked is not None:
            self._parts.append(chunk.index_select(1, picked))

    def put(self, weights: Sequence[float]) -> None:
        """Count the R gradients whose chunks are in."""
        rows = torch.cat(self._parts, dim=1).to(self.sums.dtype)
        self._parts.clear()
        for row, weight in zip(rows, weights, strict=True):  # one by one: the same sums in whatever company
            self.sums[0].add_(row, alpha=weight)
            self.sums[1].addcmul_(row, row, value=weight)
