"""Examples by number from everything that holds data."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from bsadvisor.errors import DataError, TargetError
from bsadvisor.target import data as data_module
from bsadvisor.target.batches import cut, join, move
from bsadvisor.target.data import DataSource, IndexedData, SampledData, StreamData, make_source, read_npz
from bsadvisor.target.user_code import UserCode
from tests.target.conftest import MODEL, User

CPU = torch.device("cpu")
GROUPS = [[5, 0, 3], [1, 2, 9]]


class Rows(Dataset[Any]):
    """Ten dicts; row 7 fails."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == 7:
            raise ValueError("row 7 is broken")
        return {"x": torch.full((2,), float(index)), "name": f"row {index}", "y": index}


class Endless(IterableDataset[Any]):
    """0, 1, 2, ..."""

    def __iter__(self) -> Iterator[int]:
        yield from range(10**6)


def source(value: Any) -> DataSource:
    return make_source(value, code=UserCode(notify=print), device=CPU)


def numbers(of: DataSource, groups: list[list[int]] | list[range]) -> list[list[int]]:
    return [batch.tolist() for batch in of.fetch(groups)]


def batches(*sizes: int) -> list[Tensor]:
    """Batches that count examples through."""
    ends = np.cumsum(sizes)
    return [torch.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]


# --- numbered data ------------------------------------------------------------------------------


def test_rows_of_a_dataset_come_by_number(user: User) -> None:
    first, second = source(Rows()).fetch(GROUPS)
    assert first["y"].tolist() == [5, 0, 3]
    assert second["x"].tolist() == [[1, 1], [2, 2], [9, 9]]
    assert first["name"] == ["row 5", "row 0", "row 3"]


def test_tensors_come_as_their_loader_would_give_them() -> None:
    tensors = TensorDataset(torch.randn(10, 2), torch.arange(10))
    quick = list(source(tensors).fetch(GROUPS))
    slow = list(DataLoader(tensors, batch_sampler=GROUPS))
    for ours, theirs in zip(quick, slow, strict=True):
        assert type(ours) is type(theirs)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_loaders_collate_fn_is_used_also_for_tensors() -> None:
    def collate(rows: list[Any]) -> int:
        return len(rows)

    loader = DataLoader(TensorDataset(torch.arange(10)), collate_fn=collate)
    assert list(source(loader).fetch([[1, 2], [3]])) == [2, 1]


@pytest.mark.parametrize(("shuffle", "workers"), [(True, 0), (False, 2)])
def test_a_plain_loader_is_numbered_data_and_tells_whether_it_shuffles(shuffle: bool, workers: int) -> None:
    loaded = source(DataLoader(Rows(), batch_size=5, shuffle=shuffle, num_workers=workers))
    assert isinstance(loaded, IndexedData)
    assert (loaded.size, loaded.shuffles, loaded.batch_size, loaded.sampler) == (10, shuffle, 5, None)
    assert [batch["y"].tolist() for batch in loaded.fetch(GROUPS)] == GROUPS


def test_a_bare_dataset_tells_nothing_of_a_loader() -> None:
    loaded = source(Rows())
    assert (loaded.size, loaded.shuffles, loaded.batch_size) == (10, None, None)


def test_anything_with_length_and_rows_is_a_dataset() -> None:
    class Table:
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> dict[str, int]:
            return {"label": index}

    (batch,) = source(Table()).fetch([[4, 2]])
    assert batch["label"].tolist() == [4, 2]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failing_row_is_told_with_its_line_also_from_a_worker(workers: int) -> None:
    loaded = source(DataLoader(Rows(), num_workers=workers))
    with pytest.raises(TargetError, match=r"test_data.py:\d+ in __getitem__: ValueError: row 7 is broken"):
        list(loaded.fetch([[7]]))


def test_workers_augment_other_groups_in_other_ways_and_the_same_again() -> None:
    loaded = source(DataLoader(Noise(), num_workers=1))
    state = torch.get_rng_state()
    first, second = (next(loaded.fetch([[index]])).item() for index in (0, 1))
    assert first != second
    assert next(loaded.fetch([[0]])).item() == first
    assert torch.equal(torch.get_rng_state(), state)


class Noise(Dataset[Tensor]):
    """Rows that are drawn anew each time."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        return torch.rand(())


def test_an_empty_dataset_is_refused(user: User) -> None:
    user.write(MODEL + "    model = nn.Linear(4, 3)\n    data = TensorDataset(inputs[:0], targets[:0])")
    assert "the data set is empty" in user.fails(DataError)


def test_a_dataset_without_a_length_is_told(user: User) -> None:
    user.write(
        MODEL
        + "    model = nn.Linear(4, 3)\n    class Rows(Dataset):\n        def __getitem__(self, i): return 1\n"
        + "        def __len__(self): raise NotImplementedError\n    def data(): return Rows()"
    )
    assert "give the Dataset a __len__" in user.fails(TargetError)


# --- a sampler that decides ---------------------------------------------------------------------


def test_another_sampler_decides_what_is_drawn_and_is_named() -> None:
    sampler = WeightedRandomSampler([0.0, 1.0, 0.0, 0.0], num_samples=7)
    loaded = source(DataLoader(TensorDataset(torch.arange(4)), batch_size=2, sampler=sampler))
    assert isinstance(loaded, SampledData)
    assert (loaded.sampler, loaded.size, loaded.batch_size) == ("WeightedRandomSampler", None, 2)
    assert [batch[0].tolist() for batch in loaded.fetch([[0, 1, 2], [3, 4, 5], [6, 7, 8]])] == [[1] * 3] * 2
    assert loaded.dropped == 1


def test_draws_can_be_fetched_again() -> None:
    sampler = WeightedRandomSampler([1.0] * 50, num_samples=30)
    loaded = source(DataLoader(TensorDataset(torch.arange(50)), sampler=sampler))
    ((late,),) = loaded.fetch([[20, 21]])
    ((early,),) = loaded.fetch([range(22)])
    assert early[20:].tolist() == late.tolist()


def test_a_batch_sampler_of_their_own_is_named() -> None:
    class Buckets(BatchSampler):
        pass

    buckets = Buckets(SequentialSampler(range(9)), 2, False)
    loaded = source(DataLoader(TensorDataset(torch.arange(9) * 10), batch_sampler=buckets))
    assert loaded.sampler == "Buckets"
    assert [batch[0].tolist() for batch in loaded.fetch([[0, 1, 2]])] == [[0, 10, 20]]


# --- streams ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(3, 3, 3), (9,), (1,) * 9, (2, 5, 2), (4, 4, 1)])
def test_batches_are_cut_and_joined_into_groups_of_the_asked_size(sizes: tuple[int, ...]) -> None:
    loaded = source(batches(*sizes))
    assert isinstance(loaded, StreamData)
    assert numbers(loaded, [range(0, 3), range(3, 6), range(6, 9)]) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert (loaded.size, loaded.dropped) == (None, 0)


def test_a_stream_ends_early_and_counts_what_it_left_out() -> None:
    loaded = source(batches(4, 3))
    assert numbers(loaded, [range(0, 5), range(5, 10), range(10, 15)]) == [[0, 1, 2, 3, 4]]
    assert loaded.dropped == 2


def test_the_first_examples_can_be_fetched_again_in_any_arrangement() -> None:
    loaded = source(DataLoader(Endless(), batch_size=10))
    assert numbers(loaded, [range(2000, 2004)]) == [[2000, 2001, 2002, 2003]]
    assert numbers(loaded, [[0, 1, 8, 9], [4, 5, 12, 1000], [3]]) == [[0, 1, 8, 9], [4, 5, 12, 1000], [3]]
    assert numbers(loaded, [range(2010, 2012)]) == [[2010, 2011]]


def test_a_stream_remembers_only_its_beginning() -> None:
    loaded = source(DataLoader(Endless(), batch_size=10))
    list(loaded.fetch([range(at, at + 10) for at in range(0, 5000, 10)]))
    assert isinstance(loaded, StreamData)
    assert sum(end - first for first, end, _ in loaded._pieces) <= data_module.REMEMBERED + 10


def test_a_batch_that_is_not_cut_is_handed_on_as_it_is() -> None:
    given = batches(4, 4)
    loaded = source(iter(given))
    assert [id(batch) for batch in loaded.fetch([range(4), range(4, 8)])] == list(map(id, given))


def test_an_iterable_dataset_yields_examples_and_a_loader_of_it_batches() -> None:
    assert numbers(source(Endless()), [range(40)]) == [list(range(40))]
    loaded = source(DataLoader(Endless(), batch_size=3))
    assert numbers(loaded, [range(4)]) == [[0, 1, 2, 3]]
    assert loaded.batch_size == 3


def test_a_loader_that_does_not_batch_is_a_stream_of_batches() -> None:
    loader = DataLoader(TensorDataset(torch.arange(12).reshape(4, 3)), batch_size=None)
    assert [batch[0].tolist() for batch in source(loader).fetch([range(2), range(2, 4)])] == [[0, 1], [2, 3]]


def test_a_generator_function_is_a_stream(user: User) -> None:
    user.write(
        MODEL
        + "    model = nn.Linear(4, 3)\n    def data():\n        for i in range(0, 40, 8): yield inputs[i:i+8], targets[i:i+8]"
    )
    target = user.load()
    assert target.description.dataset_size is None
    assert [len(batch[0]) for batch in target.data.fetch([range(4, 16), range(16, 28)])] == [12, 12]


def test_a_stream_that_fails_is_told_with_its_line(user: User) -> None:
    user.write(
        MODEL
        + "    model = nn.Linear(4, 3)\n    def data():\n        yield inputs, targets\n        raise ValueError('torn')"
    )
    target = user.load()
    with pytest.raises(
        TargetError, match=r"reading the data failed at model.py:10 in data: ValueError: torn"
    ):
        list(target.data.fetch([range(100)]))


def test_an_empty_stream_is_refused(user: User) -> None:
    user.write(MODEL + "    model = nn.Linear(4, 3)\n    data = []")
    assert "the data is empty" in user.fails(DataError)


def test_batches_without_anything_to_count_are_refused() -> None:
    with pytest.raises(DataError, match="a object is not a batch"):
        list(source([object()]).fetch([[0]]))


@pytest.mark.parametrize("value", [3, "text", {"a": 1}, torch.zeros(3), np.zeros(3)])
def test_what_is_no_data_is_refused_with_what_to_write(value: Any) -> None:
    with pytest.raises(DataError, match="not a Dataset, a DataLoader or an iterable of batches"):
        source(value)


# --- batches ------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "x names")


@pytest.mark.parametrize(
    "batch",
    [
        torch.arange(6),
        [torch.arange(6), torch.arange(12).reshape(6, 2)],
        {"x": torch.arange(6), "inner": (torch.arange(6), ["a", "b", "c", "d", "e", "f"])},
        Pair(torch.arange(6), ("a", "b", "c", "d", "e", "f")),
        {"x": np.arange(6), "scale": torch.tensor(2.0), "y": torch.arange(6)},
    ],
)
def test_a_cut_batch_is_joined_to_itself_again(batch: Any) -> None:
    joined = join([cut(batch, 0, 2), cut(batch, 2, 5), cut(batch, 5, 6)])
    assert str(joined) == str(batch)
    assert type(joined) is type(batch)


def test_batches_padded_to_other_lengths_cannot_be_joined() -> None:
    with pytest.raises(DataError, match=r"\(3,\) and \(5,\)"):
        list(source([torch.zeros(2, 3), torch.zeros(2, 5)]).fetch([range(4)]))


def test_moving_casts_floats_alone_and_keeps_the_nesting() -> None:
    moved = move({"a": (torch.zeros(2), ["x"]), "b": torch.arange(2)}, CPU, torch.bfloat16)
    assert moved["a"][0].dtype == torch.bfloat16
    assert moved["b"].dtype == torch.int64
    assert moved["a"][1] == ["x"]


def test_a_batch_that_can_move_itself_does() -> None:
    class Graphs:
        def to(self, device: torch.device) -> str:
            return f"moved to {device}"

    assert move([Graphs()], CPU, None) == ["moved to cpu"]


# --- npz ----------------------------------------------------------------------------------------


def test_an_npz_file_is_read_in_the_order_of_its_arrays(user: User) -> None:
    np.savez("rows.npz", x=np.ones((5, 4)), y=np.arange(5, dtype=np.uint8))
    user.write(MODEL + "    model = nn.Linear(4, 5)")
    user.write("    data: {format: npz, path: rows.npz}", "bsadvisor.yaml")
    target = user.load()
    inputs, targets = next(target.data.fetch([[3, 4]]))
    assert (inputs.dtype, targets.dtype, targets.tolist()) == (torch.float32, torch.int64, [3, 4])
    assert target.description.dataset_size == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "rows.npz: no such file"),
        (b"no zip", "rows.npz: not an npz file of numbers"),
        ({"x": np.zeros(3), "y": np.zeros(4)}, r"arrays of lengths \[3, 4\]"),
        ({"x": np.array(["a"])}, "not an npz file of numbers"),
    ],
)
def test_a_wrong_npz_file_is_told(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "rows.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, **content)
    with pytest.raises(DataError, match=message):
        read_npz(path)


def test_a_tuple_of_tensors_is_no_series_of_batches(user: User) -> None:
    user.write(MODEL + "    model, data = nn.Linear(4, 3), (inputs, targets)")
    assert "the data is a tuple, not a Dataset" in user.fails(DataError)
