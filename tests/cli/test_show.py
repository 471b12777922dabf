"""Saved reports, shown again."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from bsadvisor import report as reports
from tests.cli.conftest import Run
from tests.report.sample import contract_report


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A report on disk."""
    path = tmp_path / "report.json"
    path.write_text(reports.to_json(contract_report()), encoding="utf-8")
    return path


@pytest.mark.parametrize("format", reports.FORMATS)
def test_a_saved_report_is_shown_in_any_format(run: Run, saved: Path, format: str) -> None:
    finished = run("show", saved, "--format", format)
    assert (finished.code, finished.err) == (0, "")
    assert finished.out == reports.render(contract_report(), format)


def test_a_dash_reads_the_report_from_stdin(run: Run, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(saved.read_text("utf-8")))
    assert run("show", "-").out == reports.render(contract_report(), "text")


def test_a_report_is_written_to_a_file_in_the_format_of_its_ending(
    run: Run, saved: Path, tmp_path: Path
) -> None:
    assert run("show", saved, "--output", tmp_path / "report.md").out == ""
    assert (tmp_path / "report.md").read_text("utf-8") == reports.render(contract_report(), "markdown")


def test_a_file_that_is_no_report_is_not_replaced_by_one(run: Run, saved: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert run("show", saved, "--output", tmp_path / "notes.txt").code == 4
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", [b"{}", b"[1, 2", b"\xff\xfe", b""])
def test_a_file_that_is_no_report_is_refused_in_two_lines(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.json").write_bytes(content)
    finished = run("show", tmp_path / "other.json")
    assert finished.code == 4
    assert finished.err.startswith(f"error: {tmp_path / 'other.json'} ")
    assert len(finished.err.splitlines()) == 2


def test_a_file_that_is_not_there_is_refused_in_two_lines(run: Run, tmp_path: Path) -> None:
    finished = run("show", tmp_path / "absent.json")
    assert finished.code == 4
    assert "No such file" in finished.err
    assert len(finished.err.splitlines()) == 2
