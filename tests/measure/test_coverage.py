"""The 95 % interval after adaptive stopping, over 200 probes of worlds with known answers.

The long version on real tasks is `python -m tests.benchmarks.coverage`.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest

from bsadvisor import pipeline
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.statistics import noise_scale
from bsadvisor.pipeline.gradient_phase import gradient_rounds
from bsadvisor.settings import ProbeSettings
from bsadvisor.theory import noise_scale as theory
from bsadvisor.theory.noise_scale import Array, BlockSums, Moments
from bsadvisor.values import AssumptionFacts, Estimate
from tests.worlds import quadratic

PROBES = 200


def adaptive_probe(seed: int, **world: Any) -> tuple[Estimate, bool]:
    """One probe that stops when it finds itself precise: B_simple, and whether it did."""
    problem = quadratic(noise_scale=60, examples=4096, seed=seed, **world)
    problem.per_device_batch = 16  # type: ignore[attr-defined]
    session = pipeline.Session(
        target=problem,  # type: ignore[arg-type]
        settings=ProbeSettings(seed=seed),
        watch=pipeline.Stopwatch(budget=1e9, began=time.perf_counter()),
        progress=lambda progress: None,
        stop=pipeline.StopSignal(),
    )
    sampler = Sampler(problem.data, seed=seed, min_gradient=16)
    probe, _, stopped_by = gradient_rounds(session, sampler, AssumptionFacts(), None)
    return noise_scale(probe.accumulator.sums(), 0.95), stopped_by == "precision"


def study(**world: Any) -> tuple[float, float, float]:
    """Coverage, share that converged, median estimate over truth."""
    found = [adaptive_probe(seed, **world) for seed in range(PROBES)]
    hits = [(e.low or 0.0) <= 60 <= (np.inf if e.high is None else e.high) for e, _ in found]
    values = [np.inf if e.value is None else e.value for e, _ in found]
    return float(np.mean(hits)), float(np.mean([done for _, done in found])), float(np.median(values)) / 60


@pytest.mark.parametrize("world", [{"spread": 0.5}, {"spread": 1.0, "heavy_tailed": True}])
def test_adaptive_intervals_cover_the_truth(world: dict[str, Any]) -> None:
    coverage, converged, median = study(**world)
    assert coverage >= 0.93
    assert converged >= 0.9
    assert 0.9 < median < 1.1


def test_forgetting_that_noise_inflates_the_norm_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = theory.moments

    def biased(sums: BlockSums) -> Moments:
        found = right(sums)
        return dataclasses.replace(found, squared_norm=found.mean_squared_norm)

    monkeypatch.setattr(theory, "moments", biased)
    coverage, _, _ = study(spread=0.5)
    assert coverage < 0.9


def test_intervals_half_as_wide_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = theory.jackknife_variance

    def narrow(replicates: Array) -> Array:
        return right(replicates) / 4

    monkeypatch.setattr(theory, "jackknife_variance", narrow)
    coverage, _, _ = study(spread=0.5)
    assert coverage < 0.9
