"""Findings say what is true and name a flag that helps."""

from __future__ import annotations

import numpy as np
import pytest

from bsadvisor.advise import remarks
from bsadvisor.measure.statistics import gradient_stats
from bsadvisor.values import AssumptionFacts, Finding, ProbeRun, ProbeSettings, SecondsPerPhase, StoppedBy
from tests.worlds import probe, quadratic


def found(stopped_by: StoppedBy, *, noise_scale: float = 50, size: int | None = None) -> list[Finding]:
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
    return list(remarks.about_measurement(run, stats, AssumptionFacts(), settings, size))


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
