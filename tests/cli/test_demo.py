"""The demo as the README has it: in a terminal, in a pipe, and interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pexpect
import pytest

from bsadvisor import report as reports
from bsadvisor.scaling_rules import SCALING_RULES
from tests.cli.conftest import PROGRAM, Run

SECONDS = 30
"""What a probe of the demo may take."""


@pytest.fixture
def demo(spawn: Run, tmp_path: Path) -> Path:
    """The folder in which `bsadvisor init demo` was typed."""
    assert spawn("bsadvisor init demo").code == 0
    return tmp_path


def in_a_terminal(folder: Path, **environment: str) -> tuple[int | None, str]:
    """Exit code, and all that the terminal received."""
    child = pexpect.spawn(
        PROGRAM,
        ["probe", "demo/model.py"],
        cwd=str(folder),
        env={**os.environ, "TERM": "xterm-256color", **environment},
        dimensions=(60, 80),
        encoding="utf-8",
        timeout=SECONDS,
    )
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus, child.before or ""


def without_colours(seen: str) -> str:
    """Plain text, without what moves the cursor or paints."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)


def test_a_person_at_a_terminal_sees_the_progress_and_then_the_answer(demo: Path) -> None:
    code, seen = in_a_terminal(demo)
    plain = without_colours(seen)
    report = plain[plain.index("bsadvisor 0.1") :]
    assert code == 0
    assert re.search(r"gradient +.*[\d,]+ / [\d,]+ examples", plain)
    assert re.search(r"B_simple\s+[\d,]+ \[", report)
    assert all(len(line) <= 80 for line in report.splitlines())


def test_colour_is_for_terminals_that_want_it(demo: Path) -> None:
    _, painted = in_a_terminal(demo)
    _, plain = in_a_terminal(demo, NO_COLOR="1")
    colour = r"\x1b\[[0-9;]*3[0-9][0-9;]*m"
    assert re.search(colour, painted[painted.index("bsadvisor 0.1") :])
    assert not re.search(colour, plain[plain.index("bsadvisor 0.1") :])


def test_in_a_pipe_the_report_is_json_alone(spawn: Run, demo: Path) -> None:
    finished = spawn("bsadvisor probe demo/model.py --format json | python -m json.tool")
    assert (finished.code, finished.err) == (0, "")
    anchor = json.loads(finished.out)["target"]
    assert (anchor["batch_size"], anchor["learning_rate"], anchor["example"]) == (32, 1e-3, "image")


def test_the_curvature_and_the_saddle_are_reported(spawn: Run, demo: Path) -> None:
    finished = spawn("bsadvisor probe demo/model.py --output report.json && bsadvisor show report.json")
    report = reports.from_json((demo / "report.json").read_text("utf-8"))
    assert report.curvature is not None and report.saddle is not None
    assert report.gradient.noise_scale is not None and report.curvature.learning_rate_limit is not None
    for label in ("B_noise", "largest stable η", "λmin", "saddle"):
        assert label in finished.out


def test_every_named_rule_is_judged_at_every_recommended_batch_size(spawn: Run, demo: Path) -> None:
    spawn("bsadvisor probe demo/model.py --max-examples 512 --no-curvature --no-trial --output report.json")
    report = reports.from_json((demo / "report.json").read_text("utf-8"))
    rules = {rule.name: rule for rule in report.scaling_rules}
    assert list(rules) == list(SCALING_RULES)
    for row, root, best in zip(
        report.recommendations,
        rules["square_root"].learning_rates,
        rules["saturating_power"].learning_rates,
        strict=True,
    ):
        assert row.other_rules is not None and row.batch_size == root.batch_size
        assert root.learning_rate == pytest.approx(row.other_rules.square_root)
        assert best.over_recommended == pytest.approx(1)
    asked = "bsadvisor scale --to-batch 64 --report report.json --format json"
    recommended = json.loads(spawn(asked).out)["recommended"]
    (row,) = [row for row in report.recommendations if row.batch_size == 64]
    assert recommended["learning_rate"] == pytest.approx(row.learning_rate)


def test_without_curvature_nothing_of_it_is_measured_or_said(spawn: Run, demo: Path) -> None:
    finished = spawn(
        "bsadvisor probe demo/model.py --no-curvature --output report.json && bsadvisor show report.json"
    )
    report = reports.from_json((demo / "report.json").read_text("utf-8"))
    assert (report.curvature, report.saddle, report.gradient.noise_scale) == (None, None, None)
    assert report.probe.seconds_per_phase.curvature is None
    assert not re.search(r"curvature|saddle|stable|B_noise|λ|escape", finished.out)


def test_an_interrupt_in_the_middle_of_the_curvature_keeps_what_was_measured(demo: Path) -> None:
    # Every loss takes its time, so that the curvature takes seconds.
    model = (demo / "demo" / "model.py").read_text()
    slow = "\n\ndef loss(model, batch):\n    import time\n    time.sleep(0.01)\n"
    slow += "    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])\n"
    (demo / "demo" / "slow.py").write_text(model + slow)
    flags = ["demo/slow.py", "--output", "report.json"]
    child = pexpect.spawn(PROGRAM, ["probe", *flags], cwd=str(demo), encoding="utf-8", timeout=SECONDS)
    child.expect("curvature")
    child.kill(signal.SIGINT)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    partial = reports.from_json((demo / "report.json").read_text("utf-8"))
    assert partial.probe.stopped_by == "interrupt" and partial.local is not None
    assert partial.curvature is not None and len(partial.curvature.skipped) >= 3
    assert partial.saddle is None
    assert "BSA218" in [finding.code for finding in partial.findings]


def test_the_same_command_gives_the_same_numbers(spawn: Run, demo: Path) -> None:
    command = "bsadvisor probe demo/model.py --format json --max-examples 512"
    first, second = (json.loads(spawn(command).out) for _ in range(2))
    for section in (
        "gradient",
        "local",
        "curvature",
        "saddle",
        "recommendations",
        "predicted_critical_batch_size",
    ):
        assert first[section] == second[section]


def test_a_probe_changes_nothing_but_its_output(spawn: Run, demo: Path) -> None:
    before = {file.name: file.read_bytes() for file in (demo / "demo").iterdir() if file.is_file()}
    spawn("bsadvisor probe demo/model.py --max-examples 512 --output report.json")
    after = {file.name: file.read_bytes() for file in (demo / "demo").iterdir() if file.is_file()}
    assert after == before
    assert (demo / "report.json").is_file()


def test_an_interrupted_probe_is_written_and_goes_on(spawn: Run, demo: Path) -> None:
    # A larger copy of the data set, measured to a precision that it cannot reach soon.
    slow = (
        (demo / "demo" / "model.py")
        .read_text()
        .replace('return _digits("train")', 'return torch.utils.data.ConcatDataset([_digits("train")] * 50)')
    )
    (demo / "demo" / "slow.py").write_text(slow)
    flags = ["demo/slow.py", "--output", "report.json", "--precision", "0.001", "--time-budget", "600"]
    child = pexpect.spawn(PROGRAM, ["probe", *flags], cwd=str(demo), encoding="utf-8", timeout=SECONDS)
    child.expect(r"\d,\d{3} / [\d,]+ examples")
    child.kill(signal.SIGINT)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    partial = reports.from_json((demo / "report.json").read_text("utf-8"))
    assert partial.probe.stopped_by == "interrupt"

    more = partial.probe.examples + 2000
    resumed = ["--resume", "report.json", "--max-examples", str(more), "--output", "whole.json"]
    done = subprocess.run([PROGRAM, "probe", *flags, *resumed], cwd=demo, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    whole = reports.from_json((demo / "whole.json").read_text("utf-8"))
    assert partial.probe.examples < whole.probe.examples <= more
