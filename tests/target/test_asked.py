"""The rules and the pair that a check is asked about, and the lines that set them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bsadvisor.errors import UsageError
from bsadvisor.settings import RuleSeverity, TargetRequest
from bsadvisor.target.asked import read_asked
from bsadvisor.target.places import source_of
from bsadvisor.values import CheckRequest, Source
from tests.target.conftest import User

Yaml = Callable[[str], Path]


def asked(*rules: str, fail_on: RuleSeverity | None = None, beside: str = ".", **flags: Any) -> CheckRequest:
    return read_asked(TargetRequest(**flags), Path(beside), rules, fail_on)


def values(request: CheckRequest) -> dict[str, tuple[object, str]]:
    return {rule.name: (rule.value, rule.severity) for rule in request.rules}


def usage_error(rules: Sequence[str] = (), **flags: Any) -> str:
    with pytest.raises(UsageError) as caught:
        asked(*rules, **flags)
    return f"{caught.value.message}\n{caught.value.remedy}"


def test_without_settings_the_rules_are_those_of_the_contract(user: User) -> None:
    request = asked()
    assert values(request) == {
        "max_examples_over_minimum": (2.0, "error"),
        "learning_rate": ("range", "error"),
        "memory": (None, "error"),
        "max_drift": (2.0, "error"),
    }
    assert request.fail_on == "error"
    assert (request.pair.batch_size, request.pair.learning_rate) == (None, None)


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ("3", (3.0, "error")),
        ("1e1", (10.0, "error")),
        ("warning", (2.0, "warning")),
        ("{severity: note}", (2.0, "note")),
        ("{value: 4, severity: note}", (4.0, "note")),
        ("{value: 4}", (4.0, "error")),
        ("null", None),
        ("off", None),
        ("'off'", None),
        ("{value: 4, severity: off}", None),
        ("{value: null}", None),
    ],
)
def test_a_rule_is_written_as_value_as_severity_or_as_both(
    user: User, yaml: Yaml, written: str, rule: object
) -> None:
    by_flag = asked(f"max_examples_over_minimum={written}")
    yaml(f"check:\n  max_examples_over_minimum: {written}")
    for request in (by_flag, asked()):
        assert values(request).get("max_examples_over_minimum") == rule


@pytest.mark.parametrize("written", ["false", "null", "off"])
def test_the_memory_is_turned_off_by_any_word_for_it(user: User, yaml: Yaml, written: str) -> None:
    yaml(f"check: {{memory: {written}}}")
    assert "memory" not in values(asked())


def test_flags_win_over_the_yaml_rule_by_rule(user: User, yaml: Yaml) -> None:
    yaml("check: {max_drift: 5, learning_rate: limit, fail_on: warning}")
    request = asked("max_drift=7", fail_on="note")
    assert values(request)["max_drift"] == (7.0, "error")
    assert values(request)["learning_rate"] == ("limit", "error")
    assert request.fail_on == "note"
    assert asked().fail_on == "warning"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("check: {max_drit: 3}", "bsadvisor.yaml:1: unknown key `check.max_drit`\ndid you mean `max_drift`?"),
        (
            "check:\n  max_drift: {value: 3, severty: note}",
            "bsadvisor.yaml:2: unknown key `check.max_drift.severty`\ndid you mean `severity`?",
        ),
        ("check:\n  max_drift: many", "bsadvisor.yaml:2: `check.max_drift` should be a valid number"),
        ("check: {max_drift: -1}", "`check.max_drift` should be greater than 1"),
        ("check: {max_drift: .nan}", "`check.max_drift` should be a finite number"),
        ("check: {learning_rate: both}", "`check.learning_rate` should be 'range' or 'limit'"),
        (
            "check: {max_drift: {value: 2, severity: fatal}}",
            "`check.max_drift.severity` should be 'off', 'note', 'warning' or 'error'",
        ),
        (
            "check: {escape_steps: warning}",
            "`check` holds no value for `escape_steps`: write {value: 100, severity: warning}",
        ),
        ("check: {fail_on: always}", "`check.fail_on` should be 'note', 'warning' or 'error'"),
        ("check: 3", "`check` should be a section with keys, not 3"),
        ("check: {3: 4}", "bsadvisor.yaml:1: `check.3`"),
    ],
)
def test_a_wrong_rule_is_a_usage_error_with_its_line(user: User, yaml: Yaml, text: str, words: str) -> None:
    yaml(text)
    assert words in usage_error()


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("max_drit=3", "--rule: unknown key `check.max_drit`\ndid you mean `max_drift`?"),
        ("max_drift", "--rule max_drift: which value?\nwrite --rule NAME=VALUE"),
        ("fail_on=note", "--rule fail_on=note: which value?"),
        ("max_drift=[", "--rule max_drift: not a value"),
        ("max_drift=many", "--rule: `check.max_drift` should be a valid number"),
        ("max_drift=!!python/object/apply:os.getcwd []", "not a value"),
    ],
)
def test_a_wrong_flag_is_a_usage_error(user: User, rule: str, words: str) -> None:
    assert words in usage_error([rule])


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 0.0, -1.0, 1e300])
def test_a_learning_rate_that_is_none_is_refused(user: User, rate: float) -> None:
    assert "learning rate" in usage_error(learning_rate=rate)


def test_the_pair_is_that_of_the_flags_then_that_of_the_yaml_with_its_lines(user: User, yaml: Yaml) -> None:
    yaml("batch_size: 256\noptimizer:\n  name: adamw\n  lr: 3e-4")
    pair = asked().pair
    assert (pair.batch_size, pair.learning_rate) == (256, 3e-4)
    assert pair.batch_size_from == Source(by="bsadvisor.yaml", file="bsadvisor.yaml", line=1)
    assert pair.learning_rate_from == Source(by="bsadvisor.yaml", file="bsadvisor.yaml", line=4)
    pair = asked(batch_size=8, learning_rate=0.1).pair
    assert (pair.batch_size, pair.learning_rate) == (8, 0.1)
    assert (pair.batch_size_from, pair.learning_rate_from) == (Source(by="--batch-size"), Source(by="--lr"))


def test_the_yaml_beside_the_report_wins_over_the_one_here(user: User, yaml: Yaml) -> None:
    yaml("batch_size: 8")
    user.write("    batch_size: 9", "there/bsadvisor.yaml")
    assert asked(beside="there").pair.batch_size == 9
    assert asked(beside="elsewhere").pair.batch_size == 8
    assert asked(beside="there", config="bsadvisor.yaml").pair.batch_size == 8


def test_the_line_of_a_rule_is_kept(user: User, yaml: Yaml) -> None:
    yaml("check:\n  memory: true\n  max_drift: 3")
    sources = {rule.name: rule.source for rule in asked("learning_rate=limit").rules}
    assert sources["max_drift"] == Source(by="bsadvisor.yaml", file="bsadvisor.yaml", line=3)
    assert sources["learning_rate"] == Source(by="--rule")
    assert sources["max_examples_over_minimum"] is None


# --- lines of Python files ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("BATCH_SIZE = 8", 1),
        ("import os\n\nBATCH_SIZE: int = 8", 3),
        ("BATCH_SIZE, RATE = 8, 1", 1),
        ("BATCH_SIZE = 8\nBATCH_SIZE = 9", 2),
        ("from settings import BATCH_SIZE", None),
        ("def f():\n    BATCH_SIZE = 8", None),
        ("BATCH_SIZE = ", None),
        ("\x00", None),
    ],
)
def test_the_line_of_a_constant_is_found_without_running_the_file(
    user: User, text: str, line: int | None
) -> None:
    (user.folder / "model.py").write_text(text + "\n")
    source = source_of("BATCH_SIZE in model.py", "model.py:net")
    assert source is not None
    assert (source.file, source.line) == (("model.py", line) if line else (None, None))


@pytest.mark.parametrize("by", ["checkpoint", "optimizer in model.py", "BATCH_SIZE in other.py", "--lr"])
def test_what_is_no_constant_of_the_file_has_no_line(user: User, by: str) -> None:
    (user.folder / "model.py").write_text("BATCH_SIZE = 8\n")
    assert source_of(by, "model.py") == Source(by=by)
    assert source_of(None, "model.py") is None


def test_reading_the_rules_never_loads_torch() -> None:
    code = (
        "import bsadvisor.pipeline.checking, sys; assert not {'torch', 'numpy', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
