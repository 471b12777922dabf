"""Known answers, printed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bsadvisor import pipeline
from bsadvisor.report.selftest import selftest_table
from bsadvisor.values import Estimate, SelftestResult
from tests.cli.conftest import Run


def result(*, passed: bool) -> SelftestResult:
    """B_simple of one problem."""
    estimate = Estimate(value=212.0, low=160.0, high=300.0, confidence=0.95)
    return SelftestResult(
        name="quadratic", quantity="B_simple", truth=200.0, estimate=estimate, passed=passed
    )


def answer_with(monkeypatch: pytest.MonkeyPatch, *results: SelftestResult) -> None:
    """Replace the measuring by its results."""

    def measure(device: str | None, seed: int, progress: Callable[[str], None]) -> tuple[SelftestResult, ...]:
        progress(f"measuring on {device} with seed {seed}")
        return results

    monkeypatch.setattr(pipeline, "selftest", measure)


def test_the_table_is_printed_and_progress_is_not_in_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, result(passed=True))
    finished = run("selftest", "--device", "cpu", "--seed", 3)
    assert finished.code == 0
    assert finished.out == selftest_table([result(passed=True)])
    assert finished.err == "measuring on cpu with seed 3\n"


def test_one_wrong_answer_is_named_and_exits_with_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_with(monkeypatch, result(passed=True), result(passed=False))
    finished = run("selftest", "--quiet")
    assert finished.code == 1
    assert [line.split()[-1] for line in finished.out.splitlines()[1:]] == ["ok", "WRONG"]
    assert finished.err == ""
