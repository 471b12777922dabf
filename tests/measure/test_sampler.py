"""The curvature's examples: which they are, and where they end."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bsadvisor.measure.known_answers import Table
from bsadvisor.measure.sampler import Sampler


def numbers(batches: list[Tensor]) -> list[int]:
    return [int(row[0]) for batch in batches for row in batch]


def sampler(rows: int, *, endless: bool = False, seed: int = 0) -> Sampler:
    return Sampler(Table(torch.arange(float(rows))[:, None], endless=endless), seed=seed)


def test_the_curvature_takes_the_gradients_examples_from_the_first_on() -> None:
    splits = sampler(400)
    gradient = numbers(list(splits.gradient(0, 20, 8)))
    assert numbers(splits.curvature(0, 4, 8)) == gradient[:32]
    assert numbers(splits.curvature(32, 4, 8)) == gradient[32:64]
    assert not set(numbers(list(splits.line_search(99, 1)))) & set(gradient)


@pytest.mark.parametrize(("start", "units"), [(0, 43), (8, 42), (340, 1), (344, 0), (5000, 0)])
def test_numbered_data_gives_whole_micro_batches_until_it_ends(start: int, units: int) -> None:
    splits = sampler(400)  # 50 of them are kept for the line search
    assert splits.num_certain == 350
    batches = splits.curvature(start, 100, 8)
    assert len(batches) == units and all(len(batch) == 8 for batch in batches)


def test_a_stream_gives_what_arrives_next_and_never_goes_back() -> None:
    splits = sampler(4000, endless=True)
    held = splits.num_line_search
    gradient = numbers(list(splits.gradient(0, 10, 8)))
    first, second = numbers(splits.curvature(0, 3, 8)), numbers(splits.curvature(0, 3, 8))
    assert gradient == list(range(held, held + 80))
    assert first + second == list(range(held + 80, held + 128))
    assert numbers(list(splits.gradient(80, 1, 8))) == list(range(held + 128, held + 136))


def test_a_stream_that_ends_gives_fewer_micro_batches() -> None:
    splits = sampler(200, endless=True)
    held = splits.num_line_search
    assert len(splits.curvature(0, 10, 16)) == 10
    assert len(splits.curvature(0, 10, 16)) == (200 - held - 160) // 16
    assert splits.curvature(0, 10, 16) == []


def test_all_examples_are_those_of_every_split_but_for_a_rest() -> None:
    splits = sampler(404)
    held, gradient = (numbers(list(part)) for part in (splits.line_search(99, 1), splits.gradient(0, 354, 1)))
    assert numbers(splits.whole(8, 404)) == (held + gradient)[:400]
    assert splits.whole(8, 403) == [] == sampler(404, endless=True).whole(8, 404)
