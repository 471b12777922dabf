"""Settled runs are told from those on their way, by what the probe measures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from bsadvisor.advise.equilibrium import judge_equilibrium
from bsadvisor.advise.geometry_remarks import about_equilibrium
from bsadvisor.advise.update_rule import UpdateRule
from bsadvisor.measure.curvature import scale_of
from bsadvisor.measure.curvature_stats import noise_curvature
from bsadvisor.measure.hessian import Hessian
from bsadvisor.measure.known_answers import NoisyQuadratic
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.statistics import gradient_stats
from bsadvisor.measure.unit_products import unit_products
from bsadvisor.values import Equilibrium
from tests.advise.saddles import curvature, within
from tests.report.sample import contract_report
from tests.worlds import probe

DIMENSIONS = 200
HESSIAN = torch.linspace(0.5, 1.5, DIMENSIONS)
SGD = UpdateRule(scheme="gradient_descent", momentum=0.0)
ADAM = UpdateRule(scheme="ema", momentum=0.9)
RATE, BATCH = 0.1, 16


def settled(seed: int, *, away: float = 1.0, diagonal: torch.Tensor | None = None) -> NoisyQuadratic:
    """Weights drawn as a settled run leaves them, or `away` times as far out."""
    scale = torch.ones(DIMENSIONS) if diagonal is None else diagonal
    spread = (RATE * scale / (2 * BATCH * HESSIAN)).sqrt()
    generator = torch.Generator().manual_seed(seed)
    position = away * spread * torch.randn(DIMENSIONS, generator=generator)
    return NoisyQuadratic(
        hessian=HESSIAN,
        position=position,
        deviations=torch.ones(DIMENSIONS),
        examples=2048,
        seed=seed,
        diagonal=diagonal,
    )


def judged(problem: NoisyQuadratic, rule: UpdateRule, seed: int = 0) -> Equilibrium:
    """Through the real measuring code."""
    measured = probe(problem, examples=1024, micro_batch=16, seed=seed)
    gradient = gradient_stats(measured, confidence=0.95, precision=0.5, batch_size=None, learning_rate=None)
    hessian = Hessian(problem=problem, seed=seed, divide_by=1, scale=scale_of(problem))
    batches = Sampler(problem.data, seed=seed).curvature(0, 32, 16)
    products = unit_products(hessian, batches, examples=16, sizes=[DIMENSIONS], seed=seed)
    assert products is not None
    bent = replace(curvature(), along_noise=noise_curvature(products, 0.95))
    found = judge_equilibrium(gradient, bent, rule, batch_size=BATCH, learning_rate=RATE)
    assert found is not None
    return found


def truth(problem: NoisyQuadratic) -> float:
    """|G|^2 that the run's noise makes, on average, over that of this checkpoint; in the geometry of D."""
    scale = torch.ones(DIMENSIONS) if problem.diagonal is None else problem.diagonal
    own = RATE / (2 * BATCH) * float((scale * HESSIAN * scale).sum())
    return own / float((scale * problem.gradient.float().square()).sum())


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_ratio_holds_the_truth_of_settled_runs_and_is_near_one(adaptive: bool) -> None:
    rule = ADAM if adaptive else SGD
    diagonal = torch.linspace(0.2, 2.0, DIMENSIONS) if adaptive else None
    held, values, verdicts = [], [], []
    for seed in range(24):
        problem = settled(seed, diagonal=diagonal)
        found = judged(problem, rule, seed)
        low, high = found.ratio.low or 0.0, found.ratio.high or float("inf")
        held.append(low <= truth(problem) <= high)
        values.append(found.ratio.value or float("inf"))
        verdicts.append(found.verdict)
    assert sum(held) >= 21
    assert sorted(values)[12] == pytest.approx(1.0, abs=0.15)
    assert verdicts.count("run") >= 12 and "task" not in verdicts


def test_runs_on_their_way_are_told_as_such() -> None:
    verdicts = [judged(settled(seed, away=4.0), SGD, seed).verdict for seed in range(8)]
    assert set(verdicts) == {"task"}


def along(**changed: Any) -> Equilibrium | None:
    report = contract_report()
    given: dict[str, Any] = {
        "gradient": replace(report.gradient, noise_scale_preconditioned=None),
        "curvature": replace(curvature(), along_noise=within(2.0, 0.2)),
        "rule": SGD,
        "batch_size": 32,
        "learning_rate": 0.2,
    }
    return judge_equilibrium(**{**given, **changed})


def test_the_closed_form_is_followed_with_dampening_and_momentum() -> None:
    plain = along()
    assert plain is not None
    assert plain.noise_scale.value == pytest.approx(160.0)
    assert plain.ratio.value == pytest.approx(212 / 160)
    assert plain.noise_scale.low is not None and plain.noise_scale.low < 160
    damped = along(rule=UpdateRule(scheme="heavy_ball", momentum=0.9, gradient_weight=0.1))
    assert damped is not None and damped.noise_scale.value == pytest.approx(160.0)


@pytest.mark.parametrize(
    "missing",
    [
        {"curvature": None},
        {"curvature": curvature()},
        {"curvature": replace(curvature(), along_noise=within(-1.0, 0.1))},
        {"rule": None},
        {"rule": replace(ADAM, knows_geometry=False)},
        {"batch_size": None},
        {"learning_rate": None},
    ],
)
def test_without_all_that_it_takes_nothing_is_said(missing: dict[str, Any]) -> None:
    assert along(**missing) is None


def test_only_a_settled_run_is_a_finding() -> None:
    run = along(learning_rate=0.6)
    assert run is not None and run.verdict == "run"
    target = contract_report().target
    (remark,) = about_equilibrium(target, run)
    assert remark.code == "BSA223" and "η = 0.6 with B = 32 alone leaves B_simple near 53" in remark.message
    task = along(learning_rate=0.02)
    assert task is not None and task.verdict == "task"
    assert list(about_equilibrium(target, task)) == list(about_equilibrium(target, None)) == []
    initial = replace(target, checkpoint=None)
    assert list(about_equilibrium(initial, run)) == []
