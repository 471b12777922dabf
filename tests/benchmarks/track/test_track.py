"""The study of ramps still runs, and the stored figures say what they are cited for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.benchmarks.track.cases import EVALUATED_AT, Seen
from tests.benchmarks.track.judge import RESULTS, judge, steps_to


def test_a_short_run_is_tracked_and_its_ramp_run_beside_both_constants() -> None:
    row = judge("softmax-noisy-digits-momentum-early", 2, steps=100)
    assert row["steps"]["small"] == 100
    assert row["steps"]["ramp"] < 75 and abs(row["steps"]["mean"] - row["steps"]["ramp"]) <= 2
    assert set(row["final_loss"]) == {"small", "mean", "ramp"}
    assert all(0 < loss < 3 for loss in row["final_loss"].values())


def stored() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    return rows


def run(losses: list[float]) -> list[Seen]:
    return [Seen(steps=10 * index, loss=loss) for index, loss in enumerate(losses, 1)]


def test_a_loss_is_reached_where_the_smoothed_mean_of_the_seeds_is_at_it() -> None:
    falling = [1.0 - index / len(EVALUATED_AT) for index in range(len(EVALUATED_AT))]
    assert steps_to([run(falling)], falling[11]) == 130
    dip = [1.0] * 10 + [0.1] + [1.0] * 10
    assert steps_to([run(dip)], 0.5) is None
    rising = [1.0, 0.2, 0.2, 0.2, 0.2, 1.0, 1.0, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3]
    assert steps_to([run(rising)], 0.3) == 100  # not at 40, where it does not stay
    assert steps_to([run(dip), run(falling[:21])], 0.01) is None


@pytest.mark.parametrize("row", stored(), ids=lambda row: str(row["case"]))
def test_an_advised_ramp_ended_lower_than_both_constants_in_fewer_steps(row: dict[str, Any]) -> None:
    if not row["advised"]:
        pytest.skip("no ramp was advised here")
    assert row["steps_to_loss_of_mean"]["ramp"] <= row["steps"]["mean"]
    assert row["steps_to_loss_of_small"]["ramp"] < row["steps"]["small"]


@pytest.mark.parametrize("row", stored(), ids=lambda row: str(row["case"]))
def test_where_none_was_advised_one_would_not_have_ended_lower(row: dict[str, Any]) -> None:
    if row["advised"]:
        pytest.skip("a ramp was advised here")
    assert row["change"] > -2 * row["change_error"]
