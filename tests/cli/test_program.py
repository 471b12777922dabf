"""The installed program as a shell sees it: quick to start, and well-behaved in pipes."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from statistics import median

import pytest

import bsadvisor
from bsadvisor import report as reports
from tests.cli.conftest import PROGRAM, Run
from tests.report.curved import no_saddle
from tests.report.sample import contract_report

HEAVY = ("torch", "numpy", "scipy", "pandas")

SCALE = "scale --to-batch 64 --report report.json"

TAB = "COMP_WORDS='bsadvisor probe --form' COMP_CWORD=2 _BSADVISOR_COMPLETE=complete_bash"


def processor_seconds(spawn: Run, command: str) -> float:
    """What a command takes on a machine with nothing else to do; it never waits for anything."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert spawn(command).out
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


BARE = f"""{sys.executable} -c "import typer; bare = typer.Typer(); bare.command()(lambda: None); bare(['--help'])" """
"""What any program of that library takes to say what it is."""


def starts_in(spawn: Run, command: str, *, seconds: float, times_bare: float) -> bool:
    """Whether it takes no longer than that; on a slow or busy machine, than so many times a bare program beside it."""
    spawn(command)
    pairs = [(processor_seconds(spawn, BARE), processor_seconds(spawn, command)) for _ in range(5)]
    ratio = median(taken / bare for bare, taken in pairs)
    return min(taken for _, taken in pairs) <= seconds or ratio <= times_bare


def test_the_version_is_printed(spawn: Run) -> None:
    assert spawn("bsadvisor --version").out == f"bsadvisor {bsadvisor.__version__}\n"


def test_the_module_runs_as_the_program(spawn: Run) -> None:
    assert spawn(f"{sys.executable} -m bsadvisor --version").out == spawn("bsadvisor --version").out


def test_only_commands_that_exist_are_offered(spawn: Run) -> None:
    commands = spawn("bsadvisor --help").out.split("Commands:")[1].strip().splitlines()
    assert [line.split()[0] for line in commands] == [
        "probe",
        "trial",
        "check",
        "scale",
        "track",
        "show",
        "explain",
        "schema",
        "init",
        "selftest",
    ]
    assert all("..." not in line for line in commands)


@pytest.mark.parametrize("command", ["nonsense", "show", "probe a.py b.py", "init a b"])
def test_what_cannot_be_understood_is_wrong_usage_in_two_lines(run: Run, command: str) -> None:
    finished = run(*command.split())
    assert (finished.code, finished.out) == (2, "")
    problem, remedy = finished.err.splitlines()
    assert problem.startswith("error: ")
    assert remedy.startswith("  try: bsadvisor ")
    assert remedy.endswith(" --help")


def test_without_a_command_the_help_is_shown_as_wrong_usage(run: Run) -> None:
    finished = run()
    assert (finished.code, finished.out) == (2, "")
    assert "Commands:" in finished.err


@pytest.mark.parametrize(
    "command", ["bsadvisor --help", "bsadvisor probe --help", "bsadvisor check --help", f"{TAB} bsadvisor"]
)
def test_the_program_starts_in_three_tenths_of_a_second(spawn: Run, command: str) -> None:
    assert starts_in(spawn, command, seconds=0.3, times_bare=4)


CHECK = "check report.json --batch-size 64 --lr 1.4e-3"


def test_a_saved_report_is_judged_in_half_a_second(spawn: Run, tmp_path: Path) -> None:
    """With everything that can be computed from it: curvature, a limit, steps to leave no saddle."""
    report = reports.to_json(no_saddle())
    (tmp_path / "report.json").write_text(report, encoding="utf-8")
    command = f"bsadvisor {CHECK} --rule escape_steps=100 --rule max_steps_over_minimum=9"
    assert starts_in(spawn, command, seconds=0.5, times_bare=8)


@pytest.mark.parametrize(
    "command", ["--help", "probe --help", "explain", "schema", "show report.json", SCALE, CHECK]
)
def test_what_needs_no_model_never_loads_the_heavy_packages(spawn: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "report.json").write_text(reports.to_json(contract_report()), encoding="utf-8")
    finished = spawn(f"{sys.executable} -X importtime {PROGRAM} {command}")
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in finished.err.splitlines()}
    assert finished.code == 0
    assert "bsadvisor" in loaded
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize("command", ["--help", "explain", "schema", "show report.json", CHECK])
def test_a_reader_that_closes_the_pipe_is_no_error(spawn: Run, tmp_path: Path, command: str) -> None:
    (tmp_path / "report.json").write_text(reports.to_json(contract_report()), encoding="utf-8")
    # The pipe is closed before anything is written: `sleep` holds the program back.
    finished = spawn(f"(sleep 0.2; bsadvisor {command}) | true")
    assert (finished.code, finished.err) == (0, "")


@pytest.mark.parametrize("command", ["explain", "--help", "--version", "probe --help", CHECK])
def test_a_full_disk_behind_stdout_is_an_output_that_cannot_be_written(
    spawn: Run, tmp_path: Path, command: str
) -> None:
    (tmp_path / "report.json").write_text(reports.to_json(contract_report()), encoding="utf-8")
    finished = spawn(f"bsadvisor {command} > /dev/full")
    assert finished.code == 4
    assert finished.err.startswith("error: stdout cannot be written: ")
    assert len(finished.err.splitlines()) == 2


def test_a_closed_stdout_is_an_output_that_cannot_be_written(spawn: Run) -> None:
    finished = spawn("bsadvisor explain >&-")
    assert finished.code == 4
    assert finished.err.startswith("error: stdout cannot be written: ")


def test_a_closed_stderr_is_no_error(spawn: Run, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(reports.to_json(contract_report()), encoding="utf-8")
    shown = spawn("bsadvisor show report.json")
    assert spawn("bsadvisor show report.json 2>&- <&-") == shown
    assert spawn("bsadvisor show missing.json 2>&-").code == 4


@pytest.mark.parametrize("command", ["show report.json", CHECK])
def test_stdout_by_its_name_in_dev_is_no_file_even_where_it_leads_to_one(
    spawn: Run, tmp_path: Path, command: str
) -> None:
    (tmp_path / "report.json").write_text(reports.to_json(contract_report()), encoding="utf-8")
    finished = spawn(f"bsadvisor {command} --output /dev/stdout > found.txt")
    assert finished.code == 4
    assert finished.err.startswith("error: /dev/stdout is not a file")
    assert (tmp_path / "found.txt").read_text() == ""
