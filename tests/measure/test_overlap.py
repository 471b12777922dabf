"""Held-out examples that are training examples after all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from bsadvisor.measure.heldout_loss import heldout_sampler
from bsadvisor.measure.overlap import Overlap, find_overlap
from bsadvisor.measure.sampler import Sampler
from bsadvisor.target.data import make_source
from bsadvisor.target.user_code import UserCode

GENERATOR = torch.Generator().manual_seed(0)
IMAGES, LABELS = torch.rand(4000, 1, 8, 8, generator=GENERATOR), torch.arange(4000) % 10


def rows(first: int, last: int) -> TensorDataset:
    return TensorDataset(IMAGES[first:last], LABELS[first:last])


def overlap(training: Any, heldout: Any, *, looks: int = 10**9) -> Overlap:
    source, held = (
        make_source(data, code=UserCode(notify=print), device=torch.device("cpu"))
        for data in (training, heldout)
    )
    left = iter(range(looks))
    found = find_overlap(
        Sampler(source, seed=0),
        heldout_sampler(held, seed=1),
        population=source.size,
        should_stop=lambda: next(left, None) is None,
    )
    assert found is not None
    return found


def test_the_same_examples_under_another_name_are_found() -> None:
    copied = TensorDataset(IMAGES.clone(), LABELS.clone())
    assert overlap(rows(0, 4000), copied).share == pytest.approx(1, abs=0.15)
    assert overlap(rows(0, 1000), TensorDataset(IMAGES[:300].clone(), LABELS[:300].clone())).share > 0.8


def test_separate_examples_have_none_in_common() -> None:
    found = overlap(rows(0, 3000), rows(3000, 4000))
    assert (found.found, found.share, found.heldout) == (0, 0.0, 512)


def test_the_share_is_that_of_the_held_out_examples() -> None:
    assert overlap(rows(0, 3000), rows(2700, 3300)).share == pytest.approx(0.5, abs=0.1)


def test_a_look_at_a_part_of_the_training_data_is_made_up_for() -> None:
    found = overlap(rows(0, 4000), rows(0, 4000), looks=15)
    assert found.training < 1100
    assert found.share == pytest.approx(1, abs=0.3)


def test_twins_by_nature_do_not_count() -> None:
    """Four binary features: nearly every held-out example is in the training data, too."""
    bits = torch.randint(2, (3000, 4), generator=GENERATOR).float()
    labels = bits.sum(1).long()
    found = overlap(TensorDataset(bits[:2000], labels[:2000]), TensorDataset(bits[2000:], labels[2000:]))
    assert found.found == found.heldout and found.twins > 0.99
    assert found.share == 0


def test_a_few_examples_in_common_are_let_pass() -> None:
    assert overlap(rows(0, 3000), rows(2998, 3998)).share == 0


def test_parts_of_a_batch_and_kinds_of_numbers_all_count() -> None:
    class Named(Dataset[dict[str, Any]]):
        def __init__(self, shift: float) -> None:
            self.shift = shift

        def __len__(self) -> int:
            return 128

        def __getitem__(self, index: int) -> dict[str, Any]:
            small = index + self.shift
            return {"name": str(index), "x": torch.full((3,), small), "y": index % 3, "on": index % 2 == 0}

    assert overlap(Named(0), Named(0)).share > 0.8
    assert overlap(Named(0), Named(0.5)).found == 0


def test_one_changed_number_makes_another_example() -> None:
    changed = IMAGES.clone()
    changed[:, 0, 3, 3] += 1e-6
    assert overlap(rows(0, 1000), TensorDataset(changed[:1000], LABELS[:1000])).found == 0
    assert overlap(rows(0, 1000), TensorDataset(IMAGES[:1000], LABELS[:1000] + 1)).found == 0


def test_a_stream_is_compared_as_far_as_it_is_remembered() -> None:
    batches = [(IMAGES[at : at + 32], LABELS[at : at + 32]) for at in range(0, 1024, 32)]
    assert overlap(iter(batches), iter(batches)).share > 0.5
