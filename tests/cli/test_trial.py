"""`bsadvisor trial` and `probe --trial` as they are typed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bsadvisor import pipeline
from bsadvisor.settings import ProbeSettings
from bsadvisor.values import Report, TrialPlan
from tests.cli.conftest import Run
from tests.report.sample import contract_report as report


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the pipeline was asked for; it answers with a report that was made up."""
    seen: dict[str, Any] = {"answer": report()}

    def probe(request: Any, settings: ProbeSettings, **more: Any) -> Report:
        seen.update(request=request, settings=settings, **more)
        answer: Report = seen["answer"]
        return replace(answer, command=more["command"])

    monkeypatch.setattr(pipeline, "probe", probe)
    return seen


def test_every_flag_reaches_the_trial(run: Run, asked: dict[str, Any], tmp_path: Path) -> None:
    flags = "--horizon 70 --target-loss 0.5 --keep-betas --max-examples 9000 --time-budget 12 --seed 3"
    run("trial", "model.py", *flags.split(), "--output", tmp_path / "r.json")
    settings = asked["settings"]
    assert asked["command"] == "trial" and settings.trial.when == "always"
    assert (settings.trial.horizon, settings.trial.target_loss) == (70, 0.5)
    assert settings.trial.keep_betas and settings.trial.max_examples == 9000
    assert (settings.time_budget, settings.seed, settings.curvature) == (12, 3, False)
    assert asked["trial_log"] == tmp_path / "r.json.trial.jsonl"


@pytest.mark.parametrize(
    ("flags", "when"), [("", "if_it_fits"), ("--trial", "always"), ("--no-trial", "never")]
)
def test_a_probe_runs_a_trial_where_it_fits_unless_told(
    run: Run, asked: dict[str, Any], flags: str, when: str
) -> None:
    run("probe", "model.py", *flags.split())
    assert asked["settings"].trial.when == when and asked["command"] == "probe"


@pytest.mark.parametrize(
    "flags", ["--horizon 0", "--target-loss -1", "--max-examples 0", "--target-loss nan"]
)
def test_what_no_trial_can_be_run_with_is_refused(run: Run, asked: dict[str, Any], flags: str) -> None:
    finished = run("trial", "model.py", *flags.split())
    assert finished.code == 2 and len(finished.err.splitlines()) == 2


def test_a_trial_without_an_answer_is_inconclusive(run: Run, asked: dict[str, Any]) -> None:
    assert run("trial", "model.py").code == 5


def test_a_plan_alone_is_an_answer(run: Run, asked: dict[str, Any]) -> None:
    plan = TrialPlan(batch_sizes=(8, 32), runs=12, examples=34_000, seconds=45.0)
    asked["answer"] = replace(report(), trial_plan=plan)
    finished = run("trial", "model.py", "--dry-run")
    assert finished.code == 0
    assert "would take about 45.0 s for 12 runs" in finished.out and "at B = 8, 32" in finished.out


def test_a_trial_that_was_killed_is_resumed_from_its_log_alone(
    run: Run, asked: dict[str, Any], tmp_path: Path
) -> None:
    log = tmp_path / "r.json.trial.jsonl"
    log.write_text("{}\n")
    run("trial", "model.py", "--resume", tmp_path / "r.json")
    assert asked["resumed_trial_log"] == log and asked["resume"] is None


def test_nothing_to_resume_from_is_said(run: Run, asked: dict[str, Any], tmp_path: Path) -> None:
    finished = run("trial", "model.py", "--resume", tmp_path / "r.json")
    assert finished.code == 4 and "r.json cannot be read" in finished.err


def test_a_whole_trial_at_the_prompt(spawn: Run) -> None:
    command = "bsadvisor init demo && bsadvisor trial demo/model.py --horizon 40 --format json"
    finished = spawn(f"{command} --output r.json && bsadvisor show r.json && cat r.json >&2")
    assert finished.code == 0
    assert "measured" in finished.out and "critical batch" in finished.out
    found = json.loads(finished.err[finished.err.index("{") :])
    assert found["command"] == "trial" and found["trial"]["curve"]
    assert finished.err.startswith("note: trial: about "), "the plan comes before the runs"
