"""The README is executable: its commands exist, its examples run, and its test command is the gate."""

from __future__ import annotations

import difflib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAM = str(Path(sys.executable).with_name("bsadvisor"))


def blocks(language: str) -> list[str]:
    """The code of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    """Every call of the program on the page, in blocks and in sentences, without its redirection."""
    lines = [line for block in blocks("sh") for line in re.split(r"&&|\n|\|", block)]
    spoken = re.findall(r"`(bsadvisor [^`]+)`", README)
    calls = [line.partition(">")[0].strip() for line in [*lines, *spoken]]
    return sorted({call for call in calls if call.startswith("bsadvisor ")})


@pytest.mark.parametrize("command", commands())
def test_every_command_and_flag_on_the_page_exists(command: str) -> None:
    _, *words = shlex.split(command)
    name = [word for word in words[:1] if not word.startswith("-")]
    help_text = subprocess.run([PROGRAM, *name, "--help"], capture_output=True, text=True, check=True).stdout
    flags = [word for word in words if word.startswith("--")]
    assert [flag for flag in flags if not re.search(rf"{flag}\b", help_text)] == []


def test_every_command_of_the_program_is_on_the_page() -> None:
    help_text = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"^  (\w+)  ", help_text.split("Commands:")[1], flags=re.MULTILINE)
    assert [name for name in names if f"bsadvisor {name}" not in README] == []


def test_the_gate_is_the_test_command_of_the_page_and_nothing_else() -> None:
    (test_command,) = [block.strip() for block in blocks("sh") if "pytest" in block]
    last_line = (ROOT / ".ci" / "run").read_text(encoding="utf-8").strip().splitlines()[-1]
    assert last_line == test_command


def test_the_pytorch_that_is_installed_is_the_one_that_was_tested_with() -> None:
    pins = re.findall(r"torch==([\d.]+)", README + (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert len(pins) >= 2
    assert len(set(pins)) == 1


def test_the_model_on_the_page_is_measured(tmp_path: Path) -> None:
    (source,) = blocks("python")
    (tmp_path / "model.py").write_text(source, encoding="utf-8")
    command = [PROGRAM, "probe", "model.py", "--max-examples", "512", "--format", "json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"batch_size_from": "BATCH_SIZE in model.py"' in done.stdout


def test_the_demo_on_the_page_is_laid_out_as_it_is_today(tmp_path: Path) -> None:
    (shown,) = re.findall(r"<!-- demo -->\n```text\n(.*?)```\n<!-- /demo -->", README, flags=re.DOTALL)
    subprocess.run([PROGRAM, "init", "demo"], cwd=tmp_path, capture_output=True, check=True)
    command = [PROGRAM, "probe", "demo/model.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    alike = difflib.SequenceMatcher(None, words(done.stdout), words(shown), autojunk=False).ratio()
    assert alike > 0.9  # the runs of the trial may differ between machines


def words(report: str) -> list[str]:
    """Without the numbers, which another machine rounds otherwise, and the layout that follows from them."""
    return re.findall(r"[^\W\d_]{3,}", report)


def test_the_settings_on_the_page_are_understood(tmp_path: Path) -> None:
    from bsadvisor.target.yaml_file import read_yaml

    (source,) = blocks("yaml")
    (tmp_path / "bsadvisor.yaml").write_text(source, encoding="utf-8")
    assert read_yaml(tmp_path / "bsadvisor.yaml").batch_size == 256
