"""Completions as the program prints them, tried in the shells they are for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

FOLDER = Path(__file__).parents[1] / "completions"

ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "TERM": "dumb",
}

SHELLS = {
    "bash": ("bash --norc --noprofile", f". {FOLDER}/bsadvisor.bash"),
    "zsh": ("zsh -f", f"autoload -Uz compinit; compinit -u -D; . {FOLDER}/bsadvisor.zsh"),
    "fish": ("fish --no-config", f"source {FOLDER}/bsadvisor.fish"),
}


def test_the_files_are_what_the_program_prints(tmp_path: Path) -> None:
    subprocess.run([FOLDER / "generate", tmp_path], env=ENVIRONMENT, check=True)
    fresh = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert fresh == {file.name: file.read_text() for file in FOLDER.glob("bsadvisor.*")}
    assert len(fresh) == len(SHELLS)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("bsadvisor pro", "bsadvisor probe "),
        ("bsadvisor probe --form", "bsadvisor probe --format "),
        ("bsadvisor probe --format js", "bsadvisor probe --format json "),
        ("bsadvisor probe mymod", "bsadvisor probe mymodel.py "),
    ],
)
def test_a_tab_completes_in_the_real_shell(shell: str, typed: str, completed: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "mymodel.py").touch()
    command, source = SHELLS[shell]
    terminal = pexpect.spawn(
        command, env={**ENVIRONMENT, "HOME": str(tmp_path)}, cwd=str(tmp_path), encoding="utf-8", timeout=20
    )
    try:
        terminal.sendline(f"{source}; echo rea''dy")  # the quotes keep the echo of the line from matching
        terminal.expect_exact("ready\r\n")
        terminal.send(f"{typed}\t")
        terminal.expect_exact(completed)
    finally:
        terminal.close(force=True)
