"""The short version of the study: one checkpoint, one trial, and the tables that are made of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bsadvisor.theory.target_crossing import steps_to_target
from tests.benchmarks.accuracy import judge, preflight, truth
from tests.benchmarks.accuracy.cases import case_named, checkpoint

NAME = "softmax-digits-sgd-early"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> judge.Outcome:
    """Seed 1; the study has more of both."""
    case, known = case_named(NAME), judge.truths()
    return judge.judge(case, known[NAME], 1, tmp_path_factory.mktemp("trial"))


def test_a_trial_is_near_the_stored_brute_force(outcome: judge.Outcome) -> None:
    assert outcome.critical is not None and outcome.truth is not None
    assert 1 / 2 <= outcome.critical / outcome.truth <= 2
    assert outcome.low is not None and outcome.high is not None
    assert outcome.low <= outcome.truth <= outcome.high
    assert np.exp(np.mean(np.abs(np.log(list(outcome.steps_ratio.values()))))) < 1.35


def test_the_recommended_pair_is_nearly_the_best_there_is(outcome: judge.Outcome) -> None:
    assert outcome.excess is not None and outcome.excess < 1.3


def test_a_trial_costs_a_fraction_of_the_grid(outcome: judge.Outcome) -> None:
    assert outcome.cost > 7


def test_the_table_names_the_null_predictor(outcome: judge.Outcome) -> None:
    lines = list(judge.summary([outcome], judge.truths()))
    assert any("constant guess" in line for line in lines) and any("B_crit" in line for line in lines)


def test_brute_force_and_the_tool_read_the_same_crossing() -> None:
    generator = np.random.default_rng(3)
    seen = [(step, -step / 50 + 0.1 * generator.standard_normal()) for step in range(0, 100, 3)]
    steps, logs = zip(*seen, strict=True)
    assert truth.crossing(seen, -1.0) == pytest.approx(steps_to_target(steps, logs, -1.0))


def test_brute_force_itself_runs() -> None:
    case = case_named(NAME)
    inputs, targets = case.data()
    bench = truth.Bench(case=case, inputs=inputs, targets=targets, saved=checkpoint(case))
    goal = truth.target_of(bench, case.learning_rate)
    assert 0 < bench.steps_to(goal, 64, case.learning_rate, 1, 600) < 600
    assert bench.steps_to(goal / 100, 64, case.learning_rate, 1, 20) == float("inf")


@pytest.mark.parametrize("name", ["mlp-digits-adamw-mid", "mlp-digits-momentum-mid"])
def test_runs_of_brute_force_start_from_the_same_optimizer_state(name: str) -> None:
    case = case_named(name)
    inputs, targets = case.data()
    bench = truth.Bench(case=case, inputs=inputs, targets=targets, saved=checkpoint(case))
    first, second = (list(bench.losses(32, case.learning_rate, 1, 20)) for _ in range(2))
    assert first == second


def test_pairs_of_the_grid_are_good_or_bad() -> None:
    (entry,) = [e for e in json.loads(truth.RESULTS.read_text())["rows"] if e["name"] == NAME]
    found = list(preflight.pairs(entry))
    assert {good for _, _, good in found} == {True, False}
    assert all(not good for size, _, good in found if size == max(size for size, _, _ in found))


def test_every_pair_is_judged(tmp_path: Path) -> None:
    (entry,) = [e for e in json.loads(truth.RESULTS.read_text())["rows"] if e["name"] == NAME]
    torch.set_num_threads(1)
    report = judge.trial_report(case_named(NAME), 0, tmp_path, pace_setter=None, when="never")
    found = list(preflight.judged(entry, report))
    assert len(found) == len(entry["grid"])
    assert any(line.startswith("predicted good") for line in preflight.table("predicted", found))
