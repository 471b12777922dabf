"""The report in a pull request."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from bsadvisor.report import content, render, scale_content
from bsadvisor.values import Report
from tests.report import curved, sample
from tests.report.samples import SAMPLES


def test_the_headline_is_the_title() -> None:
    text = render(sample.contract_report(), "markdown")
    assert text.startswith("### Try B = 128 η = 1.9e-3 (1.2e-3 … 3.0e-3, 80 %)\n\nnow: B = 32, η = 1.0e-3")


def test_every_row_of_the_table_has_as_many_cells() -> None:
    rows = re.findall(r"^\|.*\|$", render(sample.contract_report(), "markdown"), re.MULTILINE)
    assert len(rows) == 7
    assert {row.count("|") for row in rows} == {9}


def test_the_recommended_row_is_bold() -> None:
    bold = re.findall(r"^\| \*\*(\d+)\*\*", render(sample.contract_report(), "markdown"), re.MULTILINE)
    assert bold == ["128"]


def test_nothing_resolved_shows_no_table() -> None:
    assert "|" not in render(sample.nothing_resolved(), "markdown")


def test_markup_in_names_is_escaped() -> None:
    text = render(sample.hostile_names(), "markdown")
    assert r"модель\|\`x\`" in text
    assert "\x1b" not in text


def test_findings_carry_severity_message_and_remedy() -> None:
    text = render(sample.no_learning_rate(), "markdown")
    assert "- **warning** BSA104: no learning rate was found" in text
    assert "\n  set LEARNING\\_RATE in the file" in text
    assert "`bsadvisor explain BSA104`" in text


@pytest.mark.parametrize("build", SAMPLES.values(), ids=SAMPLES)
def test_it_holds_every_fact_that_the_terminal_shows(build: Callable[[], Report]) -> None:
    text, terminal = render(build(), "markdown"), render(build(), "text")
    plain, shown = (" ".join(page.replace("\\", "").split()) for page in (text, terminal))
    lines = [line for fact in content.facts(build()) for line in fact.lines]
    assert [line for line in lines if " ".join(line.split()) not in plain] == []
    assert [line for line in lines if "".join(line.split()) not in "".join(shown.split())] == []


def test_the_steps_to_escape_are_a_column() -> None:
    (header,) = re.findall(r"^\| batch .*$", render(curved.at_a_saddle(), "markdown"), re.MULTILINE)
    assert "| steps to escape |" in header


def test_every_rule_that_sets_a_learning_rate_has_a_row_with_every_batch_size() -> None:
    report = sample.named_rules()
    lines = render(report, "markdown").splitlines()
    (header,) = [line for line in lines if line.startswith("| rule |")]
    sizes = [f"B = {row.batch_size}" for row in report.recommendations]
    assert header == f"| rule | {' | '.join(sizes)} | holds | why |"
    names = re.findall(r"^\| `(\w+)` \|", "\n".join(lines), re.MULTILINE)
    rates = {rule.name for rule in report.scaling_rules if rule.learning_rates[-1].learning_rate is not None}
    assert set(names) == rates and {"linear", "square_root", "constant_update"} <= rates
    (linear,) = [line for line in lines if line.startswith("| `linear`")]
    assert linear.split(" | ")[1:6] == ["1.0e-3", "2.0e-3", "4.0e-3", "8.0e-3", "1.6e-2"]
    assert " | no | Adam divides" in linear


def test_rules_leave_the_terminals_page_as_it_is() -> None:
    assert render(sample.named_rules(), "text") == render(sample.contract_report(), "text")


@pytest.mark.parametrize(
    ("valid", "at", "word"),
    [
        (True, [True, True], "yes"),
        (False, [True, False], "no"),
        (None, [True, False], "in part"),
        (None, [None, None], "not known"),
    ],
)
def test_whether_a_rule_holds_is_said_in_a_word(valid: bool | None, at: list[bool | None], word: str) -> None:
    rule = sample.named_rules().scaling_rules[0]
    settings = tuple(replace(one, valid=holds) for one, holds in zip(rule.learning_rates, at, strict=False))
    assert scale_content.holds(replace(rule, valid=valid, learning_rates=settings)) == word
