"""Does the curvature phase tell the truth where the Hessian is known?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bsadvisor.measure.curvature import CurvatureProbe, MeasuredCurvature
from bsadvisor.measure.curvature_stats import curvature_stats, noise_scale
from bsadvisor.measure.known_answers import NoisyQuadratic
from bsadvisor.measure.sampler import Sampler
from bsadvisor.theory.stability import learning_rate_limit
from bsadvisor.values import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """A usual phase without a thorough search."""

    micro_batch: int = 16
    noise_batches: int = 64
    direction_batches: int = 8
    certificate_batches: int = 32
    iterations: int = 24
    search_direction_batches: int = 0
    search_certificate_batches: int = 0
    search_iterations: int = 0


def curvature_answers(
    problem: NoisyQuadratic, sampler: Sampler, sums_loss: bool, confidence: float, seed: int
) -> Iterator[tuple[str, float, Estimate]]:
    """Quantity, truth and estimate; nothing in half precision, where the position itself is rounded."""
    if problem.position.dtype != torch.float32:
        return
    adaptive = problem.diagonal is not None
    probe = CurvatureProbe(
        problem,
        sampler,
        _Sizes(),
        divide_by_examples=sums_loss,
        noise_trace=None,
        seconds_per_pass=0.0,
        seed=seed,
    )
    found = probe.run(time_left=lambda: float("inf"), stop=lambda: False)
    stats, eigenvalues = curvature_stats(found, confidence, adaptive=adaptive), problem.eigenvalues
    largest = _known(stats.lambda_max_preconditioned if adaptive else stats.lambda_max, confidence)
    top = float(eigenvalues[-1])
    yield "lambda_max", top, largest
    yield "largest stable rate", _stable(top) or 0.0, _stable_rates(largest)
    yield "tr(D H)" if adaptive else "tr(H)", float(eigenvalues.sum()), _known(stats.trace, confidence)
    yield "B_noise", problem.noise_scale, _known(noise_scale(found.plain_products, confidence), confidence)
    if eigenvalues[0] < 0:
        yield "the way out", float(eigenvalues[0]), _certified(found, confidence)


def _known(estimate: Estimate | None, confidence: float) -> Estimate:
    return estimate or Estimate(value=None, low=None, high=None, confidence=confidence)


def _certified(found: MeasuredCurvature, confidence: float) -> Estimate:
    """The curvature of the escape direction, where it is certified to be negative."""
    along = _known(found.escape.curvature if found.escape else None, confidence)
    return along if along.high is not None and along.high < 0 else _known(None, confidence)


def _stable(curvature: float | None) -> float | None:
    return None if curvature is None else learning_rate_limit("gradient_descent", curvature, 0.0)


def _stable_rates(largest: Estimate) -> Estimate:
    return Estimate(
        value=_stable(largest.value),
        low=_stable(largest.high),
        high=_stable(largest.low),
        confidence=largest.confidence,
    )
