"""Targets whose every answer is known in closed form: the oracle of the tests.

The noisy quadratic itself ships with the package, because `bsadvisor selftest` asks it too.
"""

from __future__ import annotations

from typing import Any

import torch

from bsadvisor.measure.gradients import GradientProbe
from bsadvisor.measure.known_answers import NoisyQuadratic
from bsadvisor.measure.sampler import Sampler


def quadratic(
    *, noise_scale: float = 50.0, dimensions: int = 60, spread: float = 0.5, **kind: Any
) -> NoisyQuadratic:
    """A noisy quadratic with the B_simple asked for and noise variances falling as i^-spread."""
    deviations = torch.arange(1, dimensions + 1).float() ** (-spread / 2)
    hessian = torch.linspace(0.5, 1.5, dimensions)
    direction = 1 / hessian / dimensions**0.5
    scale = (float(deviations.square().sum()) / noise_scale) ** 0.5
    return NoisyQuadratic(hessian=hessian, position=direction * scale, deviations=deviations, **kind)


def probe(
    problem: Any, *, examples: int, micro_batch: int, seed: int = 0, reduction: str = "mean"
) -> GradientProbe:
    """Run the real gradient phase without limits."""
    sampler = Sampler(problem.data, seed=seed, min_gradient=examples)
    measured = GradientProbe(problem, sampler, micro_batch=micro_batch, seed=seed, reduction=reduction)
    measured.run(examples, time_left=lambda: 1e9, stop=lambda: False, progress=lambda done: None)
    return measured
