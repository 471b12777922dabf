"""Does the real measuring code tell the truth on this machine and device?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from bsadvisor.measure.assumptions import check_assumptions
from bsadvisor.measure.best_step import best_step, tried_examples
from bsadvisor.measure.curvature_selftest import curvature_answers
from bsadvisor.measure.gradients import GradientProbe
from bsadvisor.measure.known_answers import NoisyQuadratic
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.statistics import gradient_stats
from bsadvisor.measure.step_trial import mean_gradient
from bsadvisor.values import Estimate, GradientStats, SelftestResult

CONFIDENCE = 0.9999
"""Of each interval: wide enough that a correct machine hardly ever fails."""

ROUNDING = 1e-5
"""Of the truth: what single precision may be off where all examples say the same."""

DIMENSIONS = 1000
MICRO_BATCH, MICRO_BATCHES = 16, 64


def run_selftest(
    device: torch.device, seed: int, progress: Callable[[str], None]
) -> tuple[SelftestResult, ...]:
    """Measure every known problem on `device`.

    Args:
        device: to measure on.
        seed: of the problems and of the probes.
        progress: told the name of each problem.
    """
    results: list[SelftestResult] = []
    for name, problem in known_problems(device, seed):
        progress(name)
        results += _results(name, problem, seed)
    return tuple(results)


def known_problems(device: torch.device, seed: int) -> Iterator[tuple[str, NoisyQuadratic]]:
    """A small suite: each problem would betray one kind of mistake."""
    hessian = torch.linspace(0.1, 1.0, DIMENSIONS)
    spectrum = torch.arange(1, DIMENSIONS + 1).float() ** -0.5

    def problem(size: float, dtype: torch.dtype = torch.float32, **kind: object) -> NoisyQuadratic:
        position = torch.full((DIMENSIONS,), size, device=device, dtype=dtype)
        return NoisyQuadratic(
            hessian=hessian,
            position=position,
            deviations=spectrum,
            seed=seed,
            **kind,  # type: ignore[arg-type]
        )

    yield "quadratic", problem(0.02)
    yield "heavy tails", problem(0.02, heavy_tailed=True)
    yield "far below the noise", problem(0.008)
    yield "summed loss", problem(0.02, reduction="sum")
    yield "preconditioned", problem(0.02, diagonal=torch.linspace(0.1, 10.0, DIMENSIONS))
    yield "bfloat16 weights", problem(0.02, torch.bfloat16)
    hessian = torch.cat([torch.tensor([-0.5]), hessian[1:]])
    yield "saddle", problem(0.02)


def _results(name: str, problem: NoisyQuadratic, seed: int) -> Iterator[SelftestResult]:
    sampler = Sampler(problem.data, seed=seed, min_gradient=MICRO_BATCH * MICRO_BATCHES)
    reduction = check_assumptions(problem, sampler, seed=seed).loss_reduction
    probe = GradientProbe(problem, sampler, micro_batch=MICRO_BATCH, seed=seed, reduction=reduction)
    probe.run(
        MICRO_BATCH * MICRO_BATCHES,
        time_left=lambda: float("inf"),
        stop=lambda: False,
        progress=lambda done: None,
    )
    stats = gradient_stats(probe, confidence=CONFIDENCE, precision=0.5, batch_size=None, learning_rate=None)
    for quantity, truth, estimate in _answers(problem, stats):
        yield _judge(name, quantity, truth, estimate)
    if reduction == "mean":
        step = _best_step(problem, probe, seed)
        if step is not None:
            yield _judge(name, "best single step", problem.max_learning_rate, step)
    for quantity, truth, found in curvature_answers(problem, sampler, reduction == "sum", CONFIDENCE, seed):
        answer = _judge(name, quantity, truth, found)
        yield replace(answer, passed=answer.passed and found.value is not None)


def _answers(problem: NoisyQuadratic, stats: GradientStats) -> Iterator[tuple[str, float, Estimate]]:
    yield "|G|^2", problem.squared_norm, stats.squared_norm
    yield "tr(Sigma)", problem.noise_trace, stats.noise_trace
    yield "B_simple", problem.noise_scale_simple, stats.noise_scale_simple
    if stats.noise_scale_training_set is not None:
        yield "B_simple, training set", problem.noise_scale_training_set, stats.noise_scale_training_set
    if stats.noise_scale_preconditioned is not None:
        yield "B_simple, preconditioned", problem.noise_scale_preconditioned, stats.noise_scale_preconditioned


def _judge(name: str, quantity: str, truth: float, estimate: Estimate) -> SelftestResult:
    low = float("-inf") if estimate.low is None else estimate.low
    high = float("inf") if estimate.high is None else estimate.high
    off = ROUNDING * abs(truth)
    return SelftestResult(
        name=name, quantity=quantity, truth=truth, estimate=estimate, passed=low - off <= truth <= high + off
    )


def _best_step(problem: NoisyQuadratic, probe: GradientProbe, seed: int) -> Estimate | None:
    """Where the known answer is that of the same question."""
    if problem.diagonal is not None or problem.position.dtype != torch.float32:
        return None
    tried = tried_examples(
        probe.sampler,
        measured=probe.accumulator.num_examples,
        micro_batch=probe.micro_batch,
        couples=False,
    )
    found = best_step(
        problem,
        tried,
        mean_gradient(probe),
        confidence=CONFIDENCE,
        seed=seed,
        should_stop=lambda: False,
    )
    return found.noise_free[0] if found else None
