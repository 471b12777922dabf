"""Runs the program in this process, with its seam to the pipeline open, or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bsadvisor.cli.app import main

PROGRAM = str(Path(sys.executable).with_name("bsadvisor"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a shell would see."""

    code: Any
    out: str
    err: str


Run = Callable[..., Finished]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command here; the program keeps stdout for itself, so it is given back afterwards."""

    def run(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["bsadvisor", *map(str, arguments)])
        stdout = os.dup(1)
        try:
            with pytest.raises(SystemExit) as left:
                main()
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)
        out, err = capfd.readouterr()
        return Finished(code=left.value.code, out=out, err=err)

    return run


@pytest.fixture
def spawn(tmp_path: Path) -> Run:
    """Run a command line of the installed program through the shell, in an empty folder."""

    def spawn(command: str) -> Finished:
        path = f"{Path(PROGRAM).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command}"],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        return Finished(code=done.returncode, out=done.stdout, err=done.stderr)

    return spawn
