"""The report in a pull request."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from bsadvisor.report import content, render
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
