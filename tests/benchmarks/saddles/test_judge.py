"""The judge counts what it is told."""

from __future__ import annotations

import pytest

from tests.benchmarks.saddles import judge, tool
from tests.benchmarks.saddles.cases import CASES
from tests.benchmarks.saddles.judge import Judged, VerdictOf
from tests.benchmarks.saddles.problem import Case

TRUTHS = judge.truths()
QUICK = ("tanh digits, near zero", "linear map, three layers near zero", "tanh digits, at the start")


def oracle(case: Case, seed: int) -> tuple[str, dict[str, float]]:
    """Right on every case; says that an escape takes twice as long as it does."""
    truth = TRUTHS[case.name]
    left = float(truth["runs"][0]["left"])
    return "warning" if truth["label"] == "true_saddle" else "note", {"escape_steps": 2 * left}


def anxious(case: Case, seed: int) -> tuple[str, dict[str, float]]:
    """Sees a saddle everywhere, but not with the first seed."""
    return "possible" if seed else "unresolved", {"curvature": -0.5}


def judged(verdict_of: VerdictOf) -> list[Judged]:
    cases = [case for case in CASES if case.name in QUICK]
    return [judge.judge(case, TRUTHS[case.name], verdict_of, range(3)) for case in cases]


def test_a_tool_that_is_right_is_found_right() -> None:
    found = judged(oracle)
    assert [(one.hits, one.tries) for one in judge.rates(found)] == [(6, 6), (2, 2), (0, 3), (0, 1)]
    assert judge.misses(found) == []
    assert not any(one.drifted for one in found)


def test_a_tool_that_sees_saddles_everywhere_is_found_out() -> None:
    found = judged(anxious)
    assert [(one.hits, one.tries) for one in judge.rates(found)] == [(4, 6), (2, 2), (2, 3), (1, 1)]
    lines = judge.misses(found)
    assert len(lines) == 4 and "true_saddle 'tanh digits, near zero', probe 0: unresolved" in lines[0]
    assert all("curvature -0.5" in line for line in lines)


def test_predicted_escapes_are_set_against_measured_ones() -> None:
    found = judged(oracle)
    assert judge.escape_ratios(found) == pytest.approx(dict.fromkeys(QUICK[:2], 2.0), rel=0.1)
    assert "within a factor of 10: 2 of 2" in judge.escape_table(found)[-1]
    assert "nan" in judge.escape_table(judged(anxious))[1]


def test_a_rate_has_the_exact_interval() -> None:
    none_of_200 = judge.rate("", 0, 200)
    assert none_of_200.low == 0.0 and none_of_200.high == pytest.approx(1 - 0.025 ** (1 / 200))
    assert judge.rate("", 0, 0).high == 1.0


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("planted in a softmax regression", "warning"),
        ("softmax digits, step 40", "none"),
        ("ReLU digits, step 400, AdamW", "none"),
    ],
)
def test_the_tool_that_is_judged_is_the_whole_probe(
    monkeypatch: pytest.MonkeyPatch, name: str, verdict: str
) -> None:
    monkeypatch.setattr(tool, "SECONDS", 3.0)
    case = next(case for case in CASES if case.name == name)
    assert tool.verdict_of(case, 0)[0] == verdict
