"""What findings mean."""

from __future__ import annotations

import re

import pytest

from bsadvisor.findings import CATALOGUE
from tests.cli.conftest import Run


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_finding_is_explained_with_what_it_says_and_what_to_do(run: Run, code: str) -> None:
    rule = CATALOGUE[code]
    finished = run("explain", code)
    assert finished.code == 0
    assert finished.out.startswith(f"{code} ({rule.severity}): {rule.title}\n")
    assert rule.explanation in " ".join(finished.out.split())
    assert not re.search(r"[{}]|<advice>", finished.out)


def test_a_code_is_found_in_any_case(run: Run) -> None:
    assert run("explain", "bsa203").out == run("explain", "BSA203").out


def test_tab_offers_the_codes_that_go_on_like_that(spawn: Run) -> None:
    asked = "COMP_WORDS='bsadvisor explain BSA30' COMP_CWORD=2 _BSADVISOR_COMPLETE=complete_bash"
    offered = spawn(f"{asked} bsadvisor").out.split()
    assert offered == [code for code in CATALOGUE if code.startswith("BSA30")]


def test_placeholders_are_named_in_words(run: Run) -> None:
    assert "measured in micro-batches of <micro batch>" in " ".join(run("explain", "BSA203").out.split())


def test_an_unknown_code_is_answered_with_the_nearest(run: Run) -> None:
    finished = run("explain", "BSA2030")
    assert finished.code == 2
    assert finished.err == "error: there is no finding BSA2030\n  try: bsadvisor explain BSA203\n"


def test_a_word_that_is_like_no_code_is_answered_with_the_list(run: Run) -> None:
    assert "lists them all" in run("explain", "xyz").err


def test_without_a_code_all_are_listed(run: Run) -> None:
    listed = [line.split()[0] for line in run("explain").out.splitlines()]
    assert listed == list(CATALOGUE)
