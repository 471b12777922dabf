"""The best single step along the optimizer's own direction, by forward passes on fresh examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from bsadvisor.errors import DataError
from bsadvisor.measure.norms import squared_norm
from bsadvisor.measure.preserve import moved, preserved
from bsadvisor.measure.problem import Problem
from bsadvisor.random_state import seed_everything
from bsadvisor.theory.noise_scale import Array, jackknife_variance, symmetric_interval
from bsadvisor.values import Estimate

MIN_CHUNKS = 4
CHUNKS = 8
MAX_MOVES = 8
"""Steps from 4^-9 to 4^9 of the first guess, which takes a tenth off the loss to first order, are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSearch:
    """The outcome of one line search along the measured mean gradient."""

    direction: Literal["gradient", "optimizer"]
    loss: Estimate
    """At the checkpoint."""
    learning_rate: Estimate | None
    """Best single step; None where no step lowers the loss."""
    loss_decrease: Estimate | None


def line_search(
    problem: Problem,
    batches: Iterable[Any],
    gradient: Mapping[str, Tensor],
    *,
    weight: float = 1.0,
    divide_by: int = 1,
    confidence: float,
    seed: int,
    should_stop: Callable[[], bool],
) -> LineSearch | None:
    """Minimise the loss on `batches` over eta in theta - eta D g.

    The direction is never formed: one copy of the parameters is all that a step takes.

    Args:
        problem: its preconditioner is D; the identity where there is none.
        batches: fresh examples in at least `MIN_CHUNKS` equal batches: the jackknife's units.
        gradient: `weight` times g, by parameter name.
        weight: what the gradient is a multiple by.
        divide_by: the examples of a batch, where the loss is their sum.
        confidence: of the intervals, which hold the sampling of `batches`, not that of g.
        seed: of dropout masks, equal at every step.

    Returns:
        None where there are too few batches, or `should_stop` said so.

    Raises:
        DataError: the loss at the checkpoint is not finite.

    Cost: 7 to 11 forward passes over `batches`; one copy of the parameters.
    """
    slope = _slope(gradient, problem.preconditioner) / weight**2
    tried: dict[float, Array] = {}
    parameters, diagonal = problem.parameters, problem.preconditioner
    direction = [gradient[name] for name in parameters]
    scale = None if diagonal is None else [diagonal[name] for name in parameters]
    with (
        preserved(problem.model),
        torch.no_grad(),
        moved(list(parameters.values()), direction, scale) as move,
    ):
        seed_everything(seed)
        ready = list(batches)

        def losses(rate: float) -> float:
            if rate not in tried and not should_stop():
                move(-rate / weight)
                tried[rate] = _losses(problem, ready, seed) / divide_by
            return _mean(tried.get(rate))

        if len(ready) < MIN_CHUNKS or should_stop():
            return None
        start = losses(0.0)
        if not math.isfinite(start):
            raise DataError(
                "the loss is not finite on some of the examples held back for the line search",
                "look for NaN or infinity in the data",
            )
        if slope > 0:
            _bracket(losses, start, first=0.1 * (abs(start) or 1.0) / slope)
    name: Literal["gradient", "optimizer"] = "gradient" if problem.preconditioner is None else "optimizer"
    return _summary(tried, name, confidence)


def _slope(gradient: Mapping[str, Tensor], diagonal: Mapping[str, Tensor] | None) -> float:
    """g'Dg: what a small step gains per unit of eta."""
    return sum(
        squared_norm(part.reshape(-1), None if diagonal is None else diagonal[name].sqrt().reshape(-1))
        for name, part in gradient.items()
    )


def _losses(problem: Problem, batches: Sequence[Any], seed: int) -> Array:
    seed_everything(seed)
    return torch.stack([problem.loss(batch).float().reshape(()) for batch in batches]).cpu().double().numpy()


def _bracket(losses: Callable[[float], float], start: float, first: float) -> None:
    """Walk in factors of 4 until the best step has worse ones on both sides, then halve the gaps."""
    best = first
    for _ in range(MAX_MOVES):
        here, below, above = losses(best), losses(best / 4), losses(best * 4)
        if here >= start or below < here:
            best /= 4
        elif above < here:
            best *= 4
        else:
            losses(best / 2)
            losses(best * 2)
            return


def _summary(
    tried: Mapping[float, Array], direction: Literal["gradient", "optimizer"], confidence: float
) -> LineSearch:
    rates = np.array(sorted(tried))
    table = np.array([tried[rate] for rate in rates])
    chunks = table.shape[1]
    kept = [np.delete(table, chunk, axis=1).mean(1) for chunk in range(chunks)]
    loss = _interval(table[0].mean(), np.array([rest[0] for rest in kept]), confidence)
    best, replicates = _vertex(rates, table.mean(1)), [_vertex(rates, rest) for rest in kept]
    if best is None or None in replicates:
        return LineSearch(direction=direction, loss=loss, learning_rate=None, loss_decrease=None)
    steps, drops = np.array(replicates, dtype=float).T
    return LineSearch(
        direction=direction,
        loss=loss,
        learning_rate=_log_interval(best[0], steps, confidence),
        loss_decrease=_interval(best[1], drops, confidence),
    )


def _vertex(rates: Array, losses: Array) -> tuple[float, float] | None:
    """Minimum of the parabola through the lowest point and its neighbours: (eta, decrease)."""
    finite = np.isfinite(losses)
    rates, losses = rates[finite], losses[finite]
    lowest = int(losses.argmin())
    if lowest in (0, len(rates) - 1):
        return None
    around = slice(lowest - 1, lowest + 2)
    curvature, slope, offset = np.polyfit(rates[around], losses[around], 2)
    rate = float(np.clip(-slope / (2 * curvature), rates[lowest - 1], rates[lowest + 1]))
    return rate, float(losses[0] - (offset + slope * rate + curvature * rate**2))


def _interval(value: float, replicates: Array, confidence: float) -> Estimate:
    interval = symmetric_interval(
        value, float(jackknife_variance(replicates)), confidence, len(replicates) - 1
    )
    return Estimate(
        value=float(value), low=float(interval.low), high=float(interval.high), confidence=confidence
    )


def _log_interval(value: float, replicates: Array, confidence: float) -> Estimate:
    logs = _interval(math.log(value), np.log(replicates), confidence)
    low, high = (math.exp(min(end, 700.0)) for end in (logs.low or 0.0, logs.high or 0.0))
    return Estimate(value=value, low=low, high=high, confidence=confidence)


def _mean(values: Array | None) -> float:
    return math.inf if values is None or not np.isfinite(values).all() else float(values.mean())
