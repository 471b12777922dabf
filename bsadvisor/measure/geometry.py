"""An adaptive optimizer's D where its state is not known: from second moments of examples set apart for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bsadvisor.errors import is_out_of_memory
from bsadvisor.measure.gradients import gradients_of
from bsadvisor.measure.preserve import preserved
from bsadvisor.measure.problem import Problem
from bsadvisor.measure.sampler import Sampler
from bsadvisor.random_state import seed_everything
from bsadvisor.theory.noise_scale import MIN_MICRO_BATCHES
from bsadvisor.values import Geometry, GeometryRule

MICRO_BATCHES = 32
"""Second moments of so many have a relative error of a quarter."""

LEAST_MICRO_BATCH = 2
"""A BatchNorm cannot do with less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedGeometry:
    """D, and where it came from."""

    preconditioner: dict[str, Tensor]
    about: Geometry


def estimate_geometry(
    problem: Problem,
    sampler: Sampler,
    rule: GeometryRule,
    *,
    batch_size: int | None,
    divide_by_examples: bool,
    seed: int,
    time_left: Callable[[], float],
    stop: Callable[[], bool],
) -> EstimatedGeometry | None:
    """The D that an optimizer would settle at: v = mu^2 + sigma^2 / B for every coordinate.

    No other estimate sees these examples: a gradient weighed by its own size would count for less.

    Args:
        problem: model in the state to be measured.
        sampler: owner of the split.
        rule: of the optimizer.
        batch_size: B in use, in examples; None: that of the micro-batches here.
        divide_by_examples: whether the loss is a sum.
        time_left: seconds.
        stop: whether someone asked to.

    Returns:
        None where there are too few examples or too little time.

    Source: Kingma and Ba 2015 for v in equilibrium; for the sign, E sign(c) of Gaussian c as in Li et al. 2024.
    Cost: one forward and backward pass per example; three float32 copies of the parameters.
    """
    size = max(sampler.num_geometry // MICRO_BATCHES, LEAST_MICRO_BATCH)
    moments = _Moments(problem.parameters)
    try:
        with preserved(problem.model):
            seed_everything(seed)
            for batch in sampler.geometry(size):
                if stop() or time_left() <= 0:
                    break
                loss = problem.loss(batch)
                moments.add(gradients_of(loss / size if divide_by_examples else loss, problem.parameters))
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    if moments.count < MIN_MICRO_BATCHES:
        return None
    effective = effective_batch_size(batch_size or size, rule)
    at = min(effective, moments.count * size)
    scales = {
        name: _scale(moments.expected_square(name, size / at), parameter, rule)
        for name, parameter in problem.parameters.items()
    }
    rates = rule.relative_rates or {}
    return EstimatedGeometry(
        preconditioner={name: scale * rates.get(name, 1.0) for name, scale in _complete(scales).items()},
        about=Geometry(source="probe", examples=moments.count * size, batch_size=max(1, round(at))),
    )


def effective_batch_size(batch_size: float, rule: GeometryRule) -> float:
    """At which the second moment of a gradient is what the optimizer divides by.

    The expected sign of c ~ N(mu, s^2) is close to mu / sqrt(mu^2 + pi/2 s^2), from its slope at zero and
    its limit: that divides as Adam does, with a variance pi/2 as large.

    Example:
        >>> round(effective_batch_size(32, GeometryRule(averaging=1.0)), 2)
        20.37
    """
    if rule.averaging is None:
        return batch_size
    return batch_size / (rule.averaging * math.pi / 2)


class _Moments:
    """Sums of gradients and of their squares, per parameter."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.count = 0
        self._sum = {name: torch.zeros_like(part, dtype=torch.float32) for name, part in parameters.items()}
        self._squares = {name: torch.zeros_like(part) for name, part in self._sum.items()}

    @torch.no_grad()
    def add(self, gradients: Mapping[str, Tensor | None]) -> None:
        self.count += 1
        for name, gradient in gradients.items():
            if gradient is not None:
                dense = (gradient.to_dense() if gradient.is_sparse else gradient).float()
                self._sum[name] += dense
                self._squares[name].addcmul_(dense, dense)

    def expected_square(self, name: str, share: float) -> Tensor:
        """mu^2 + share * variance of one of the gradients that were added; both without bias, if positive."""
        mean = self._sum[name] / self.count
        variance = (self._squares[name] / self.count - mean.square()).clamp(min=0)
        variance *= self.count / (self.count - 1)
        return (mean.square() - variance / self.count).clamp(min=0) + share * variance


def _scale(squares: Tensor, parameter: Tensor, rule: GeometryRule) -> Tensor:
    """D of one parameter; NaN where there was no gradient."""
    if rule.factored and squares.ndim > 1:
        rows, columns = squares.mean(-1, keepdim=True), squares.mean(-2, keepdim=True)
        whole = rows.mean(-2, keepdim=True)
        squares = torch.where(whole > 0, rows * columns / whole, 0.0)
    scale = torch.where(squares > 0, 1 / (squares.sqrt() + rule.epsilon), math.nan)
    if rule.least_size is not None:
        scale = scale * max(rule.least_size, float(parameter.detach().float().square().mean().sqrt()))
    return scale


def _complete(scales: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The median of the others stands in where there was no gradient."""
    usual = float(torch.stack([scale.flatten().nanmedian() for scale in scales.values()]).nanmedian())
    stand_in = usual if math.isfinite(usual) else 1.0
    return {name: scale.nan_to_num(nan=stand_in) for name, scale in scales.items()}
