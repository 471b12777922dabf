"""`check` as a shell sees it: targets that are probed first, stdin, several at once, files beside stdout."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bsadvisor import report as reports
from bsadvisor.pipeline import StopSignal, checking
from bsadvisor.values import Report
from tests.cli.conftest import Run
from tests.report.junit_schema import offences
from tests.report.sample import contract_report, nothing_resolved
from tests.report.valid import validate
from tests.report.workflow_commands import parse

MODEL = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(2048, 6)
y = (x[:, 0] + torch.randn(2048) > 0).long()
data = torch.utils.data.TensorDataset(x, y)
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
BATCH_SIZE = 32
LEARNING_RATE = 0.1
"""

SAVE = """
import torch
from torch import nn
torch.manual_seed(1)
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr={rate})
torch.save({{"model": model.state_dict(), "optimizer": optimizer.state_dict()}}, "last.pt")
"""

QUICK = ("--max-examples", "1024", "--no-curvature", "--quiet")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a model, and a checkpoint of it that was trained with another learning rate."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    exec(SAVE.format(rate=0.05), {})
    return tmp_path


def save(report: Report, name: str) -> None:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(reports.to_json(report), encoding="utf-8")


def check(run: Run, *words: object) -> Any:
    """The JSON of a check of a target, and its exit code."""
    finished = run("check", *words, *QUICK, "--format", "json")
    return finished.code, json.loads(finished.out)


def broken(data: Any) -> set[str]:
    return {violation["rule"] for violation in data["violations"]}


def unknown(data: Any) -> set[str]:
    return {result["rule"] for result in data["check"]["unknown"]}


# --- a target is probed, and judged from what no flag and no YAML said ---------------------------


def test_flags_set_the_pair_judged_and_the_checkpoint_the_anchor(run: Run, folder: Path) -> None:
    code, data = check(run, "model.py", "--checkpoint", "last.pt", "--batch-size", "64", "--lr", "50")
    assert (code, data["verdict"], broken(data)) == (3, "fail", {"learning_rate"})
    assert (data["target"]["batch_size"], data["target"]["learning_rate"]) == (32, 0.05)
    assert data["check"]["anchor"]["learning_rate_from"]["by"] == "checkpoint"
    assert data["check"]["pair"]["learning_rate"] == 50.0
    validate(data)


def test_the_same_pair_as_the_checkpoint_is_fine(run: Run, folder: Path) -> None:
    code, data = check(run, "model.py", "--checkpoint", "last.pt", "--lr", "0.05")
    assert (code, data["verdict"], broken(data)) == (0, "pass", set())


def test_without_a_checkpoint_the_constants_are_the_anchor(run: Run, folder: Path) -> None:
    code, data = check(run, "model.py", "--lr", "90")
    assert (code, broken(data)) == (3, {"learning_rate"})
    anchor = data["check"]["anchor"]
    assert anchor["learning_rate"] == 0.1
    assert anchor["learning_rate_from"] == {
        "by": "LEARNING_RATE in model.py",
        "file": "model.py",
        "line": 10,
    }


def test_constants_alone_are_no_anchor_for_themselves(run: Run, folder: Path) -> None:
    code, data = check(run, "model.py", "--checkpoint", "last.pt")
    assert code == 0
    assert "learning_rate" in unknown(data)
    assert data["check"]["pair"]["learning_rate"] == 0.1
    assert data["check"]["anchor"] is None


def test_a_baseline_is_an_anchor_for_changed_constants(run: Run, folder: Path) -> None:
    run("check", "model.py", "--checkpoint", "last.pt", *QUICK, "--output", "old.json")
    assert reports.from_json(Path("old.json").read_text()).check is not None
    Path("model.py").write_text(MODEL.replace("RATE = 0.1", "RATE = 90"))
    again = json.loads(run("check", "old.json", "--format", "json").out)
    assert not {found["code"] for found in again["findings"]} & {"BSA391", "BSA393"}
    code, data = check(run, "model.py", "--checkpoint", "last.pt", "--baseline", "old.json")
    assert (code, broken(data)) == (3, {"learning_rate"})
    (violation,) = data["violations"]
    assert violation["source"] == {"by": "LEARNING_RATE in model.py", "file": "model.py", "line": 10}


def test_the_yaml_is_judged_and_never_the_anchor(run: Run, folder: Path) -> None:
    Path("bsadvisor.yaml").write_text("batch_size: 64\noptimizer:\n  name: sgd\n  lr: 700.0\n")
    finished = run("check", "model.py", "--checkpoint", "last.pt", *QUICK, "--format", "github")
    assert finished.code == 3
    (violation,) = [command for command in parse(finished.out) if command.name == "error"]
    assert (violation.properties["file"], violation.properties["line"]) == ("bsadvisor.yaml", "4")


def test_a_yaml_alone_leaves_the_learning_rate_unknown(run: Run, folder: Path) -> None:
    bare = MODEL.replace("BATCH_SIZE = 32\nLEARNING_RATE = 0.1\n", "")
    Path("model.py").write_text(bare)
    Path("bsadvisor.yaml").write_text("batch_size: 64\noptimizer: {name: sgd, lr: 700.0}\n")
    code, data = check(run, "model.py", "--checkpoint", "last.pt")
    assert code == 0
    assert "learning_rate" in unknown(data)
    assert not {"BSA104", "BSA108"} & {found["code"] for found in data["findings"]}


def test_what_the_users_code_prints_is_not_in_the_result(spawn: Run, folder: Path) -> None:
    Path("model.py").write_text(f"print('my own words'){MODEL}")
    finished = spawn(f"bsadvisor check model.py {' '.join(QUICK)}")
    assert finished.out.startswith("bsadvisor ")
    assert "my own words" in finished.err


def test_a_target_that_fails_is_told_in_two_lines(run: Run, folder: Path) -> None:
    Path("model.py").write_text("raise ValueError('no')")
    finished = run("check", "model.py", *QUICK)
    assert (finished.code, finished.out) == (4, "")
    assert finished.err.startswith("error: ")
    assert len(finished.err.splitlines()) == 2


def test_the_rules_are_read_before_anything_is_measured(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "probe_target", None)
    assert run("check", "model.py", "--rule", "max_drit=3").code == 2


# --- stdin --------------------------------------------------------------------------------------


def test_a_dash_is_a_report_on_stdin(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(reports.to_json(contract_report())))
    finished = run("check", "-", "--batch-size", "4096", "--format", "junit")
    assert finished.code == 3
    (suite,) = ElementTree.fromstring(finished.out)
    assert suite.get("name") == "demo/model.py"


def test_a_probe_is_judged_through_a_pipe(spawn: Run, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    finished = spawn(
        f"bsadvisor probe model.py {' '.join(QUICK)} --format json | jq . | "
        "bsadvisor check - --batch-size 32 --lr 500 --format json | jq -r .verdict,.violations[].rule"
    )
    assert (finished.code, finished.out) == (3, "fail\nlearning_rate\n")


def test_stdin_is_read_once(run: Run, folder: Path) -> None:
    finished = run("check", "-", "--baseline", "-")
    assert (finished.code, finished.out) == (2, "")


# --- several targets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "code", "verdict"),
    [
        ("good.json fine.json", 0, "pass"),
        ("good.json open.json", 5, "unknown"),
        ("open.json bad.json", 3, "fail"),
        ("bad.json gone.json", 4, "fail"),
        ("gone.json good.json", 4, "unknown"),
        ("wrong/report.json gone.json bad.json", 2, "fail"),
    ],
)
def test_the_exit_code_is_the_worst_of_several(
    run: Run, folder: Path, names: str, code: int, verdict: str
) -> None:
    save(contract_report(), "good.json")
    save(contract_report(), "fine.json")
    save(nothing_resolved(), "open.json")
    save(contract_report(), "wrong/report.json")
    Path("wrong/bsadvisor.yaml").write_text("check: {max_drit: 1}")
    critical = contract_report().predicted_critical_batch_size
    small = replace(critical, value=2.0, low=1.0, high=3.0, band_low=1.0, band_high=4.0)
    save(replace(contract_report(), predicted_critical_batch_size=small), "bad.json")
    finished = run("check", *names.split(), "--format", "json")
    data = json.loads(finished.out)
    validate(data)
    assert (finished.code, data["exit_code"], data["verdict"]) == (code, code, verdict)
    assert [target["name"] for target in data["targets"]] == names.split()
    errors = [line for line in finished.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == sum(target["report"] is None for target in data["targets"])


def test_several_targets_have_one_summary(run: Run, folder: Path) -> None:
    save(contract_report(), "a.json")
    finished = run("check", "a.json", "model.py", "gone.json", "--batch-size", "32", *QUICK)
    assert finished.code == 4
    assert finished.out.splitlines()[-1] == "3 targets: 2 pass, 1 not judged"


@pytest.mark.parametrize("again", ["a.json", "./a.json", "b/../a.json"])
def test_two_targets_of_the_same_name_are_wrong_usage(run: Run, folder: Path, again: str) -> None:
    save(contract_report(), "a.json")
    save(contract_report(), "b/a.json")
    assert run("check", "a.json", "b/a.json").code == 0
    finished = run("check", "a.json", again)
    assert (finished.code, finished.out) == (2, "")
    assert finished.err == f"error: {again} is given twice\n  try: give every target once\n"


# --- what is written ----------------------------------------------------------------------------


def test_the_result_is_written_in_the_format_of_each_ending(run: Run, folder: Path) -> None:
    save(contract_report(), "a.json")
    words = ("--output", "out.xml", "--also", "out.md", "--also", "out.json", "--also", "out.yaml")
    finished = run("check", "a.json", "--batch-size", "4096", *words)
    assert (finished.code, finished.out) == (3, "")
    assert offences(ElementTree.parse("out.xml").getroot()) == []
    assert Path("out.md").read_text().startswith("bsadvisor 0.1.0 check\n\n### a.json: fail")
    assert reports.from_json(Path("out.json").read_text()).verdict == "fail"
    assert run("check", "a.json", "--batch-size", "4096", *words).code == 3  # it replaces its own


@pytest.mark.parametrize("flag", ["--output", "--also"])
def test_a_file_that_is_no_report_is_not_replaced(run: Run, folder: Path, flag: str) -> None:
    save(contract_report(), "a.json")
    finished = run("check", "a.json", flag, "model.py")
    assert (finished.code, Path("model.py").read_text()) == (4, MODEL)


def test_a_check_is_shown_again_with_its_verdict(run: Run, folder: Path) -> None:
    save(contract_report(), "a.json")
    run("check", "a.json", "--batch-size", "4096", "--output", "checked.json")
    assert "FAIL  B = 4,096 (--batch-size)" in run("show", "checked.json").out


# --- wrong usage --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("a.json --lr nan", "--lr nan is not a learning rate"),
        ("a.json --lr inf", "--lr inf is not a learning rate"),
        ("a.json --lr -1", "--lr -1.0 is not a learning rate"),
        ("a.json --lr 1e300", "the learning rate 1e+300, from --lr, is beyond all reason"),
        ("a.json --batch-size 0", "--batch-size 0 is below 1"),
        ("a.json --batch-size 1.5", "--batch-size"),
        ("a.json --rule max_examples_over_minium=2", "unknown key `check.max_examples_over_minium`"),
        ("a.json --fail-on never", "never"),
        ("a.json --checkpoint last.pt", "--checkpoint means nothing for a saved report"),
        ("a.json --micro-batch 4", "--micro-batch means nothing for a saved report"),
        ("a.json --no-curvature", "--no-curvature means nothing for a saved report"),
        (f"a.json --batch-size 1{'0' * 400}", "--batch-size is beyond all reason"),
        ("a.json --rule memory=off --rule memory=true", "--rule memory is given twice"),
        ("a.json --rule max_drift=3", "--rule max_drift: nothing to compare with"),
        ("a.json --rule max_examples_over_minimum=2024-99-99", "not a value"),
        (f"a.json --rule max_examples_over_minimum=1{'0' * 5000}", "not a value"),
        (f"a.json --rule escape_steps={'[' * 5000}", "not a value"),
        ("a.json --config gone.yaml", "gone.yaml cannot be read"),
        ("model.py --time-budget nan", "--time-budget nan is not above 0"),
        (
            "a.json --rule memory=off --rule learning_rate=off --rule max_examples_over_minimum=off",
            "every rule is off: there is nothing to check",
        ),
    ],
)
def test_wrong_usage_is_told_in_two_lines(run: Run, folder: Path, words: str, problem: str) -> None:
    save(contract_report(), "a.json")
    finished = run("check", *words.split())
    assert (finished.code, finished.out) == (2, "")
    told, remedy = finished.err.splitlines()
    assert told.startswith("error: ") and problem in told
    assert remedy.startswith("  try: ")


def test_a_baseline_that_cannot_be_read_is_told(run: Run, folder: Path) -> None:
    save(contract_report(), "a.json")
    assert run("check", "a.json", "--baseline", "gone.json").code == 4


# --- interrupted --------------------------------------------------------------------------------


def test_an_interrupt_ends_the_check_with_what_was_judged_by_then(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(contract_report(), "a.json")
    judged = reports.from_json(run("check", "a.json", "--batch-size", "64", "--format", "json").out)

    def interrupted(*arguments: Any, stop: StopSignal, **rest: Any) -> Report:
        stop.request("interrupt")
        return judged

    monkeypatch.setattr("bsadvisor.cli.checking.check_target", interrupted)
    finished = run("check", "model.py", "a.json", "--format", "json")
    assert finished.code == 130
    assert reports.from_json(finished.out) == judged


# --- what a newcomer tried -----------------------------------------------------------------------


def test_a_probe_is_judged_through_a_process_substitution(run: Run, spawn: Run, tmp_path: Path) -> None:
    (tmp_path / "saved").write_text(reports.to_json(contract_report()), encoding="utf-8")
    finished = spawn("bsadvisor check <(cat saved) --batch-size 4096 --format json")
    assert (finished.code, json.loads(finished.out)["verdict"]) == (3, "fail")
    assert "demo/model.py" in spawn("cat saved | bsadvisor check /dev/stdin").out


@pytest.mark.parametrize(
    "written",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
    ],
    ids=["a byte order mark", "UTF-16", "CRLF"],
)
def test_a_report_is_read_as_a_windows_shell_saved_it(
    run: Run, folder: Path, written: Callable[[str], bytes]
) -> None:
    Path("a.json").write_bytes(written(reports.to_json(contract_report())))
    assert run("check", "a.json", "--batch-size", "32").code == 0


def test_a_report_through_a_pipe_may_begin_with_a_byte_order_mark(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\ufeff" + reports.to_json(contract_report())))
    assert run("check", "-", "--batch-size", "32").code == 0


@pytest.mark.parametrize(
    ("damaged", "problem"),
    [
        (
            lambda text: text.replace('"batch_size": 32', f'"batch_size": 1{"0" * 5000}', 1),
            "finite numbers only, not 100000000000000000000000000000…",
        ),
        (
            lambda text: text.replace('"batch_size": 32', f'"batch_size": 1{"0" * 400}', 1),
            "finite numbers only",
        ),
        (lambda text: "[" * 100_000, "nested too deeply"),
        (lambda text: f'{{"schema_version": 1, "a": {"[" * 3000}{"]" * 3000}}}', "nested too deeply"),
        (
            lambda text: text.replace('"batch_size": 32', '"batch_size": 32, "batch_size": 64', 1),
            '"batch_size" is given twice',
        ),
        (lambda text: text.replace("demo/model.py", "\\ud800", 1), "as a report: the text: invalid JSON"),
    ],
    ids=["5,000 digits", "400 digits", "brackets", "brackets inside", "a key twice", "half a character"],
)
def test_a_report_that_no_one_wrote_is_refused(
    run: Run, folder: Path, damaged: Callable[[str], str], problem: str
) -> None:
    Path("a.json").write_text(damaged(reports.to_json(contract_report())))
    finished = run("check", "a.json")
    assert (finished.code, finished.out) == (4, "")
    told, remedy = finished.err.splitlines()
    assert problem in told and len(told) < 200
    assert remedy.startswith("  try: ")


def test_a_link_that_goes_round_is_no_bug_of_ours(run: Run, folder: Path) -> None:
    Path("round.json").symlink_to("round.json")
    finished = run("check", "round.json")
    assert (finished.code, len(finished.err.splitlines())) == (4, 2)
    save(contract_report(), "a.json")
    Path("out.json").symlink_to("out.json")
    assert run("check", "a.json", "--batch-size", "32", "--output", "out.json").code in (0, 4)


@pytest.mark.parametrize("name", ["saved", "bsadvisor.yaml"])
def test_a_file_that_is_neither_model_nor_report_is_told_what_there_is(
    run: Run, folder: Path, name: str
) -> None:
    Path(name).write_text("batch_size: 3\n")
    finished = run("check", name)
    assert (finished.code, finished.out) == (4, "")
    assert "settings are --config FILE.yaml, and a saved report is a FILE.json" in finished.err


@pytest.mark.parametrize("again", ["out.json", "./out.json"])
def test_two_results_in_one_file_are_wrong_usage(run: Run, folder: Path, again: str) -> None:
    save(contract_report(), "a.json")
    finished = run("check", "a.json", "--output", "out.json", "--also", again)
    assert (finished.code, Path("out.json").exists()) == (2, False)
    assert finished.err == "error: out.json is given twice\n  try: give every file once\n"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("batch_size: 2024-99-99\n", "bsadvisor.yaml: not YAML"),
        ("batch_size: 0b_\n", "bsadvisor.yaml: not YAML"),
        (f"batch_size: 1{'0' * 5000}\n", "bsadvisor.yaml: not YAML"),
        (f"batch_size: 1{'0' * 400}\n", "should be less than or equal to 1000000000000"),
        ("check: {max_examples_over_minimum: 1}\n", "should be greater than 1, not 1"),
        ("check: {max_steps_over_minimum: 0.5}\n", "should be greater than 1, not 0.5"),
        ("check: {max_drift: 1}\n", "should be greater than 1, not 1"),
    ],
)
def test_settings_that_are_none_are_told_in_two_lines(
    run: Run, folder: Path, settings: str, problem: str
) -> None:
    save(contract_report(), "a.json")
    Path("bsadvisor.yaml").write_text(settings)
    finished = run("check", "a.json")
    assert (finished.code, finished.out) == (2, "")
    told, _ = finished.err.splitlines()
    assert problem in told and len(told) < 200


def test_a_section_whose_lines_are_all_commented_out_is_the_default(run: Run, folder: Path) -> None:
    save(contract_report(), "a.json")
    Path("bsadvisor.yaml").write_text("check:\n  # memory: off\n")
    assert run("check", "a.json", "--batch-size", "32").code == 0


@pytest.mark.parametrize("charset", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("format", ["junit", "github", "markdown"])
def test_what_machines_read_is_whole_on_a_stream_that_is_not_utf_8(
    spawn: Run, tmp_path: Path, charset: str, format: str
) -> None:
    (tmp_path / "é.json").write_text(reports.to_json(contract_report()), encoding="utf-8")
    command = f"PYTHONIOENCODING={charset} bsadvisor check é.json --batch-size 64 --lr 1 --format {format}"
    finished = spawn(f"{command} | iconv -f latin1 -t utf-8")
    assert finished.code == 3
    assert "\\u" not in finished.out
    if format == "junit":
        (suite,) = ElementTree.fromstring(spawn(command).out)
        assert suite.get("name") == "é.json"
    else:
        assert "lr = 1" in finished.out


@pytest.mark.parametrize("words", ["--format github", "--format junit", "--output out.xml", "--also out.xml"])
def test_a_job_is_told_of_the_only_target_that_cannot_be_judged(run: Run, folder: Path, words: str) -> None:
    finished = run("check", "gone.json", *words.split(), "--also", "out.md")
    assert finished.code == 4
    assert len(finished.err.splitlines()) == 2
    told = finished.out if "format" in words else Path("out.xml").read_text()
    assert "gone.json cannot be read" in told
    assert Path("out.md").read_text().startswith("bsadvisor 0.1.0 check\n\n### gone.json: not judged")


def test_a_report_is_no_baseline_of_itself(run: Run, folder: Path) -> None:
    save(contract_report(), "a.json")
    finished = run("check", "a.json", "--baseline", "./a.json")
    assert (finished.code, finished.out) == (2, "")
    assert (
        finished.err == "error: ./a.json is given twice\n  try: a baseline is another report, made before\n"
    )
