"""Held-out examples: where they are found, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from bsadvisor.errors import DataError, TargetError, UsageError
from bsadvisor.target.heldout import shared_rows
from tests.target.conftest import PLAIN, User

Yaml = Callable[[str], Path]

HELD = PLAIN + "    held = TensorDataset(inputs[:6] + 10, targets[:6])\n"


def first_value(user: User) -> float:
    target = user.load()
    assert target.heldout is not None
    inputs, _ = next(target.heldout.source.fetch([[0]]))
    return float(inputs[0, 0])


@pytest.mark.parametrize(
    "definition",
    [
        "heldout = held",
        "heldout = DataLoader(held, batch_size=4)",
        "heldout = lambda: held",
        "heldout = [(inputs[:6] + 10, targets[:6])]",
        "def heldout():\n        yield inputs[:6] + 10, targets[:6]",
        "class heldout(Dataset):\n        __len__ = lambda self: 6\n        __getitem__ = lambda self, i: held[i]",
    ],
)
def test_held_out_examples_are_given_like_training_examples(user: User, definition: str) -> None:
    user.write(HELD + f"    {definition}")
    assert first_value(user) > 5


def test_a_target_without_held_out_examples_has_none(user: User) -> None:
    user.write(PLAIN)
    assert user.load().heldout is None


def test_a_module_called_heldout_is_no_data(user: User) -> None:
    user.write("    x = 1", "heldout.py")
    user.write(PLAIN + "    import heldout")
    assert user.load().heldout is None


def test_the_yaml_names_held_out_examples_and_comes_first(user: User, yaml: Yaml) -> None:
    user.write(HELD + "    heldout = TensorDataset(inputs, targets)")
    yaml("heldout: {loader: model.py:held}")
    assert first_value(user) > 5


def test_held_out_examples_may_be_a_file_of_arrays(user: User, yaml: Yaml) -> None:
    np.savez("held.npz", x=np.full((5, 4), 9.0), y=np.arange(5) % 3)
    user.write(PLAIN)
    yaml("heldout: {format: npz, path: held.npz}")
    target = user.load()
    assert target.heldout is not None
    assert target.heldout.source.size == 5
    assert first_value(user) == 9


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("heldout: {loader: model.py}", "heldout.loader"),
        ("heldout: {format: csv, path: a.csv}", "heldout of format csv is not read by this version"),
        ("heldout: {path: a.npz}", "`heldout` holds either `loader`, or `format` and `path`"),
        ("heldout: {loder: model.py:held}", "did you mean `loader`?"),
    ],
)
def test_a_yaml_that_cannot_be_understood_is_told(user: User, yaml: Yaml, section: str, message: str) -> None:
    user.write(HELD)
    yaml(section)
    assert message in user.fails(UsageError)


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("heldout = 0.1", "heldout: the data is a float, not a Dataset, a DataLoader or an iterable"),
        ("heldout = (inputs, targets)", "heldout: the data is a tuple"),
        ("heldout = Subset(held, [])", "heldout: the data set is empty\ngive held-out examples as `data`"),
        ("heldout = []", "heldout is empty: it yields no batch"),
        (
            "heldout = TensorDataset(inputs)",
            "an example of heldout is (4,) float32, one of the training data",
        ),
        (
            "heldout = TensorDataset(targets, inputs)",
            "is () int64, (4,) float32, one of the training data (4,)",
        ),
        ("heldout = TensorDataset(inputs[:, None], targets)", "heldout is (1, 4) float32, () int64"),
    ],
)
def test_unusable_held_out_examples_are_told(user: User, definition: str, message: str) -> None:
    user.write(HELD + f"    from torch.utils.data import Subset\n    {definition}")
    assert message in user.fails(DataError)


def test_a_function_that_fails_or_wants_arguments_is_told(user: User) -> None:
    user.write(HELD + "    def heldout():\n        raise ValueError('gone')")
    assert "`heldout` failed at model.py:11 in heldout: ValueError: gone" in user.fails(TargetError)
    user.write(HELD + "    def heldout(folder):\n        return held")
    assert "`heldout` in model.py wants arguments: folder" in user.fails(TargetError)


ROWS = TensorDataset(torch.arange(10))


@pytest.mark.parametrize(
    ("training", "heldout", "share"),
    [
        (ROWS, ROWS, 1.0),
        (ROWS, DataLoader(ROWS, batch_size=2), 1.0),
        (ROWS, Subset(ROWS, [1, 2]), 1.0),
        (Subset(ROWS, range(6)), ROWS, 0.6),
        (Subset(ROWS, range(6)), Subset(ROWS, [4, 5, 6, 7]), 0.5),
        (Subset(Subset(ROWS, range(5, 10)), [0, 1]), Subset(ROWS, [5, 9]), 0.5),
        (Subset(ROWS, range(6)), Subset(ROWS, range(6, 10)), 0.0),
        (ROWS, TensorDataset(torch.arange(10)), None),
    ],
)
def test_rows_of_one_data_set_are_compared_by_number(
    training: object, heldout: object, share: float | None
) -> None:
    assert shared_rows(training, heldout) == (None if share is None else pytest.approx(share))


def test_a_stream_that_is_its_own_held_out_data_is_not_read_twice(user: User) -> None:
    user.write(
        PLAIN + "    data = heldout = iter([(inputs[i:i + 8], targets[i:i + 8]) for i in range(0, 40, 8)])"
    )
    target = user.load()
    assert target.heldout is not None and target.heldout.shared == 1.0
    assert len(next(target.data.fetch([range(40)]))[0]) == 40
