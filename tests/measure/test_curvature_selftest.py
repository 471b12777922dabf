"""The self test finds a curvature phase that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from bsadvisor.measure.curvature import CurvatureProbe
from bsadvisor.measure.curvature_stats import curvature_stats
from bsadvisor.measure.selftest import run_selftest
from bsadvisor.values import SelftestResult

CURVATURE = {"lambda_max", "largest stable rate", "tr(H)", "tr(D H)", "B_noise", "the way out"}


def answers() -> tuple[SelftestResult, ...]:
    return run_selftest(torch.device("cpu"), 0, lambda name: None)


def wrong() -> set[str]:
    return {answer.quantity for answer in answers() if not answer.passed}


def test_every_known_curvature_is_found() -> None:
    found = [answer for answer in answers() if answer.quantity in CURVATURE]
    assert {answer.quantity for answer in found} == CURVATURE
    assert [answer.name for answer in found if answer.quantity == "the way out"] == ["saddle"]
    assert [answer for answer in found if not answer.passed] == []


@pytest.mark.parametrize(
    ("damage", "betrayed"),
    [
        (lambda stats: replace(stats, trace=scaled(stats.trace, 1.01)), {"tr(H)", "tr(D H)"}),
        (lambda stats: replace(stats, trace=None), {"tr(H)", "tr(D H)"}),
        (
            lambda stats: replace(
                stats,
                lambda_max=scaled(stats.lambda_max, 1.01),
                lambda_max_preconditioned=scaled(stats.lambda_max_preconditioned, 1.01),
            ),
            {"lambda_max", "largest stable rate"},
        ),
    ],
)
def test_a_curvature_that_is_off_is_betrayed(
    damage: Callable[[Any], Any], betrayed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bsadvisor.measure.curvature_selftest.curvature_stats",
        lambda *given, **options: damage(curvature_stats(*given, **options)),
    )
    assert wrong() == betrayed


def test_a_saddle_that_is_not_certified_is_betrayed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = CurvatureProbe.run

    def doubtful(probe: Any, **limits: Any) -> Any:
        found = right(probe, **limits)
        if found.escape is not None:
            found.escape = replace(found.escape, curvature=replace(found.escape.curvature, high=0.1))
        return found

    monkeypatch.setattr(CurvatureProbe, "run", doubtful)
    assert wrong() == {"the way out"}


def scaled(estimate: Any, factor: float) -> Any:
    if estimate is None:
        return None
    ends = {name: factor * getattr(estimate, name) for name in ("value", "low", "high")}
    return replace(estimate, **ends)
