"""Saddles are labelled as defined, by curvature that is exact."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from tests.benchmarks.saddles.cases import CASES
from tests.benchmarks.saddles.curvature import extremes, measure
from tests.benchmarks.saddles.problem import SaddleTask
from tests.benchmarks.saddles.truth import Escape, escape, label


@cache
def planted() -> SaddleTask:
    case = next(case for case in CASES if case.name == "planted in a softmax regression")
    return case.build()


@pytest.mark.parametrize(
    ("negative", "runs", "of_a_saddle", "of_a_run"),
    [
        (True, [(100, 300), (120, None), (99, 200)], "true_saddle", "true_saddle"),
        (True, [(98, 300), (120, 400), (60, 200)], "not_a_saddle", "ordinary"),
        (True, [(100, None), (120, None), (200, 900)], "not_a_saddle", "ordinary"),
        (False, [(100, 300)] * 3, "not_a_saddle", "ordinary"),
        (True, [(4, 20)] * 3, "ordinary", "ordinary"),
    ],
)
def test_a_label_follows_the_median_run(
    negative: bool, runs: list[tuple[int | None, int | None]], of_a_saddle: str, of_a_run: str
) -> None:
    escapes = [Escape(left=left, dropped=dropped) for left, dropped in runs]
    assert label("saddle", negative, escapes) == of_a_saddle
    assert label("ordinary", negative, escapes) == of_a_run


def test_lanczos_finds_both_ends_of_a_known_spectrum() -> None:
    inner = torch.linspace(0.0, 1.0, 298, dtype=torch.float64)
    values = torch.cat([inner, torch.tensor([-0.2, 7.0], dtype=torch.float64)])
    low, residual, high = extremes(lambda vector: values * vector, 300)
    assert low == pytest.approx(-0.2, abs=residual + 1e-6) and high == pytest.approx(7.0, rel=1e-5)
    assert residual < 1e-2


def test_a_planted_saddle_has_the_curvature_that_was_planted() -> None:
    at = measure(planted())
    assert at.lambda_min == pytest.approx(-4 * 0.4, rel=1e-6) and at.negative


def test_a_run_from_a_planted_saddle_leaves_it_after_a_while() -> None:
    run = escape(planted(), 0, 1000)
    assert run.left is not None and run.dropped is not None
    assert 100 <= run.left < run.dropped < 1000


def test_a_run_is_given_up_at_the_horizon() -> None:
    assert escape(planted(), 0, 50) == Escape(left=None, dropped=None)
