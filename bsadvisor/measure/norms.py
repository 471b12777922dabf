"""Squared norms and inner products of long tensors: in float32 by chunks, added in float64, no copy made."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHUNK = 2**14
"""The float32 norm of a tensor of ten million elements is off by 4e-4; that of a chunk by 1e-7.

Below 2^15 elements no norm is shared among threads, so that it is the same in any company.
"""

PIECE = 2**20
"""Elements that are scaled at a time."""


def chunk_norms(rows: Tensor) -> list[Tensor]:
    """The norms of the chunks of each row, (R, chunks) of (R, elements); nothing is synchronised."""
    whole = rows.shape[1] - rows.shape[1] % CHUNK
    found = [rows[:, :whole].view(len(rows), -1, CHUNK).norm(dim=2)] if whole else []
    if whole < rows.shape[1] or not whole:
        found.append(rows[:, whole:].norm(dim=1, keepdim=True))
    return found


def num_chunks(elements: int) -> int:
    """How many a row has; an empty one has one."""
    return max(1, -(-elements // CHUNK))


def squared_norm(flat: Tensor, scale: Tensor | None = None) -> float:
    """|flat|^2, or |scale * flat|^2 for an elementwise scale."""
    parts = flat.split(PIECE)
    if scale is not None:
        parts = tuple(part * factor for part, factor in zip(parts, scale.split(PIECE), strict=True))
    found = torch.cat([norm for part in parts for norm in chunk_norms(part.unsqueeze(0))], dim=1)
    return float(found.cpu().double().square().sum())


def inner_product(first: Tensor, second: Tensor) -> float:
    """first . second of two flat tensors."""
    whole = len(first) - len(first) % CHUNK
    chunks = torch.bmm(first[:whole].view(-1, 1, CHUNK), second[:whole].view(-1, CHUNK, 1))
    return float(chunks.cpu().double().sum()) + float(first[whole:] @ second[whole:])


def check_finite(*products: float) -> None:
    """Raise `FloatingPointError` where a gradient or a product with the Hessian overflowed."""
    if not all(map(math.isfinite, products)):
        raise FloatingPointError("a product with the Hessian is not finite")
