"""Held-out examples: found, looked at, and compared with how the training data is put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from bsadvisor.errors import DataError
from bsadvisor.target.batches import tensors_in
from bsadvisor.target.data import DataSource, look_at, make_source, read_npz
from bsadvisor.target.names import find_heldout
from bsadvisor.target.spec import TargetSpec
from bsadvisor.target.user_code import UserCode


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Numbered examples that the model was not trained on, if the user is right."""

    source: DataSource
    shared: float | None
    """Share of them that are rows of the training data, by how both are put together; None: not to be told so."""


def load_heldout(
    spec: TargetSpec, code: UserCode, device: torch.device, *, training: Any, first_batch: Any
) -> HeldOut | None:
    """The held-out data of a target; None where it has none.

    Args:
        training: the training data as the user keeps it.
        first_batch: of the training data.

    Raises:
        DataError: no data, none that is left, or batches unlike those of the training data.
    """
    given = (
        read_npz(spec.heldout_npz) if spec.heldout_npz else find_heldout(code, spec.model, named=spec.heldout)
    )
    if given is None:
        return None
    shared = shared_rows(training, given)
    try:
        source = make_source(given, code=code, device=device)
    except DataError as error:
        raise DataError(
            f"heldout: {error.message}",
            "give held-out examples as `data` gives those for training, or take the name `heldout` away",
        ) from None
    if given is not training:  # a stream yields its batches once
        _refuse_other_batches(look_at(source, what="heldout"), first_batch)
    return HeldOut(source=source, shared=shared)


def shared_rows(training: Any, heldout: Any) -> float | None:
    """Share of the held-out rows that the training data has, where both are rows of one data set.

    Example:
        >>> rows = list(range(10))
        >>> shared_rows(Subset(rows, range(6)), Subset(rows, [4, 5, 6, 7]))
        0.5
    """
    (base, rows), (other, held) = _rows(training), _rows(heldout)
    if base is not other:
        return None
    if held is None or rows is None:
        return 1.0 if rows is None else len(set(rows)) / len(base)
    return len(set(held) & set(rows)) / len(set(held)) if held else None


def _rows(value: Any) -> tuple[Any, Sequence[int] | None]:
    """The data set at the bottom, and which of its rows; None for all."""
    if isinstance(value, DataLoader):
        return _rows(value.dataset)
    if not isinstance(value, Subset):
        return value, None
    base, rows = _rows(value.dataset)
    chosen = [int(index) for index in value.indices]
    return base, chosen if rows is None else [rows[index] for index in chosen]


def _refuse_other_batches(heldout: Any, training: Any) -> None:
    """Lengths may differ (padding, crops); what there is, and in how many dimensions, may not."""
    found, wanted = ([_kind(tensor) for tensor in tensors_in(batch)] for batch in (heldout, training))
    if found != wanted:
        shapes = (
            ", ".join(
                f"{tuple(tensor.shape[1:])} {str(tensor.dtype).removeprefix('torch.')}"
                for tensor in tensors_in(batch)
            )
            for batch in (heldout, training)
        )
        raise DataError(
            "an example of heldout is {}, one of the training data {}".format(
                *(text or "no tensor" for text in shapes)
            ),
            "let both yield the same parts in the same order",
        )


def _kind(tensor: torch.Tensor) -> tuple[int, bool]:
    return tensor.ndim, tensor.is_floating_point()
