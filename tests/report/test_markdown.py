"""The report in a pull request."""

from __future__ import annotations

import re

from bsadvisor.report import render
from tests.report import sample


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
