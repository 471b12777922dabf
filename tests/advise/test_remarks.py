"""Findings say what is true and name a flag that helps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bsadvisor.advise import remarks
from bsadvisor.advise.pairs import CAPPED
from bsadvisor.measure.statistics import gradient_stats
from bsadvisor.settings import ProbeSettings
from bsadvisor.values import (
    AssumptionFacts,
    Finding,
    ProbeRun,
    Recommendation,
    SaddleVerdict,
    SecondsPerPhase,
    StoppedBy,
    Verdict,
)
from tests.advise.saddles import curvature, escape, within
from tests.report.sample import contract_report
from tests.worlds import probe, quadratic


def found(
    stopped_by: StoppedBy,
    *,
    noise_scale: float = 50,
    size: int | None = None,
    facts: AssumptionFacts | None = None,
) -> list[Finding]:
    settings = ProbeSettings(precision=0.02)
    measured = probe(quadratic(noise_scale=noise_scale, seed=1), examples=512, micro_batch=8)
    stats = gradient_stats(measured, confidence=0.95, precision=0.02, batch_size=None, learning_rate=None)
    run = ProbeRun(
        examples=512,
        micro_batch_size=8,
        micro_batches=64,
        stopped_by=stopped_by,
        seconds=1.0,
        seconds_per_phase=SecondsPerPhase(gradient=1.0),
        seed=0,
    )
    return list(remarks.about_measurement(run, stats, facts or AssumptionFacts(), settings, size))


@pytest.mark.parametrize(
    ("stopped_by", "flag"),
    [("max_examples", "--max-examples"), ("time", "--time-budget"), ("data", "no more")],
)
def test_the_remedy_is_what_stopped_it(stopped_by: StoppedBy, flag: str) -> None:
    (finding,) = found(stopped_by)
    assert finding.code == "BSA210" and flag in finding.remedy


def test_more_examples_than_there_are_are_not_asked_for() -> None:
    (finding,) = found("max_examples", size=600)
    assert "--max-examples" not in finding.remedy and "even all 600" in finding.remedy


def test_a_noise_scale_without_upper_end_is_a_warning_with_its_lower_bound() -> None:
    (finding,) = found("data", noise_scale=3000)
    assert finding.code == "BSA211" and finding.evidence["low"] > 100


def test_a_precise_probe_has_nothing_to_remark() -> None:
    assert found("precision") == []


def test_the_share_of_clipped_steps_is_that_of_simulated_batches() -> None:
    world = quadratic(noise_scale=50, dimensions=200)
    measured = probe(world, examples=2048, micro_batch=8)
    stats = gradient_stats(measured, confidence=0.95, precision=0.5, batch_size=None, learning_rate=None)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4000, 200)) * world.deviations.numpy() / 16**0.5
    norms = np.linalg.norm(world.gradient.numpy() + noise, axis=1)
    clip = float(np.quantile(norms, 0.7))
    assert remarks.clipping_share(stats, 16, clip) == pytest.approx(0.3, abs=0.08)


# --- curvature ----------------------------------------------------------------------------------


def test_a_curvature_that_could_not_be_measured_is_a_note_with_the_reason() -> None:
    (finding,) = found("precision", facts=AssumptionFacts(curvature_problem="a product is not finite"))
    assert (finding.code, finding.severity) == ("BSA219", "note")
    assert finding.message.endswith(": a product is not finite")
    assert "--no-curvature" in finding.remedy


def test_finite_differences_are_mentioned_with_the_reason() -> None:
    (finding,) = found("precision", facts=AssumptionFacts(curvature_by_differences="a kernel refused"))
    assert (finding.code, finding.severity) == ("BSA220", "info")
    assert finding.message.endswith(": a kernel refused")


def about_curvature(
    *, rate: float | None = 1e-3, limit: float | None = None, reach: float = 0.0
) -> list[str]:
    report = contract_report()
    stats = curvature()
    if limit is not None:
        stats = replace(stats, learning_rate_limit=within(limit, reach))
    target = replace(report.target, learning_rate=rate)
    return [finding.code for finding in remarks.about_curvature(target, stats, report.recommendations)]


def test_the_smallest_batch_whose_rate_was_capped_is_named() -> None:
    report = contract_report()

    def lower(row: Recommendation) -> Recommendation:
        return replace(row, rule=f"{row.rule}, {CAPPED} the stability limit") if row.batch_size > 100 else row

    rows = tuple(map(lower, report.recommendations))
    (finding,) = remarks.about_curvature(report.target, curvature(), rows)
    assert finding.code == "BSA304"
    assert finding.message.startswith("from B = 128 on, learning rates were capped: ")


def test_a_learning_rate_surely_above_the_limit_is_remarked() -> None:
    assert about_curvature(limit=5e-4, reach=1e-4) == ["BSA305"]
    assert about_curvature(limit=8e-4, reach=4e-4) == []  # it may be below
    assert about_curvature(limit=2e-3) == about_curvature(rate=None, limit=5e-4) == about_curvature() == []
    report = contract_report()
    assert list(remarks.about_curvature(report.target, None, report.recommendations)) == []


def verdict(verdict: Verdict, *, needed: int | None = None) -> SaddleVerdict:
    return SaddleVerdict(
        verdict=verdict,
        curvature=within(-1.0, 0.1),
        escape_steps=500.0,
        noise_share=1.0,
        loss_drop=within(0.4, 0.01),
        gradient_steps=None,
        examples_needed=needed,
        advice="gradient noise leads out: B = 16 leaves in about 400 instead of 500 steps",
        evidence=escape(),
    )


@pytest.mark.parametrize(
    ("kind", "code", "severity"), [("warning", "BSA401", "warning"), ("possible", "BSA402", "note")]
)
def test_at_a_saddle_the_remedy_is_the_way_out(kind: Verdict, code: str, severity: str) -> None:
    (finding,) = remarks.about_saddle(verdict(kind))
    assert (finding.code, finding.severity) == (code, severity)
    assert finding.remedy == verdict(kind).advice
    assert finding.remedy not in finding.message


@pytest.mark.parametrize(
    ("needed", "words"), [(1152, "about 1,152 examples would do"), (None, "many more examples would do")]
)
def test_what_is_not_certified_names_the_examples_that_it_takes(needed: int | None, words: str) -> None:
    (finding,) = remarks.about_saddle(verdict("unresolved", needed=needed))
    assert (finding.code, finding.severity) == ("BSA403", "info")
    assert "not certified on 512 examples" in finding.message
    assert finding.remedy.startswith(words)


def test_where_nothing_holds_the_run_up_nothing_is_remarked() -> None:
    for nothing in (None, verdict("none"), verdict("note")):
        assert list(remarks.about_saddle(nothing)) == []
