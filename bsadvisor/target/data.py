"""Training examples by number, whatever the user keeps them in."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from bsadvisor.errors import DataError
from bsadvisor.target.batches import batch_length, cut, join
from bsadvisor.target.paths import shown
from bsadvisor.target.user_code import UserCode

REMEMBERED = 1024
"""The first examples of a stream can be fetched again, up to this many."""

STREAM_CHUNK = 32
"""Examples taken at a time from an IterableDataset that comes without a loader."""

FIRST_BATCH = 4
"""Examples looked at to see what a batch is like."""

_MEND_DATA = "mend the data set, its transforms or its collate_fn"


class DataSource(Protocol):
    """Numbered training examples."""

    @property
    def size(self) -> int | None:
        """Number of examples; None for a stream, whose numbers count arrivals."""

    @property
    def dropped(self) -> int:
        """Examples of ragged batches that were left out so far."""

    @property
    def sampler(self) -> str | None:
        """Class of a sampler that decides what is drawn."""

    @property
    def shuffles(self) -> bool | None:
        """Whether the loader draws in random order; None when it cannot be told."""

    @property
    def batch_size(self) -> int | None:
        """Examples per batch of the user's loader."""

    def fetch(self, groups: Sequence[Sequence[int]]) -> Iterator[Any]:
        """One collated batch per group of example numbers; ends early where a stream ends."""


def make_source(value: Any, *, code: UserCode, device: torch.device) -> DataSource:
    """Number the examples of a Dataset, a DataLoader or an iterable of batches."""
    if isinstance(value, IterableDataset):
        value = DataLoader(value, batch_size=STREAM_CHUNK)
        return StreamData(value, code=code, batch_size=None)
    if isinstance(value, DataLoader):
        if isinstance(value.dataset, IterableDataset) or value.batch_sampler is None:
            return StreamData(value, code=code, batch_size=value.batch_size)
        if _draws_plainly(value):
            return IndexedData(value, code=code, device=device)
        return SampledData(value, code=code, device=device)
    if _is_map_style(value):
        return IndexedData(DataLoader(value), code=code, device=device, loader_is_the_users=False)
    if _may_yield_batches(value):
        return StreamData(value, code=code, batch_size=None)
    raise DataError(
        f"the data is a {type(value).__name__}, not a Dataset, a DataLoader or an iterable of batches",
        "wrap it: data = TensorDataset(inputs, targets)",
    )


def look_at(source: DataSource, *, what: str) -> Any:
    """The first few examples, or the first one where there is no more."""
    for size in (FIRST_BATCH, 1):
        if source.size is None or size <= source.size:
            batch = next(source.fetch([range(size)]), None)
            if batch is not None:
                return batch
    raise DataError(f"{what} is empty: it yields no batch", "give at least a few hundred examples")


def read_npz(path: Path) -> TensorDataset:
    """The arrays of an npz file in their order in it: inputs, then targets."""
    try:
        with np.load(path) as arrays:
            tensors = [_as_tensor(arrays[name]) for name in arrays.files]
    except (OSError, ValueError, TypeError, AttributeError, BadZipFile) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "not an npz file of numbers"
        remedy = "save it with numpy.savez(path, x=inputs, y=targets)"
        raise DataError(f"{shown(path)}: {reason}", remedy) from None
    lengths = {len(tensor) if tensor.ndim else 0 for tensor in tensors}
    if len(lengths) != 1:
        remedy = "save arrays of one length, inputs first"
        raise DataError(f"{shown(path)} holds arrays of lengths {sorted(lengths)}", remedy)
    return TensorDataset(*tensors)


class IndexedData:
    """A map-style Dataset: any example at any time."""

    dropped = 0
    sampler: str | None = None

    def __init__(
        self,
        loader: DataLoader[Any],
        *,
        code: UserCode,
        device: torch.device,
        loader_is_the_users: bool = True,
    ) -> None:
        self._loader = loader
        self._code = code
        self._pin = device.type == "cuda"
        self.shuffles = isinstance(loader.sampler, RandomSampler) if loader_is_the_users else None
        self.batch_size = loader.batch_size if loader_is_the_users else None
        with code.run("len(data)", remedy="give the Dataset a __len__ that returns its number of examples"):
            self.size: int | None = len(loader.dataset)  # type: ignore[arg-type]
        if self.size == 0:
            raise DataError("the data set is empty", "give at least a few hundred training examples")

    def fetch(self, groups: Sequence[Sequence[int]]) -> Iterator[Any]:
        """One collated batch per group of example numbers."""
        dataset = self._loader.dataset
        if type(dataset) is TensorDataset and self._loader.collate_fn is default_collate:
            return self._from_tensors(dataset.tensors, groups)
        return _guarded(self._reader(groups), self._code)

    def _from_tensors(self, tensors: Sequence[Tensor], groups: Sequence[Sequence[int]]) -> Iterator[Any]:
        """What the loader's own collation gives for whole tensors, a row at a time left out."""
        for group in groups:
            rows = torch.as_tensor(group if isinstance(group, np.ndarray) else list(group))
            batch = [tensor.index_select(0, rows.to(tensor.device)) for tensor in tensors]
            yield [tensor.pin_memory() for tensor in batch] if self._pin and not batch[0].is_cuda else batch

    def _reader(self, groups: Sequence[Sequence[int]]) -> DataLoader[Any]:
        """A loader over just these groups that works like the user's."""
        theirs = self._loader
        # Only a forked worker knows the user's file under the name that it was imported by.
        workers = min(theirs.num_workers, len(groups)) if sys.platform == "linux" else 0
        return DataLoader(
            theirs.dataset,
            batch_sampler=[[int(number) for number in group] for group in groups],
            collate_fn=theirs.collate_fn,
            num_workers=workers,
            worker_init_fn=theirs.worker_init_fn,
            multiprocessing_context="fork" if workers else None,
            pin_memory=theirs.pin_memory and self._pin,
            # Seeds the workers: other augmentations for other groups and seeds, the same at every run.
            generator=_seeded(int(groups[0][0])) if groups else None,
        )


class SampledData(IndexedData):
    """A loader whose own sampler decides what is drawn: number i is the i-th draw of one epoch."""

    def __init__(self, loader: DataLoader[Any], *, code: UserCode, device: torch.device) -> None:
        super().__init__(loader, code=code, device=device)
        batches: Any = loader.batch_sampler
        deciding = loader.sampler if type(batches) is BatchSampler else batches
        self.sampler = type(deciding).__name__
        self.shuffles = None
        self.size = None
        self._draws = chain.from_iterable(_guarded(batches, code))
        self._drawn: list[int] = []

    def fetch(self, groups: Sequence[Sequence[int]]) -> Iterator[Any]:
        """One collated batch per group of draws, until the sampler's epoch ends."""
        drawn = []
        for group in groups:
            missing = max(group) + 1 - len(self._drawn)
            self._drawn.extend(islice(self._draws, max(missing, 0)))
            if max(group) >= len(self._drawn):
                self.dropped = sum(number < len(self._drawn) for number in group)
                break
            drawn.append([self._drawn[number] for number in group])
        return super().fetch(drawn)


class StreamData:
    """Batches that arrive once: numbers count examples in order of arrival."""

    size = None
    sampler = None
    shuffles = None

    def __init__(self, batches: Iterable[Any], *, code: UserCode, batch_size: int | None) -> None:
        self.batch_size = batch_size
        self.dropped = 0
        self._arriving = _guarded(batches, code)
        self._arrived = 0
        self._pieces: list[tuple[int, int, Any]] = []
        """(first number, number after the last, batch) of what can still be fetched."""

    def fetch(self, groups: Sequence[Sequence[int]]) -> Iterator[Any]:
        """One batch per group; groups past the first `REMEMBERED` examples must come in order."""
        for group in groups:
            if not self._receive(max(group) + 1):
                self.dropped = max(0, self._arrived - min(group))
                return
            yield join([self._take(first, end) for first, end in _runs(group)])
            self._forget(before=max(group) + 1)

    def _receive(self, wanted: int) -> bool:
        """Let batches arrive until there are `wanted` examples; False when the stream ends first."""
        while self._arrived < wanted:
            batch = next(self._arriving, None)
            if batch is None:
                return False
            end = self._arrived + batch_length(batch)
            self._pieces.append((self._arrived, end, batch))
            self._arrived = end
        return True

    def _take(self, first: int, end: int) -> Any:
        overlapping = [piece for piece in self._pieces if piece[0] < end and piece[1] > first]
        return join(
            [cut(batch, max(first, low) - low, min(end, high) - low) for low, high, batch in overlapping]
        )

    def _forget(self, before: int) -> None:
        self._pieces = [piece for piece in self._pieces if piece[0] < REMEMBERED or piece[1] > before]


def _seeded(number: int) -> torch.Generator:
    """By a number and by what the global generator was seeded with; draws nothing from that."""
    return torch.Generator().manual_seed((torch.initial_seed() + number) % 2**63)


def _guarded(batches: Iterable[Any], code: UserCode) -> Iterator[Any]:
    """Iterate with every step inside the user's surroundings."""
    with code.run("reading the data", remedy=_MEND_DATA):
        iterator = iter(batches)
    while True:
        with code.run("reading the data", remedy=_MEND_DATA):
            try:
                batch = next(iterator)
            except StopIteration:
                return
        yield batch


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Consecutive numbers as (first, after the last)."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs


def _draws_plainly(loader: DataLoader[Any]) -> bool:
    plain = type(loader.sampler) in (RandomSampler, SequentialSampler)
    return plain and type(loader.batch_sampler) is BatchSampler


def _may_yield_batches(value: Any) -> bool:
    """Not a tuple of tensors: that is one batch, or a whole data set."""
    if isinstance(value, tuple) and all(isinstance(part, Tensor) for part in value):
        return False
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, dict, Tensor, np.ndarray))


def _is_map_style(value: Any) -> bool:
    """Rows by number; a list is taken for a list of batches."""
    countable = hasattr(value, "__getitem__") and hasattr(value, "__len__")
    return countable and not isinstance(value, (list, tuple, dict, str, bytes, Tensor, np.ndarray))


def _as_tensor(array: Any) -> Tensor:
    """Numbers as models take them: float32, and int64 for whole numbers."""
    tensor = torch.from_numpy(array)
    return tensor.float() if tensor.is_floating_point() else tensor.long()
