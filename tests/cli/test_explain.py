"""What findings mean."""

from __future__ import annotations

import re

import pytest

from bsadvisor.findings import CATALOGUE
from bsadvisor.scaling_rules import SCALING_RULES
from tests.cli.conftest import Run


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_finding_is_explained_with_what_it_says_and_what_to_do(run: Run, code: str) -> None:
    rule = CATALOGUE[code]
    finished = run("explain", code)
    assert finished.code == 0
    assert finished.out.startswith(f"{code} ({rule.severity}): {rule.title}\n")
    assert rule.explanation in " ".join(finished.out.split())
    assert not re.search(r"[{}]|<advice>", finished.out)


@pytest.mark.parametrize("name", SCALING_RULES)
def test_every_scaling_rule_is_told_with_its_formula_its_reach_and_its_source(run: Run, name: str) -> None:
    rule = SCALING_RULES[name]
    finished = run("explain", name)
    told = " ".join(finished.out.split())
    assert finished.code == 0
    assert told.startswith(f"{name}: {rule.title} {' '.join(rule.formula.split())}")
    assert rule.explanation in told and told.endswith(f"Source: {rule.source}")
    assert "Where it holds: SGD: " in told
    assert max(map(len, finished.out.splitlines())) <= 80


def test_where_the_linear_rule_holds_is_told_by_optimizer(run: Run) -> None:
    told = " ".join(run("explain", "linear").out.split())
    assert "SGD: up to a quarter of the noise scale; Adam and its like: never." in told


@pytest.mark.parametrize("written", ["SQUARE_ROOT", "square-root"])
def test_a_rule_is_found_in_any_case_and_with_hyphens(run: Run, written: str) -> None:
    assert run("explain", written).out == run("explain", "square_root").out


def test_a_rule_that_is_not_there_is_answered_with_the_nearest(run: Run) -> None:
    problem, remedy = run("explain", "lineal").err.splitlines()
    assert (problem, remedy) == (
        "error: there is no finding or scaling rule lineal",
        "  try: bsadvisor explain linear",
    )


def test_a_code_is_found_in_any_case(run: Run) -> None:
    assert run("explain", "bsa203").out == run("explain", "BSA203").out


def test_tab_offers_the_codes_that_go_on_like_that(spawn: Run) -> None:
    asked = "COMP_WORDS='bsadvisor explain BSA30' COMP_CWORD=2 _BSADVISOR_COMPLETE=complete_bash"
    offered = spawn(f"{asked} bsadvisor").out.split()
    assert offered == [code for code in CATALOGUE if code.startswith("BSA30")]


def test_tab_offers_the_scaling_rules_too(spawn: Run) -> None:
    asked = "COMP_WORDS='bsadvisor explain s' COMP_CWORD=2 _BSADVISOR_COMPLETE=complete_bash"
    assert spawn(f"{asked} bsadvisor").out.split() == ["saturating_power", "square_root", "surge"]


def test_placeholders_are_named_in_words(run: Run) -> None:
    assert "measured in micro-batches of <micro batch>" in " ".join(run("explain", "BSA203").out.split())


def test_an_unknown_code_is_answered_with_the_nearest(run: Run) -> None:
    finished = run("explain", "BSA203x")
    assert finished.code == 2
    assert (
        finished.err
        == "error: there is no finding or scaling rule BSA203x\n  try: bsadvisor explain BSA203\n"
    )


def test_a_word_that_is_like_no_code_is_answered_with_the_list(run: Run) -> None:
    assert "lists them all" in run("explain", "xyz").err


def test_without_a_code_all_are_listed(run: Run) -> None:
    listed = [line.split()[0] for line in run("explain").out.splitlines()]
    assert listed == [*CATALOGUE, *SCALING_RULES]
