"""Squared norms and inner products of long tensors: in float32 by chunks, added in float64, no copy made."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CHUNK = 2**16
"""The float32 norm of a tensor of ten million elements is off by 4e-4; that of a chunk by 1e-7."""


def squared_norm(flat: Tensor, scale: Tensor | None = None) -> float:
    """|flat|^2, or |scale * flat|^2 for an elementwise scale."""
    parts = list(torch.split(flat, CHUNK))
    if scale is not None:
        parts = [part * factor for part, factor in zip(parts, torch.split(scale, CHUNK), strict=True)]
    return float(torch.stack(torch._foreach_norm(parts)).cpu().double().square().sum())


def inner_product(first: Tensor, second: Tensor) -> float:
    """first . second of two flat tensors."""
    pairs = zip(torch.split(first, CHUNK), torch.split(second, CHUNK), strict=True)
    return float(torch.stack([a @ b for a, b in pairs]).cpu().double().sum())


def check_finite(*products: float) -> None:
    """Raise `FloatingPointError` where a gradient or a product with the Hessian overflowed."""
    if not all(map(math.isfinite, products)):
        raise FloatingPointError("a product with the Hessian is not finite")
