"""A check in each of its formats: read back where a machine reads it, looked at where a person does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bsadvisor.report import CHECK_FORMATS, from_json, render, render_check, to_json
from bsadvisor.values import CheckedTarget, CheckSummary, Judgement, Report, RuleResult
from tests.report import checked
from tests.report.anything import REPORTS, of_type
from tests.report.junit_schema import offences
from tests.report.valid import validate
from tests.report.workflow_commands import parse

GOLDEN = Path(__file__).parent / "golden"

SUMMARIES: dict[str, Callable[[], CheckSummary]] = {"check_one": checked.one, "check_three": checked.three}

JUDGED: st.SearchStrategy[Report] = st.builds(
    lambda report, check, violations: replace(
        report, verdict="fail", check=check, violations=tuple(violations)
    ),
    REPORTS,
    of_type(Judgement),
    st.lists(of_type(RuleResult), max_size=3),
)
"""Any report with any judgement."""

NAMES = st.text(min_size=1, max_size=12)


def single(report: Report, name: str = "report.json") -> CheckSummary:
    return checked.summary_of(CheckedTarget(name=name, exit_code=3, report=report, error=None))


# --- for people ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SUMMARIES)
@pytest.mark.parametrize(("format", "ending"), [("text", "txt"), ("markdown", "md")])
def test_a_check_looks_as_it_did(name: str, format: str, ending: str) -> None:
    """To accept a change: write `render_check(...)` to the file and look at the difference."""
    golden = GOLDEN / f"{name}.{ending}"
    assert render_check(SUMMARIES[name](), format) == golden.read_text(encoding="utf-8")


def test_eighty_columns_suffice() -> None:
    lines = render_check(checked.three(), "text").splitlines()
    assert max(map(len, lines)) <= 80


def test_a_terminal_without_unicode_gets_ascii() -> None:
    assert render_check(checked.three(), "text", unicode=False).isascii()


def test_colour_is_for_terminals_only() -> None:
    assert "\x1b[" in render_check(checked.one(), "text", color=True)
    assert "\x1b[" not in render_check(checked.one(), "text")


def test_a_saved_check_is_shown_with_its_verdict() -> None:
    shown = render(checked.failing(), "text")
    assert "FAIL" in shown and "B = 760 or less would pass" in shown
    assert "fail" in render(checked.failing(), "markdown")


# --- for programs -------------------------------------------------------------------------------


def test_one_target_is_its_report_and_several_are_a_summary() -> None:
    assert from_json(render_check(checked.one(), "json")) == checked.failing()
    several = json.loads(render_check(checked.three(), "json"))
    assert [target["exit_code"] for target in several["targets"]] == [3, 0, 4]
    assert several["targets"][2]["report"] is None
    validate(several)
    assert yaml.safe_load(render_check(checked.three(), "yaml")) == several


@settings(max_examples=15, deadline=None)
@given(JUDGED, NAMES)
def test_any_check_is_valid_in_every_format(report: Report, name: str) -> None:
    assert from_json(to_json(report)) == report
    validate(json.loads(to_json(report)))
    for format in CHECK_FORMATS:
        assert render_check(single(report, name), format)
    assert offences(ElementTree.fromstring(render_check(single(report, name), "junit"))) == []
    assert parse(render_check(single(report, name), "github"))


def test_a_check_without_its_verdict_is_not_valid() -> None:
    data = json.loads(render_check(checked.three(), "json"))
    del data["verdict"]
    with pytest.raises(jsonschema.ValidationError):
        validate(data)


# --- annotations --------------------------------------------------------------------------------


def test_annotations_stand_at_the_line_that_sets_the_value() -> None:
    verdict, *violations = parse(render_check(checked.one(), "github"))
    assert verdict.name == "notice"
    assert "report.json: fail" in verdict.message and "not known: memory" in verdict.message
    by_title = {command.properties["title"]: command for command in violations}
    wasteful = by_title["BSA381: max_examples_over_minimum"]
    assert wasteful.name == "error"
    assert wasteful.properties["file"] == "conf/a,b:c.yaml"
    assert wasteful.properties["line"] == "3"
    assert wasteful.message == f"{checked.TOO_MANY.message}\n{checked.TOO_MANY.remedy}"


def test_a_violation_that_no_file_sets_is_annotated_without_a_line() -> None:
    commands = parse(render_check(checked.one(), "github"))
    (rate,) = [command for command in commands if "learning_rate" in command.properties["title"]]
    assert rate.name == "warning"
    assert "file" not in rate.properties
    assert "100 % <sure> &" in rate.message


def test_what_github_would_act_on_is_escaped() -> None:
    result = replace(checked.TOO_MANY, message="50 %, a: b\r::error::c", source=None)
    report = replace(checked.failing(), violations=(result,))
    line = render_check(single(report), "github").splitlines()[1]
    assert line.startswith("::error title=BSA381%3A max_examples_over_minimum::50 %25, a: b")
    assert "\r" not in line


def test_the_escapes_are_those_of_the_runner() -> None:
    commands = render_check(checked.one(), "github")
    assert "file=conf/a%2Cb%3Ac.yaml,line=3,title=" in commands
    assert "%0A" in commands


def test_a_stale_report_and_a_target_that_was_not_judged_are_annotated() -> None:
    commands = parse(render_check(checked.three(), "github"))
    assert any(c.name == "warning" and c.properties["title"] == "BSA391" for c in commands)
    (error,) = [c for c in commands if c.message.startswith("gone.json")]
    assert error.name == "error" and error.message.endswith("\ncheck the path")


# --- JUnit --------------------------------------------------------------------------------------


def test_the_junit_file_is_valid_and_counts_right() -> None:
    root = ElementTree.fromstring(render_check(checked.three(), "junit"))
    assert offences(root) == []
    counts = {name: root.get(name) for name in ("tests", "failures", "errors")}
    assert counts == {"tests": "6", "failures": "1", "errors": "1"}
    assert [suite.get("name") for suite in root] == ["report.json", "other.json", "gone.json"]


def test_a_violation_that_does_not_fail_the_check_fails_no_test() -> None:
    root = ElementTree.fromstring(render_check(checked.one(), "junit"))
    cases = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert cases == {
        "max_examples_over_minimum": ["failure"],
        "learning_rate": ["system-out"],
        "memory": ["skipped"],
        "max_drift": ["system-out"],
    }


def test_a_failure_says_what_was_measured_and_what_would_pass() -> None:
    root = ElementTree.fromstring(render_check(checked.one(), "junit"))
    (failure,) = root.iter("failure")
    assert failure.get("message") == checked.TOO_MANY.message
    assert failure.text == "B = 760 or less would pass"
    (case,) = [case for case in root.iter("testcase") if case.find("failure") is not None]
    assert (case.get("file"), case.get("line")) == ("conf/a,b:c.yaml", "3")


@pytest.mark.parametrize(
    "damage",
    [
        ("<skipped ", "<skiped "),
        ('classname="report.json" name="memory"', 'name="memory"'),
        ('failures="1"', 'failures="2"'),
        ("<testsuites", "<testsuites id='1'"),
    ],
)
def test_the_schema_of_junit_notices_what_is_wrong(damage: tuple[str, str]) -> None:
    text = render_check(checked.one(), "junit")
    assert damage[0] in text
    damaged = text.replace(*damage).replace("</skiped>", "</skipped>")
    assert ElementTree.fromstring(damaged) is not None
    if damage[0] == "<skipped ":
        with pytest.raises(KeyError):
            offences(ElementTree.fromstring(damaged))
    else:
        assert offences(ElementTree.fromstring(damaged)) != []
