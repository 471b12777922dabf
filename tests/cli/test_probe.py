"""Flags to values, and a report to an exit code, with a recording in place of the pipeline."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from bsadvisor import pipeline
from bsadvisor import report as reports
from bsadvisor.errors import DataError
from bsadvisor.settings import ProbeSettings, TargetRequest, TrialSettings
from bsadvisor.values import Estimate, Progress, Report
from tests.cli.conftest import Run
from tests.report.sample import contract_report, no_upper_end, nothing_resolved


class Recording:
    """A pipeline that remembers what it was asked and answers with one report."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.asked: dict[str, Any] = {}

    def probe(self, request: TargetRequest, settings: ProbeSettings, **rest: Any) -> Report:
        """What the pipeline is asked."""
        self.asked = {"request": request, "settings": settings, **rest}
        return self.report


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """In place of the pipeline."""
    recording = Recording(contract_report())
    monkeypatch.setattr(pipeline, "probe", recording.probe)
    return recording


TRIAL = TrialSettings(when="if_it_fits")


# --- flags to values ----------------------------------------------------------------------------


def test_without_flags_nothing_is_asked_for_but_the_target(run: Run, recording: Recording) -> None:
    assert run("probe", "model.py").code == 0
    assert recording.asked["request"] == TargetRequest(target="model.py")
    assert recording.asked["settings"] == ProbeSettings(trial=TRIAL)
    assert recording.asked["resume"] is None
    assert recording.asked["sidecar"] is None


def test_every_flag_arrives_where_it_belongs(run: Run, recording: Recording) -> None:
    words = (
        "probe model.py:net --checkpoint last.pt --config other.yaml --data d.py:rows --batch-size 256 "
        "--lr 3e-4 --optimizer adamw --device cpu --dtype bfloat16 --micro-batch 8 --max-examples 999 "
        "--loss mse --precision 0.1 --time-budget 7 --confidence 0.9 --seed 5 --trust-checkpoint"
    )
    run(*words.split())
    assert recording.asked["request"] == TargetRequest(
        target="model.py:net",
        config="other.yaml",
        checkpoint="last.pt",
        data="d.py:rows",
        loss="mse",
        optimizer="adamw",
        batch_size=256,
        learning_rate=3e-4,
        device="cpu",
        dtype="bfloat16",
        trust_checkpoint=True,
    )
    assert recording.asked["settings"] == ProbeSettings(
        precision=0.1,
        time_budget=7,
        max_examples=999,
        micro_batch=8,
        confidence=0.9,
        seed=5,
        trial=TRIAL,
    )


def test_the_curvature_is_measured_unless_it_is_left_out(run: Run, recording: Recording) -> None:
    run("probe", "model.py")
    assert recording.asked["settings"].curvature
    run("probe", "model.py", "--no-curvature")
    assert recording.asked["settings"] == ProbeSettings(curvature=False, trial=TRIAL)


def test_the_help_says_what_is_left_out_with_the_curvature(run: Run) -> None:
    text = " ".join(run("probe", "--help").out.split())
    assert "--no-curvature Leave out B_noise, the stability limit and the saddle verdict." in text


def test_the_target_may_be_left_out(run: Run, recording: Recording) -> None:
    assert run("probe").code == 0
    assert recording.asked["request"] == TargetRequest()


@pytest.mark.parametrize(
    "flags",
    [
        "--precision 0",
        "--precision nan",
        "--time-budget -1",
        "--max-examples 0",
        "--micro-batch 0",
        "--confidence 0",
        "--confidence 1",
        "--confidence nan",
    ],
)
def test_a_value_that_nothing_can_be_measured_with_is_refused(
    run: Run, recording: Recording, flags: str
) -> None:
    finished = run("probe", "model.py", *flags.split())
    assert finished.code == 2
    assert finished.err.startswith(f"error: {flags.split()[0]} ")
    assert recording.asked == {}


@pytest.mark.parametrize(
    "flags", ["--seed -1", "--format pdf", "--no-such-flag", "--lr fast", "--batch-size 1.5"]
)
def test_a_flag_that_cannot_be_read_is_wrong_usage(run: Run, recording: Recording, flags: str) -> None:
    finished = run("probe", "model.py", *flags.split())
    assert finished.code == 2
    problem, remedy = finished.err.splitlines()
    assert flags.split()[0] in problem
    assert remedy == "  try: bsadvisor probe --help"
    assert recording.asked == {}


# --- the report ---------------------------------------------------------------------------------


@pytest.mark.parametrize("format", reports.FORMATS)
def test_stdout_is_the_report_in_the_format_asked_for(run: Run, recording: Recording, format: str) -> None:
    finished = run("probe", "model.py", "--format", format)
    assert finished.out == reports.render(recording.report, format)
    assert finished.err == ""


@pytest.mark.parametrize(
    ("name", "format"), [("r.json", "json"), ("r.yml", "yaml"), ("r.MD", "markdown"), ("r", "text")]
)
def test_a_file_gets_the_format_of_its_ending_and_stdout_nothing(
    run: Run, recording: Recording, tmp_path: Path, name: str, format: str
) -> None:
    finished = run("probe", "model.py", "--output", tmp_path / name)
    assert (finished.code, finished.out) == (0, "")
    assert (tmp_path / name).read_text("utf-8") == reports.render(recording.report, format)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_format_that_is_asked_for_beats_the_ending(run: Run, recording: Recording, tmp_path: Path) -> None:
    run("probe", "model.py", "--output", tmp_path / "r.json", "--format", "yaml")
    assert (tmp_path / "r.json").read_text("utf-8") == reports.render(recording.report, "yaml")


@pytest.mark.parametrize("output", ["nowhere/report.json", ".", "file/report.json"])
def test_an_output_that_cannot_be_written_is_refused_before_measuring(
    run: Run, recording: Recording, tmp_path: Path, output: str
) -> None:
    (tmp_path / "file").touch()
    finished = run("probe", "model.py", "--output", tmp_path / output)
    assert finished.code == 4
    assert finished.err.startswith(f"error: {tmp_path / output} ")
    assert len(finished.err.splitlines()) == 2
    assert recording.asked == {}


def test_a_file_that_is_no_report_is_not_replaced_by_one(
    run: Run, recording: Recording, tmp_path: Path
) -> None:
    model = tmp_path / "model.py"
    model.write_text("model = 1  # measured with bsadvisor\n")
    assert run("probe", model, "--output", model).code == 4
    assert run("probe", model, "--output", model).err.splitlines()[0].endswith("and is no report")
    assert model.read_text() == "model = 1  # measured with bsadvisor\n"
    assert recording.asked == {}


@pytest.mark.parametrize("format", reports.FORMATS)
def test_an_older_report_of_any_format_is_replaced(
    run: Run, recording: Recording, tmp_path: Path, format: str
) -> None:
    for _ in range(2):
        assert run("probe", "model.py", "--output", tmp_path / "r", "--format", format).code == 0


def test_an_empty_file_is_filled(run: Run, recording: Recording, tmp_path: Path) -> None:
    (tmp_path / "r.json").touch()
    assert run("probe", "model.py", "--output", tmp_path / "r.json").code == 0


def test_what_is_no_plain_file_is_not_replaced_by_a_report(
    run: Run, recording: Recording, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert run("probe", "model.py", "--output", tmp_path / "pipe").code == 4
    assert (tmp_path / "pipe").is_fifo()
    assert recording.asked == {}


def test_an_existing_report_is_replaced_and_a_link_to_it_kept(
    run: Run, recording: Recording, tmp_path: Path
) -> None:
    (tmp_path / "real.json").write_text(reports.render(recording.report, "yaml"), encoding="utf-8")
    (tmp_path / "link.json").symlink_to("real.json")
    run("probe", "model.py", "--output", tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text("utf-8") == reports.to_json(recording.report)


def test_what_the_users_code_prints_is_not_on_stdout(
    run: Run, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(*request: Any, **rest: Any) -> Report:
        os.write(1, b"from a C library\n")
        os.system("echo from a child process")
        return recording.report

    monkeypatch.setattr(pipeline, "probe", noisy)
    finished = run("probe", "model.py", "--format", "json")
    assert reports.from_json(finished.out) == recording.report
    assert finished.err == "from a C library\nfrom a child process\n"


def test_notes_go_to_stderr_and_quiet_silences_them(
    run: Run, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noting(*request: Any, **rest: Any) -> Report:
        rest["notify"]("this takes long")
        return recording.report

    monkeypatch.setattr(pipeline, "probe", noting)
    assert run("probe", "model.py").err == "note: this takes long\n"
    assert run("probe", "model.py", "--quiet").err == ""


def test_no_progress_is_drawn_where_stderr_is_no_terminal(
    run: Run, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = Estimate(value=212.0, low=160.0, high=300.0, confidence=0.95)

    def progressing(*request: Any, **rest: Any) -> Report:
        rest["progress"](Progress(phase="gradient", done=1, total=2, noise_scale=estimate))
        return recording.report

    monkeypatch.setattr(pipeline, "probe", progressing)
    assert run("probe", "model.py").err == ""


# --- resuming -----------------------------------------------------------------------------------


def test_a_probe_resumes_from_the_state_beside_a_report(
    run: Run, recording: Recording, tmp_path: Path
) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(reports.to_json(contract_report()))
    run("probe", "model.py", "--resume", before, "--output", after)
    assert recording.asked["resume"] == tmp_path / "before.json.state.safetensors"
    assert recording.asked["sidecar"] == tmp_path / "after.json.state.safetensors"


def test_resuming_from_what_is_no_report_is_refused(run: Run, recording: Recording, tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    finished = run("probe", "model.py", "--resume", tmp_path / "notes.json")
    assert finished.code == 4
    assert "cannot be read as a report" in finished.err
    assert recording.asked == {}


# --- exit codes ---------------------------------------------------------------------------------


def test_nothing_resolved_is_inconclusive_and_still_reported(run: Run, recording: Recording) -> None:
    recording.report = nothing_resolved()
    finished = run("probe", "model.py", "--format", "json")
    assert finished.code == 5
    assert reports.from_json(finished.out) == recording.report


def test_an_unresolved_upper_end_alone_is_no_failure(run: Run, recording: Recording) -> None:
    recording.report = no_upper_end()
    assert run("probe", "model.py").code == 0


def test_an_error_of_the_users_is_two_lines_and_its_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*request: Any, **rest: Any) -> Report:
        raise DataError("the data is empty", "check `data` in model.py")

    monkeypatch.setattr(pipeline, "probe", fail)
    finished = run("probe", "model.py")
    assert (finished.code, finished.out) == (4, "")
    assert finished.err == "error: the data is empty\n  try: check `data` in model.py\n"


@pytest.mark.parametrize("leaving", ["sys.exit()", "sys.exit(0)", "raise SystemExit"])
def test_a_file_that_ends_the_program_when_imported_is_an_error_of_the_users(
    run: Run, tmp_path: Path, leaving: str
) -> None:
    file = tmp_path / "model.py"
    file.write_text(f"import sys\n{leaving}\n", encoding="utf-8")
    finished = run("probe", file)
    assert (finished.code, finished.out) == (4, "")
    problem, remedy = finished.err.splitlines()
    assert "model.py:2: SystemExit" in problem and remedy.startswith("  try: ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_measuring_ends_it_early_and_the_report_is_written(
    run: Run, recording: Recording, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    def measure(*request: Any, **rest: Any) -> Report:
        rest["stop"].deferred = True
        os.kill(os.getpid(), number)
        assert rest["stop"].requested
        return recording.report

    monkeypatch.setattr(pipeline, "probe", measure)
    finished = run("probe", "model.py", "--format", "json")
    assert finished.code == code
    assert reports.from_json(finished.out) == recording.report


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(("deferred", "times"), [(False, 1), (True, 2)])
def test_a_signal_before_measuring_or_a_second_one_ends_the_program(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
    deferred: bool,
    times: int,
) -> None:
    def load(*request: Any, **rest: Any) -> Report:
        rest["stop"].deferred = deferred
        for _ in range(times):
            os.kill(os.getpid(), number)
        raise AssertionError("the signal did not end it")

    monkeypatch.setattr(pipeline, "probe", load)
    finished = run("probe", "model.py")
    assert (finished.code, finished.out) == (code, "")
    assert finished.err == "interrupted: no report was written\n"


def test_the_signal_handlers_of_before_are_back_afterwards(run: Run, recording: Recording) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    run("probe", "model.py")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
