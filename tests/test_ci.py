"""What other people's CI takes from here: the action, the pre-commit hook, and the page about both."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bsadvisor import report as reports
from bsadvisor.target.yaml_file import read_yaml
from tests.report.sample import contract_report
from tests.report.workflow_commands import parse

ROOT = Path(__file__).parents[1]

PAGE = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))

PROGRAM = Path(sys.executable).with_name("bsadvisor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a step of the action left behind."""

    code: int
    out: str
    summary: str
    output: str


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout with a report and a pair in its settings that is beyond the advice."""
    for name in ("report.json", "other report.json"):
        (tmp_path / name).write_text(reports.to_json(contract_report()), encoding="utf-8")
    (tmp_path / "bsadvisor.yaml").write_text("batch_size: 4096\n", encoding="utf-8")
    return tmp_path


def step(name: str) -> Any:
    (found,) = [step for step in ACTION["runs"]["steps"] if step["name"] == name]
    return found


def run_step(name: str, folder: Path, path: Path | None = None, **inputs: str) -> Ran:
    """As the runner does it: its shell, its expressions, its files."""
    known = {key.replace("-", "_"): value.get("default", "") for key, value in ACTION["inputs"].items()}
    assert set(inputs) <= set(known)
    known.update(inputs)

    def expression(found: re.Match[str]) -> str:
        where, key = found[1].split(".", 1)
        return known[key.replace("-", "_")] if where == "inputs" else str(ROOT)

    environment = {
        key: re.sub(r"\$\{\{ *([\w.-]+) *\}\}", expression, value) for key, value in step(name)["env"].items()
    }
    files = {key: folder / key.lower() for key in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step(name)["run"]],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{path or PROGRAM.parent}{os.pathsep}{os.environ['PATH']}",
            "RUNNER_TEMP": str(folder),
            **{key: str(file) for key, file in files.items()},
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    read = [file.read_text() if file.exists() else "" for file in files.values()]
    return Ran(code=done.returncode, out=done.stdout, summary=read[0], output=read[1])


# --- the action ---------------------------------------------------------------------------------


def test_the_action_annotates_writes_a_summary_and_fails(folder: Path) -> None:
    ran = run_step("Check", folder, targets="report.json")
    assert ran.code == 3
    (error,) = [c for c in parse(ran.out) if "max_examples" in c.properties["title"]]
    assert (error.name, error.properties["file"], error.properties["line"]) == (
        "error",
        "bsadvisor.yaml",
        "1",
    )
    assert "### report.json: fail" in ran.summary
    assert ran.output == "exit-code=3\n"


def test_the_action_passes_its_inputs_on(folder: Path) -> None:
    (folder / "rules.yaml").write_text("check: {learning_rate: limit}", encoding="utf-8")
    ran = run_step(
        "Check",
        folder,
        targets="report.json\nother report.json\n",
        batch_size="64",
        lr="1e-3",
        config="rules.yaml",
        baseline="report.json",
        arguments="--fail-on warning --rule max_steps_over_minimum=9",
    )
    assert (ran.code, ran.output) == (0, "exit-code=0\n")
    assert "### other report.json: pass" in ran.summary
    assert all(rule in ran.summary for rule in ("drift", "steps", "2 targets: 2 pass"))


def test_an_input_is_data_and_never_code(folder: Path) -> None:
    ran = run_step("Check", folder, targets="$(touch owned).json\n`touch owned`", arguments="$(touch owned)")
    assert ran.code != 0
    assert not (folder / "owned").exists()
    assert "${{" not in "".join(each["run"] for each in ACTION["runs"]["steps"])


def test_the_action_tells_of_a_report_that_cannot_be_read(folder: Path) -> None:
    ran = run_step("Check", folder, targets="gone.json")
    (error,) = parse(ran.out)
    assert (error.name, error.message) == (
        "error",
        "gone.json cannot be read: No such file or directory\ncheck the path",
    )
    assert "### gone.json: not judged" in ran.summary
    assert (ran.code, ran.output) == (4, "exit-code=4\n")


def test_the_action_installs_itself_where_it_is_asked_to(folder: Path) -> None:
    fake = folder / "bin" / "python"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    ran = run_step("Install", folder, path=fake.parent)
    assert (ran.code, ran.out) == (0, f"-m pip install {ROOT}\n")
    assert step("Install")["if"] == "inputs.install == 'true'"


def test_the_action_is_whole() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert all(each["shell"] == "bash" for each in ACTION["runs"]["steps"])
    assert all(each["description"] for each in ACTION["inputs"].values())


# --- the hook -----------------------------------------------------------------------------------


def test_the_hook_judges_the_settings_by_the_saved_report(folder: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert {"id", "name", "entry", "language"} <= set(hook)
    command = [*shlex.split(hook["entry"]), *hook["args"]]
    environment = {**os.environ, "PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"}
    assert subprocess.run(command, cwd=folder, env=environment, capture_output=True).returncode == 3
    (folder / "bsadvisor.yaml").write_text("batch_size: 64\n", encoding="utf-8")
    assert subprocess.run(command, cwd=folder, env=environment, capture_output=True).returncode == 0
    assert hook["pass_filenames"] is False
    for name in ("bsadvisor.yaml", "conf/bsadvisor.yml", "runs/report.json"):
        assert re.search(hook["files"], name)
    assert not re.search(hook["files"], "model.py")


# --- the page -----------------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    """The code of one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def lines() -> list[str]:
    """Every call of the program, those in the GitLab job included."""
    jobs = [yaml.safe_load(block) for block in blocks("yaml")]
    parts = [part for job in jobs for part in job.values() if isinstance(part, dict)]
    scripts = [line for part in parts for line in part.get("script", ())]
    shell = [line for block in blocks("sh") for line in block.splitlines()]
    return [line for line in [*scripts, *shell] if "bsadvisor " in line and not line.startswith("pip ")]


@pytest.mark.parametrize("line", lines())
def test_every_command_of_the_page_runs(folder: Path, line: str) -> None:
    (folder / "bsadvisor.yaml").unlink()
    (folder / "runs").mkdir()
    for name in ("new.json", "runs/a.json", "runs/b.json"):
        (folder / name).write_text(reports.to_json(contract_report()), encoding="utf-8")
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 3, 5), done.stderr
    assert "error:" not in done.stderr


MODEL = """
import torch
from torch import nn
BATCH_SIZE, LEARNING_RATE = 32, 1e-3
model = nn.Linear(4, 1)
x = torch.randn(512, 4)
data = torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True) + torch.randn(512, 1))
"""


def test_the_rules_of_the_page_are_the_defaults(tmp_path: Path) -> None:
    (source,) = [block for block in blocks("yaml") if "check:" in block]
    (tmp_path / "bsadvisor.yaml").write_text(source, encoding="utf-8")
    (tmp_path / "empty.yaml").write_text("", encoding="utf-8")
    check = read_yaml(tmp_path / "bsadvisor.yaml").check
    assert check == read_yaml(tmp_path / "empty.yaml").check
    assert check.model_fields_set == set(type(check).model_fields)


def test_the_workflow_of_the_page_uses_inputs_that_exist() -> None:
    (workflow,) = [block for block in map(yaml.safe_load, blocks("yaml")) if "jobs" in block]
    (job,) = workflow["jobs"].values()
    (use,) = [each for each in job["steps"] if "bsadvisor" in each["uses"]]
    assert set(use["with"]) <= set(ACTION["inputs"])
    named = re.search(r"Its inputs are (.*?)\.\n", PAGE, flags=re.DOTALL)
    assert named is not None
    assert set(re.findall(r"`([\w-]+)`", named[1])) == set(ACTION["inputs"])


def test_the_hook_of_the_page_exists() -> None:
    (hooks,) = [block for block in map(yaml.safe_load, blocks("yaml")) if "repos" in block]
    (known,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hooks["repos"][0]["hooks"][0]["id"] == known["id"]


def test_the_verdict_can_be_read_by_jq(folder: Path) -> None:
    command = [str(PROGRAM), "check", "report.json", "--format", "json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["verdict"] == "fail"
