"""A short version of the benchmark, and what its stored results must say."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from tests.benchmarks.generalization import __main__ as benchmark
from tests.benchmarks.generalization.cases import runs
from tests.benchmarks.generalization.judge import Judged, judge, turn
from tests.benchmarks.generalization.truth import Checkpoint, checkpoints, span_of_turn


def test_no_net_serves_both_to_design_and_to_test() -> None:
    design, test = ({run.name for run in runs(split)} for split in ("design", "test"))
    assert not design & test


def test_the_verdict_of_a_short_noisy_run_turns() -> None:
    run = next(run for run in runs("design") if run.kind == "noisy")
    before, after = checkpoints(replace(run, steps=(40, 960)))
    assert judge(before).verdict == "fitting"
    assert judge(after).verdict == "memorization"


def checkpoint(step: int, loss: float) -> Checkpoint:
    run = next(runs("design"))
    return Checkpoint(run=run, step=step, task=None, held_losses=torch.tensor([loss]))  # type: ignore[arg-type]


def judged(step: int, verdict: str) -> Judged:
    return Judged(
        run="run", kind="noisy", seed=0, step=step, verdict=verdict, healthy=None, held_loss=0.0,
        gap=(None, None), growth=(None, None), alignment=(None, None), self_share=None, examples=1,
    )  # fmt: skip


CURVE = [checkpoint(step, loss) for step, loss in enumerate((2.0, 1.5, 1.02, 1.0, 1.04, 1.3, 1.8))]


def test_the_span_is_where_the_loss_is_near_its_minimum_and_one_checkpoint_more() -> None:
    assert span_of_turn(CURVE) == (1, 5)


@pytest.mark.parametrize(
    ("verdicts", "within"),
    [
        ("ffffmmm", True),
        ("ffoommm", True),
        ("fooooom", False),
        ("mfffmmm", False),
        ("ffffmmo", False),
        ("fffffff", False),
    ],
)
def test_a_turn_outside_the_span_is_counted_as_one(verdicts: str, within: bool) -> None:
    names = {"f": "fitting", "o": "overfitting", "m": "memorization"}
    assert turn(CURVE, [judged(step, names[letter]) for step, letter in enumerate(verdicts)]).within == within


def test_the_stored_results_show_what_is_claimed() -> None:
    stored = json.loads(benchmark.RESULTS.read_text(encoding="utf-8"))
    assert {(row["run"], row["seed"]) for row in stored["rows"]} == {
        (run.name, run.seed) for run in runs("test")
    }
    healthy = [row for row in stored["rows"] if row["healthy"]]
    assert len(healthy) >= 20
    assert not [row for row in healthy if row["verdict"] == "memorization"]
    assert not any(row["early"] for row in stored["turns"])
    within = Counter(row["run"] for row in stored["turns"] if row["within"])
    assert within == {"conv 8, AdamW": 5, "mlp 160-80 tanh, SGD": 4}
