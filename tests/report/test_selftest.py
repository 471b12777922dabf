"""The table of known answers."""

from __future__ import annotations

from bsadvisor.report.selftest import selftest_table
from bsadvisor.values import Estimate, SelftestResult


def result(name: str, *, high: float | None = 300.0, passed: bool) -> SelftestResult:
    """B_simple of one problem."""
    estimate = Estimate(value=212.0, low=160.0, high=high, confidence=0.95)
    return SelftestResult(name=name, quantity="B_simple", truth=200.0, estimate=estimate, passed=passed)


def test_the_table_shows_truth_answer_and_interval_in_columns() -> None:
    table = selftest_table((result("quadratic", passed=True), result("heavy tails", high=None, passed=False)))
    assert table.splitlines() == [
        "problem      quantity  truth  answer",
        "quadratic    B_simple  200.0  212 [160, 300]         ok",
        "heavy tails  B_simple  200.0  \u2265 160, no upper bound  WRONG",
    ]


def test_without_results_only_the_headings_are_there() -> None:
    assert selftest_table(()).split() == ["problem", "quantity", "truth", "answer"]
