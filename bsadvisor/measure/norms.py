"""Squared norms of long tensors: float32 partial norms of chunks, added in float64, no copy made."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CHUNK = 2**16
"""The float32 norm of a tensor of ten million elements is off by 4e-4; that of a chunk by 1e-7."""


def chunks(flat: Sequence[Tensor]) -> list[Tensor]:
    """Views of at most `CHUNK` elements, tensor by tensor."""
    parts: list[Tensor] = []
    for tensor in flat:
        parts += [tensor] if tensor.numel() <= CHUNK else torch.split(tensor, CHUNK)
    return parts


def squared_norm(flat: Tensor, scale: Tensor | None = None) -> float:
    """|flat|^2, or |scale * flat|^2 for an elementwise scale."""
    parts = chunks([flat])
    if scale is not None:
        parts = [part * factor for part, factor in zip(parts, chunks([scale]), strict=True)]
    return float(torch.stack(torch._foreach_norm(parts)).double().square().sum())
