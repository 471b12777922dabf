"""Norms and inner products of long tensors: of chunks first, then of their sum; no copy made."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

CHUNK = 2**14
"""The float32 norm of a tensor of ten million elements is off by 4e-4; that of a chunk by 1e-7.

Below 2^15 elements no norm is shared among threads, so that it is the same in any company.
"""

PIECE = 2**20
"""Elements that are scaled at a time."""


def row_norms(rows: Tensor) -> Tensor:
    """The norm of each row, (R, 1) of (R, elements); nothing is synchronised."""
    whole = rows.shape[1] - rows.shape[1] % CHUNK
    if not whole:
        return joined([rows])
    norms = [torch.linalg.vector_norm(rows[:, :whole].view(len(rows), -1, CHUNK), dim=2)]
    if whole < rows.shape[1]:
        norms.append(joined([rows[:, whole:]]))
    return joined(norms)


def joined(norms: Sequence[Tensor]) -> Tensor:
    """The norms (R, 1) of rows from those of their parts, (R, parts) each."""
    parts = norms[0] if len(norms) == 1 else torch.cat(list(norms), dim=1)
    found: Tensor = torch.linalg.vector_norm(parts, dim=1, keepdim=True)
    return found


def squared_norm(flat: Tensor, scale: Tensor | None = None) -> float:
    """|flat|^2, or |scale * flat|^2 for an elementwise scale."""
    parts = flat.split(PIECE)
    if scale is not None:
        parts = tuple(part * factor for part, factor in zip(parts, scale.split(PIECE), strict=True))
    found = torch.cat([row_norms(part.unsqueeze(0)) for part in parts])
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
