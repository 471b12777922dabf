"""Batches of any nesting of tensors: walked, moved, cut and joined along their first dimension."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsadvisor.errors import DataError


def tensors_in(batch: Any) -> Iterator[Tensor]:
    """Every tensor of a batch, in order."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors_in(value)
    elif isinstance(batch, (list, tuple)):
        for value in batch:
            yield from tensors_in(value)


def move(batch: Any, device: torch.device, dtype: torch.dtype | None) -> Any:
    """The batch on the device; floating tensors become `dtype` where one is given."""
    if isinstance(batch, Tensor):
        cast = dtype if batch.is_floating_point() else None
        return batch.to(device=device, dtype=cast, non_blocking=True)
    if isinstance(batch, (list, tuple)):
        return _like(batch, [move(value, device, dtype) for value in batch])
    # Batches of other libraries know how to move themselves, and keep their type.
    own_way = getattr(batch, "to", None)
    if callable(own_way):
        return own_way(device)
    if isinstance(batch, Mapping):
        return {key: move(value, device, dtype) for key, value in batch.items()}
    return batch


def batch_length(batch: Any) -> int:
    """The number of examples in a batch: the length of its first tensor, or of its first plain list."""
    length = _length(batch)
    if length is None:
        raise DataError(
            f"a {type(batch).__name__} is not a batch: it holds nothing to count examples by",
            "let the data yield tensors, or tuples or dicts of tensors, with the examples first",
        )
    return length


def cut(batch: Any, start: int, stop: int) -> Any:
    """Examples `start` to `stop` of a batch."""
    length = batch_length(batch)
    if (start, stop) == (0, length):
        return batch
    return _cut(batch, length, slice(start, stop))


def join(batches: Sequence[Any]) -> Any:
    """One batch of the examples of several."""
    first = batches[0]
    if len(batches) == 1:
        return first
    if isinstance(first, Mapping):
        return {key: join([batch[key] for batch in batches]) for key in first}
    if _is_plain_list(first):
        return type(first)(value for batch in batches for value in batch)
    if isinstance(first, (list, tuple)):
        return _like(first, [join(parts) for parts in zip(*batches, strict=True)])
    if isinstance(first, Tensor) and first.ndim:
        return _cat(batches)
    if isinstance(first, np.ndarray) and first.ndim:
        return np.concatenate(batches)
    return first


def _cat(tensors: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(tensor.shape[1:]) for tensor in tensors}
    if len(shapes) > 1:
        raise DataError(
            f"batches of examples shaped {' and '.join(map(str, sorted(shapes)))} cannot be joined",
            "pad every batch to one length, or give a map-style Dataset with a collate_fn",
        )
    return torch.cat(list(tensors))


def _length(batch: Any) -> int | None:
    if isinstance(batch, (Tensor, np.ndarray)):
        return len(batch) if batch.ndim else None
    if _is_plain_list(batch):
        return len(batch)
    if isinstance(batch, Mapping):
        return _length(tuple(batch.values()))
    lengths = map(_length, batch) if isinstance(batch, (list, tuple)) else ()
    return next((length for length in lengths if length is not None), None)


def _cut(batch: Any, length: int, part: slice) -> Any:
    if isinstance(batch, Mapping):
        return {key: _cut(value, length, part) for key, value in batch.items()}
    if isinstance(batch, (Tensor, np.ndarray)) or _is_plain_list(batch):
        return batch[part] if _length(batch) == length else batch
    if isinstance(batch, (list, tuple)):
        return _like(batch, [_cut(value, length, part) for value in batch])
    return batch


def _is_plain_list(value: Any) -> bool:
    """A list of strings, numbers or the like, one per example; not a structure of tensors."""
    nested = (Tensor, np.ndarray, Mapping, list, tuple)
    return isinstance(value, (list, tuple)) and bool(value) and not any(isinstance(v, nested) for v in value)


def _like(original: Any, values: list[Any]) -> Any:
    """A list, tuple or named tuple of the same kind."""
    return type(original)(*values) if hasattr(original, "_fields") else type(original)(values)
