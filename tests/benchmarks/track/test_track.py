"""The study of ramps still runs, and the stored figures say what they are cited for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.benchmarks.track.cases import EVALUATED_AT, FRESH, TEST, Seen
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


TRIED = [row for row in stored() if row["advised"]]

OPEN = [row for row in stored() if "cannot be told" in row["reason"]]

REFUSED = [row for row in stored() if not row["advised"] and row not in OPEN]


def test_every_run_that_was_named_is_stored_and_each_kind_of_answer_was_given() -> None:
    assert [row["case"] for row in stored()] == [*TEST, *FRESH]
    assert (len(TRIED), len(REFUSED), len(OPEN)) == (5, 3, 5)
    assert len([row for row in TRIED if row["case"] in FRESH]) == 4
    assert all(row["seeds"] >= 4 for row in stored())


@pytest.mark.parametrize("row", TRIED, ids=lambda row: str(row["case"]))
def test_an_advised_ramp_ended_lower_than_both_constants_in_fewer_steps(row: dict[str, Any]) -> None:
    assert row["steps_to_loss_of_mean"]["ramp"] <= row["steps"]["mean"]
    assert row["steps_to_loss_of_small"]["ramp"] < row["steps"]["small"]


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: str(row["case"]))
def test_where_none_was_advised_one_would_not_have_ended_lower(row: dict[str, Any]) -> None:
    assert row["change"] > -2 * row["change_error"]


def test_of_those_left_open_most_would_have_gained() -> None:
    """The price of certainty; the README tells it."""
    assert sum(row["change"] < 0 for row in OPEN) == 4
    assert all(abs(row["change"]) < 0.08 * row["final_loss"]["small"] for row in OPEN)
