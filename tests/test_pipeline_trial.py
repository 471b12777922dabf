"""Whole trials of small files: what is measured, kept, resumed and left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bsadvisor import pipeline
from bsadvisor.errors import TargetError
from bsadvisor.pipeline.trial_log import TrialLog
from bsadvisor.report import from_json, to_json
from bsadvisor.settings import ProbeSettings, TargetRequest, TrialSettings
from bsadvisor.values import BranchResult, Heat, HeatResult, Progress, Report, SecondsPerPhase

DATA = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn({rows}, 12)
y = (x @ torch.randn(12, 4) + 2 * torch.randn({rows}, 4)).argmax(1)
data = torch.utils.data.TensorDataset(x, y)
BATCH_SIZE, LEARNING_RATE = 16, 0.3
model = nn.Linear(12, 4)
def optimizer(parameters):
    return torch.optim.SGD(parameters, lr=LEARNING_RATE, momentum=0.5)
"""

TRIAL = TrialSettings(when="always", horizon=30)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(more: str = "", *, rows: int = 512, checkpoint: bool = True) -> Path:
        file = tmp_path / "model.py"
        file.write_text(DATA.format(rows=rows) + more, encoding="utf-8")
        if checkpoint:
            weights = {"weight": torch.zeros(4, 12), "bias": torch.zeros(4)}
            torch.save(weights, tmp_path / "last.pt")
        return file

    return write


def run(file: Path, *, trial: TrialSettings = TRIAL, stop_in: str | None = None, **places: Any) -> Report:
    """A trial of a file, which a phase may interrupt."""
    stop = pipeline.StopSignal()

    def progress(step: Progress) -> None:
        if step.phase == stop_in and step.done > 4000:
            stop.request("interrupt")

    checkpoint = file.with_name("last.pt")
    flags = places.pop("flags", {})
    return pipeline.probe(
        TargetRequest(target=str(file), checkpoint=str(checkpoint) if checkpoint.exists() else None, **flags),
        ProbeSettings(trial=trial, curvature=False, time_budget=places.pop("time_budget", 300.0)),
        progress=progress,
        notify=lambda note: None,
        stop=stop,
        command="trial",
        **places,
    )


def without_times(report: Report) -> Report:
    run = replace(report.probe, seconds=0.0, seconds_per_phase=SecondsPerPhase())
    plan = replace(report.trial_plan, seconds=0.0) if report.trial_plan else None
    return replace(report, probe=run, trial_plan=plan)


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


def test_a_trial_measures_pairs_and_recommends_one(write: Callable[..., Path]) -> None:
    report = run(write())
    trial = report.trial
    assert trial is not None and trial.stopped_by == "precision" and len(trial.curve) >= 3
    assert trial.target_loss is not None and trial.target_loss < trial.start_loss
    assert report.probe.seconds_per_phase.trial
    measured = [row for row in report.recommendations if row.basis == "measured"]
    assert {row.batch_size for row in measured} == {point.batch_size for point in trial.curve}
    assert report.headline.action in ("use", "keep")
    chosen = next(row for row in report.recommendations if row.batch_size == report.headline.batch_size)
    assert chosen.basis == "measured" and chosen.learning_rate_low and chosen.learning_rate_high
    assert chosen.learning_rate_low <= (chosen.learning_rate or 0) <= chosen.learning_rate_high
    assert from_json(to_json(report)) == report


def test_more_steps_are_needed_at_smaller_batch_sizes(write: Callable[..., Path]) -> None:
    trial = run(write()).trial
    assert trial is not None
    steps = [point.steps.value or 0.0 for point in trial.curve]
    examples = [point.examples.value or 0.0 for point in trial.curve]
    assert steps[0] > steps[-1] and examples[0] < examples[-1]


def test_the_same_seed_gives_the_same_report(write: Callable[..., Path]) -> None:
    file = write()
    assert without_times(run(file)) == without_times(run(file))


def test_files_model_and_random_numbers_are_left_alone(write: Callable[..., Path], tmp_path: Path) -> None:
    file = write()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    run(file)
    assert torch.equal(state, torch.get_rng_state())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_trial_goes_on_where_it_was_interrupted(write: Callable[..., Path], tmp_path: Path) -> None:
    file, log = write(), tmp_path / "report.json.trial.jsonl"
    part = run(file, trial_log=log, stop_in="trial")
    assert part.trial is not None and part.trial.stopped_by == "interrupt" and "BSA314" in codes(part)
    kept = log.read_text().splitlines()
    assert len(kept) >= 2
    whole = run(file, trial_log=log, resumed_trial_log=log)
    assert without_times(whole) == without_times(run(file))
    assert not log.exists(), "nothing is left to go on with"


def test_heats_that_are_finished_are_not_run_again(write: Callable[..., Path], tmp_path: Path) -> None:
    file, log = write(), tmp_path / "log.jsonl"
    run(file, trial_log=log, stop_in="trial")
    lines = log.read_text().splitlines()
    first = json.loads(lines[1])
    first["branches"][0]["steps_taken"] += 12345
    log.write_text("\n".join([lines[0], json.dumps(first), *lines[2:], ""]))
    resumed, fresh = run(file, resumed_trial_log=log).trial, run(file).trial
    assert resumed is not None and fresh is not None
    assert resumed.examples_used == fresh.examples_used + 12345 * 16


def test_a_log_of_another_trial_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    file, log = write(), tmp_path / "log.jsonl"
    run(file, trial_log=log, stop_in="trial")
    with pytest.raises(TargetError, match="belongs to another"):
        run(file, trial=replace(TRIAL, horizon=31), resumed_trial_log=log)
    log.write_text("no record\n")
    with pytest.raises(TargetError, match="no record of a trial"):
        run(file, resumed_trial_log=log)


def test_a_line_that_was_cut_short_is_run_again(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    heat = Heat(
        batch_size=8,
        learning_rates=(0.1, 1 / 3),
        seeds=(1,),
        target_loss=None,
        pace_setter=0.1,
        expected_steps=10.5,
        max_steps=40,
    )
    branch = BranchResult(
        learning_rate=1 / 3, seed=1, outcome="reached", steps=0.1, steps_taken=3, final_log_loss=-0.1
    )
    result = HeatResult(heat=heat, target_loss=0.3, start_loss=1.0, branches=(branch,))
    written = TrialLog(log, "mine", resumed=None)
    written.add(result)
    written.add(result)
    log.write_text(log.read_text()[:-20])
    again = TrialLog(log, "mine", resumed=log)
    assert again.earlier == [result]
    again.add(result)
    assert TrialLog(log, "mine", resumed=log).earlier == [result, result]


def test_a_killed_trial_is_resumed_to_the_same_report(write: Callable[..., Path], tmp_path: Path) -> None:
    """SIGKILL, which no handler sees: only what is on the disk remains."""
    file = write(rows=2048)
    command = [sys.executable, "-m", "bsadvisor", "trial", str(file), "--horizon", "30", "--quiet"]
    command += ["--checkpoint", str(tmp_path / "last.pt"), "--output", str(tmp_path / "killed.json")]
    log = tmp_path / "killed.json.trial.jsonl"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_text().count("\n") >= 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed.json").exists()
    subprocess.run([*command, "--resume", str(tmp_path / "killed.json")], env=environment, check=True)
    whole = [*command[:-1], str(tmp_path / "whole.json")]
    subprocess.run(whole, env=environment, check=True)
    reports = [from_json((tmp_path / f"{name}.json").read_text()) for name in ("killed", "whole")]
    assert without_times(reports[0]) == without_times(reports[1])


# --- wrong and odd input ------------------------------------------------------------------------


def test_a_loss_that_goes_down_nowhere_is_said_with_what_was_tried(write: Callable[..., Path]) -> None:
    file = write("def loss(model, batch):\n    return 1 + 1e-9 * model(batch[0]).mean()\n")
    report = run(file)
    assert report.trial is not None and report.trial.target_loss is None and not report.trial.curve
    (remark,) = [finding for finding in report.findings if finding.code == "BSA311"]
    assert "any learning rate tried: " in remark.message


def test_a_target_that_is_reached_already_is_said(write: Callable[..., Path]) -> None:
    report = run(write(), trial=replace(TRIAL, target_loss=100.0))
    assert report.trial is not None and "BSA311" in codes(report)


def test_rates_that_blow_up_never_crash_a_trial(write: Callable[..., Path]) -> None:
    report = run(write("LEARNING_RATE = 200.0\n"))
    assert report.trial is not None and report.trial.curve
    assert report.trial.curve[0].learning_rate < 200


def test_without_an_optimizer_adamw_is_used_and_said(write: Callable[..., Path]) -> None:
    report = run(write("del optimizer, LEARNING_RATE\n"))
    assert report.trial is not None and report.trial.curve
    assert "no optimizer is known: adamw was trained with" in report.trial.notes


def test_a_checkpoint_without_state_is_warmed_up_and_that_is_said(write: Callable[..., Path]) -> None:
    trial = run(write()).trial
    assert trial is not None and any("has no optimizer state" in note for note in trial.notes)


def test_batches_end_at_the_size_of_the_data(write: Callable[..., Path]) -> None:
    trial = run(write(rows=96)).trial
    assert trial is not None and all(point.batch_size <= 96 for point in trial.curve)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("data = [(x[:32], y[:32])] * 40\n", "a stream"),
        (
            "def loss(model, batch):\n    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction='sum')\n",
            "adds up over examples",
        ),
    ],
)
def test_what_cannot_be_trained_on_trial_is_said(write: Callable[..., Path], more: str, reason: str) -> None:
    report = run(write(more))
    (remark,) = [finding for finding in report.findings if finding.code == "BSA310"]
    assert reason in remark.message and report.trial is None


def test_a_dry_run_only_plans(write: Callable[..., Path]) -> None:
    report = run(write(), trial=replace(TRIAL, dry_run=True))
    assert report.trial is None and report.trial_plan is not None
    assert report.trial_plan.runs > 5 and 16 in report.trial_plan.batch_sizes


def test_a_trial_that_does_not_fit_into_the_time_is_only_planned(write: Callable[..., Path]) -> None:
    file = write()
    small = replace(TRIAL, when="if_it_fits", horizon=10**6)
    report = run(file, trial=small, time_budget=30.0)
    assert report.trial is None and report.trial_plan is not None and report.trial_plan.seconds > 30
    fits = run(file, trial=replace(TRIAL, when="if_it_fits"))
    assert fits.trial is not None


def test_a_trial_ends_when_time_or_examples_are_spent(write: Callable[..., Path]) -> None:
    file = write()
    report = run(file, trial=replace(TRIAL, max_examples=6000))
    assert report.trial is not None and report.trial.stopped_by == "max_examples"
    assert report.trial.examples_used <= 6000 * 1.3
    report = run(file, trial=replace(TRIAL, horizon=2000), time_budget=3.0)
    assert report.trial is None or report.trial.stopped_by == "time"


def test_a_batch_size_above_the_data_starts_from_all_of_it(write: Callable[..., Path]) -> None:
    report = run(write("BATCH_SIZE = 1000\n", rows=200))
    assert report.trial is not None and report.trial.curve
    assert any("the trial starts from there" in note for note in report.trial.notes)


def test_a_learning_rate_that_does_nothing_is_raised_until_one_does(write: Callable[..., Path]) -> None:
    trial = run(write("LEARNING_RATE = 1e-5\n")).trial
    assert trial is not None and trial.curve and trial.curve[0].learning_rate > 1e-3


def test_an_optimizer_that_calls_back_is_not_tried(write: Callable[..., Path]) -> None:
    report = run(write("del optimizer\n"), flags={"optimizer": "lbfgs"})
    (remark,) = [finding for finding in report.findings if finding.code == "BSA310"]
    assert "evaluates the loss many times" in remark.message


def test_a_limit_that_nothing_fits_into_is_said(write: Callable[..., Path]) -> None:
    report = run(write(), trial=replace(TRIAL, max_examples=10))
    (remark,) = [finding for finding in report.findings if finding.code == "BSA310"]
    assert report.trial is None and "raise --max-examples" in remark.message
