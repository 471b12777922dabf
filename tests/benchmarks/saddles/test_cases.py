"""The saddle cases build the same way every time, and what is true of each is stored."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations

import pytest
import torch

from tests.benchmarks.saddles.cases import CASES, SPLITS
from tests.benchmarks.saddles.problem import Case
from tests.benchmarks.saddles.truth import RESULTS

ROWS = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
QUICK = (
    "recall of 3 pairs, attention",
    "conv net with BatchNorm, at the start",
    "parity of 2, GELU, momentum",
)


@pytest.mark.parametrize("case", [case for case in CASES if case.name in QUICK], ids=lambda case: case.name)
def test_a_case_builds_the_same_checkpoint_every_time(case: Case) -> None:
    first = case.build()
    torch.rand(1)
    before = torch.random.get_rng_state()
    second = case.build()
    assert torch.equal(before, torch.random.get_rng_state())
    for name, parameter in first.parameters.items():
        assert torch.equal(parameter, second.parameters[name])
    assert torch.equal(first.inputs, second.inputs)


def test_the_truth_is_stored_of_every_case() -> None:
    assert [row["name"] for row in ROWS] == [case.name for case in CASES]
    assert len({case.name for case in CASES}) == len({case.seed for case in CASES}) == len(CASES)


def test_each_split_has_saddles_and_ordinary_cases_enough() -> None:
    count = Counter((row["split"], row["label"]) for row in ROWS)
    assert count["design", "true_saddle"] >= 10 and count["test", "true_saddle"] >= 20
    assert count["design", "ordinary"] >= 20 and count["test", "ordinary"] >= 40
    assert count["fresh", "true_saddle"] >= 20 and count["fresh", "ordinary"] >= 25
    assert count["drawn", "true_saddle"] >= 20 and count["drawn", "ordinary"] >= 15
    assert count["sealed", "true_saddle"] >= 25 and count["sealed", "ordinary"] >= 45


def test_nothing_is_in_two_splits() -> None:
    for part in ("seed", "rows"):
        parts = [{str(getattr(case, part)) for case in CASES if case.split == split} for split in SPLITS]
        assert all(one.isdisjoint(other) for one, other in combinations(parts, 2)), part


def test_every_case_is_small() -> None:
    assert max(row["parameters"] for row in ROWS) <= 20_000
    assert all(2000 <= row["examples"] <= 8000 for row in ROWS)
