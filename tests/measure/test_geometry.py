"""A D that the probe estimates is that which the optimizer settles at, and no gradient is weighed by itself."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bsadvisor.measure.geometry import EstimatedGeometry, effective_batch_size, estimate_geometry
from bsadvisor.measure.gradients import GradientProbe
from bsadvisor.measure.known_answers import NoisyQuadratic
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.statistics import noise_scale
from bsadvisor.target.geometry_rule import averaging
from bsadvisor.values import GeometryRule

DIMENSIONS = 400
SPREAD = torch.logspace(-1, 1, DIMENSIONS)
"""Deviations, which differ by a factor of a hundred."""


def world(seed: int = 0, *, signal: float = 0.1, **kind: Any) -> NoisyQuadratic:
    position = signal * SPREAD
    return NoisyQuadratic(
        hessian=torch.ones(DIMENSIONS), position=position, deviations=SPREAD, seed=seed, **kind
    )


def estimate(problem: NoisyQuadratic, rule: GeometryRule, **options: Any) -> EstimatedGeometry | None:
    sampler = options.pop("sampler", None) or Sampler(problem.data, seed=0, geometry=True)
    given: dict[str, Any] = {
        "batch_size": 32,
        "divide_by_examples": problem.reduction == "sum",
        "seed": 0,
        "time_left": lambda: 1.0,
        "stop": lambda: False,
    }
    return estimate_geometry(problem, sampler, rule, **{**given, **options})


@pytest.mark.parametrize("kind", [{}, {"reduction": "sum"}, {"endless": True}])
@pytest.mark.parametrize("batch_size", [4, 32, 256])
def test_second_moments_are_those_of_the_batch_size_in_use(batch_size: int, kind: dict[str, Any]) -> None:
    found = estimate(world(**kind), GeometryRule(epsilon=1e-8), batch_size=batch_size)
    assert found is not None
    assert (found.about.source, found.about.batch_size) == ("probe", batch_size)
    assert found.about.examples == (256 if kind.get("endless") else 512)
    wanted = 1 / (SPREAD**2 * (0.01 + 1 / batch_size)).sqrt()
    ratios = found.preconditioner["position"] / wanted
    resolved = batch_size <= 32  # else mu^2, of which 512 examples say less, is most of it
    assert float(ratios.median()) == pytest.approx(1.0, abs=0.05 if resolved else 0.2)
    assert float(ratios.log().std()) < (0.3 if resolved else 0.6)


def test_no_batch_is_larger_than_the_examples_can_tell_of() -> None:
    found = estimate(world(), GeometryRule(), batch_size=10**6)
    assert found is not None and found.about.batch_size == 512


def test_learning_rates_and_sizes_of_parameters_enter() -> None:
    plain = estimate(world(), GeometryRule())
    scaled = estimate(world(), GeometryRule(relative_rates={"position": 0.25}, least_size=1e-3))
    assert plain is not None and scaled is not None
    size = float(world().position.square().mean().sqrt())
    factor = scaled.preconditioner["position"] / plain.preconditioner["position"]
    assert torch.allclose(factor, torch.tensor(0.25 * size))


def test_factored_moments_are_the_product_of_rows_and_columns() -> None:
    from bsadvisor.measure.geometry import _scale

    rows, columns = torch.rand(5, 1) + 0.1, torch.rand(1, 7) + 0.1
    squares = rows * columns
    scale = _scale(squares * torch.rand(5, 7), torch.ones(5, 7), GeometryRule(factored=True))
    exact = _scale(squares, torch.ones(5, 7), GeometryRule(factored=True))
    assert torch.allclose(exact, 1 / squares.sqrt(), rtol=1e-4)
    assert torch.linalg.matrix_rank(scale) == 1


@pytest.mark.parametrize("snr", [0.03, 1.0, 5.0])
def test_the_expected_sign_of_lions_direction_divides_like_that(snr: float) -> None:
    """Against a run of Lion's own average, at B = 1: E sign(c) is D mu, to a tenth."""
    settings = {"betas": (0.9, 0.99)}
    first, second = 0.9, 0.99
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(3000, 4000, generator=generator)
    mu, mean, signs = snr / 9, torch.zeros(4000), []
    for step, row in enumerate(noise):
        gradient = mu + row
        if step > 600:
            signs.append(float((first * mean + (1 - first) * gradient).sign().mean()))
        mean.lerp_(gradient, 1 - second)
    rule = GeometryRule(averaging=averaging(settings))
    divided = mu / math.sqrt(mu**2 + 1 / effective_batch_size(1, rule))
    assert np.mean(signs) == pytest.approx(divided, rel=0.1)


def coverage(*, split: bool, seeds: int = 60) -> float:
    """Of 95 % intervals, with a D of examples set apart or of those that are weighed."""
    held = []
    for seed in range(seeds):
        problem = world(seed, signal=0.15, examples=1024)
        sampler = Sampler(problem.data, seed=seed, geometry=True)
        if not split:
            sampler.num_geometry, sampler.num_line_search = 256, sampler._first
        found = estimate(problem, GeometryRule(), sampler=sampler, batch_size=32)
        assert found is not None
        probe = GradientProbe(problem, sampler, micro_batch=8, seed=seed, preconditioner=found.preconditioner)
        probe.run(256, time_left=lambda: 1e9, stop=lambda: False, progress=lambda done: None)
        interval = noise_scale(probe.accumulator.sums(preconditioned=True), 0.95)
        truth = replace(problem, diagonal=found.preconditioner["position"]).noise_scale_preconditioned
        held.append((interval.low or 0) <= truth <= (interval.high or math.inf))
    return float(np.mean(held))


def test_intervals_hold_the_truth_of_an_estimated_geometry() -> None:
    assert coverage(split=True) >= 0.88


def test_a_gradient_that_is_weighed_by_its_own_size_counts_for_less() -> None:
    """Why examples are set apart: without that, intervals miss the truth."""
    assert coverage(split=False) < 0.75


def test_without_enough_examples_or_time_nothing_is_estimated() -> None:
    assert estimate(world(examples=60), GeometryRule()) is None
    assert estimate(world(), GeometryRule(), stop=lambda: True) is None
    assert estimate(world(), GeometryRule(), time_left=lambda: 0.0) is None


def test_coordinates_without_a_gradient_get_the_usual_scale() -> None:
    deviations = torch.cat([torch.zeros(3), SPREAD[3:]])
    problem = replace(world(), deviations=deviations, position=deviations * 0.1)
    found = estimate(problem, GeometryRule(epsilon=1e-8))
    assert found is not None
    scale = found.preconditioner["position"]
    assert bool((scale[:3] == scale.median()).all())


def test_the_model_and_its_gradients_are_left_alone() -> None:
    problem = world()
    before = problem.parameters["position"].detach().clone()
    estimate(problem, GeometryRule())
    assert problem.parameters["position"].grad is None
    assert torch.equal(problem.parameters["position"], before)


def test_the_split_for_the_geometry_is_apart_from_all_others() -> None:
    problem = world(examples=1000)
    rows = {tuple(row.tolist()): number for number, row in enumerate(problem.data._examples[:, :3])}

    def numbers(batches: list[Tensor]) -> set[int]:
        return {rows[tuple(row.tolist())] for batch in batches for row in batch[:, :3]}

    sampler = Sampler(problem.data, seed=0, geometry=True)
    own = numbers(list(sampler.geometry(5)))
    gradient = numbers(list(sampler.gradient(0, sampler.num_certain, 1)))
    assert len(own) == sampler.num_geometry == 250
    assert not own & (gradient | numbers(list(sampler.line_search(99, 1))))
    assert numbers(list(sampler.curvature(0, 4, 8))) <= gradient
    assert Sampler(problem.data, seed=0).num_geometry == 0
