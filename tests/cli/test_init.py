"""The example, written."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from bsadvisor.cli.init import FILES
from tests.cli.conftest import Run


def test_the_whole_example_is_written(run: Run, tmp_path: Path) -> None:
    finished = run("init", tmp_path / "new" / "demo")
    example = resources.files("bsadvisor.examples") / "digits"
    shipped = {file.name: file.read_bytes() for file in example.iterdir() if file.is_file()}
    written = {file.name: file.read_bytes() for file in (tmp_path / "new" / "demo").iterdir()}
    assert finished.code == 0
    assert written == shipped


def test_what_to_type_next_is_said(run: Run, tmp_path: Path) -> None:
    next_line = run("init", tmp_path / "my demo").out.splitlines()[-1]
    assert next_line == f"next: bsadvisor probe '{tmp_path / 'my demo'}/model.py'"


def test_the_folder_is_called_demo_by_default(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("init")
    assert {file.name for file in (tmp_path / "demo").iterdir()} == set(FILES)


def test_existing_files_are_named_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("mine")
    finished = run("init", tmp_path)
    assert finished.code == 4
    assert finished.err.startswith(f"error: {tmp_path} already holds model.py\n")
    assert [file.name for file in tmp_path.iterdir()] == ["model.py"]
    assert (tmp_path / "model.py").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_refused_in_two_lines(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finished = run("init", tmp_path / "file" / "demo")
    assert finished.code == 4
    assert len(finished.err.splitlines()) == 2
