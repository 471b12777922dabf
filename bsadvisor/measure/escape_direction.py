"""Along one direction of negative curvature: certificate, slope, noise, and the loss to be gained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsadvisor.measure.hessian import Hessian
from bsadvisor.measure.norms import check_finite, squared_norm
from bsadvisor.measure.preserve import moved
from bsadvisor.measure.statistics import estimate
from bsadvisor.theory.curvature_noise import mean_interval
from bsadvisor.theory.noise_scale import Array
from bsadvisor.values import EscapeDirection, Estimate

CERTIFICATE = 0.99
"""One-sided confidence that the curvature is negative."""

ESCAPED_SHARE = 0.05
"""Of the loss: a run that has lost this much has left."""

FIRST_DROP = 0.01
"""The first step tried takes this share of the loss off, if the curvature holds on."""

STEPS_TRIED = tuple(2.0**power for power in range(-5, 7))
"""Times the first one, in both directions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlongDirection:
    """Derivatives of every certificate micro-batch along a unit vector v of the scaled coordinates."""

    displacement: Tensor
    """(P,): D^1/2 v, a unit step in the space of the parameters; empty where it was let go."""
    squared_length: float
    """Of that step."""
    slopes: Array
    """(K,): h_k . v."""
    curvatures: Array
    """(K,): v'H_k v."""
    examples: int
    """b, of each micro-batch."""

    @property
    def negative(self) -> bool:
        """Whether the mean curvature is below zero at all."""
        return float(self.curvatures.mean()) < 0

    def without_vector(self) -> AlongDirection:
        """The figures alone: on a large model every vector counts."""
        return replace(self, displacement=self.displacement.new_empty(0))


def along_directions(
    hessian: Hessian,
    batches: Sequence[Any],
    vectors: Sequence[Tensor],
    *,
    examples: int,
    first_number: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[list[AlongDirection], Array] | None:
    """Slopes and curvatures along each of some unit vectors, on examples that did not choose them.

    Args:
        vectors: (P,) each, in the scaled coordinates; they become displacements in place.
        examples: of each micro-batch.
        first_number: of these micro-batches, for their dropout masks.

    Returns:
        One row per vector, and z'H_k z with random signs z for each micro-batch: its mean is the trace.
        None where `should_stop`, asked before every micro-batch, said so.

    Raises:
        FloatingPointError: a product is not finite.

    Source: Hutchinson 1990 for the trace.
    Cost: one gradient, a product per vector and one more for each micro-batch; two vectors more.
    """
    shape = len(vectors), len(batches)
    slopes, curvatures, traces = np.zeros(shape), np.zeros(shape), np.zeros(len(batches))
    generator = torch.Generator().manual_seed(hessian.seed)
    directions = [hessian.displace(vector) for vector in vectors]
    for column, batch in enumerate(batches):
        if should_stop():
            return None
        signs = torch.randint(0, 2, directions[0].shape, generator=generator, dtype=torch.int8)
        probe = hessian.displace(signs.mul_(2).sub_(1).to(directions[0]))
        slope, curvature = hessian.inner_products(batch, first_number + column, [*directions, probe])
        slopes[:, column], curvatures[:, column], traces[column] = slope[:-1], curvature[:-1], curvature[-1]
        check_finite(traces[column], *slopes[:, column], *curvatures[:, column])
    rows = [
        AlongDirection(
            displacement=direction,
            squared_length=squared_norm(direction),
            slopes=slope,
            curvatures=curvature,
            examples=examples,
        )
        for direction, slope, curvature in zip(directions, slopes, curvatures, strict=True)
    ]
    return rows, traces


def escape_direction(
    hessian: Hessian,
    batches: Sequence[Any],
    along: AlongDirection,
    *,
    noise_trace: float | None,
    first_number: int,
    should_stop: Callable[[], bool],
) -> EscapeDirection | None:
    """Everything that the saddle verdict needs along the most negative direction.

    Args:
        batches: those that `along` was measured on.
        noise_trace: tr(Sigma) in the same geometry.
        first_number: of these micro-batches, for their dropout masks.

    Returns:
        None where `should_stop` said so.

    Cost: 21 forward passes over `batches`; two copies of the parameters.
    """
    scan = _scan(hessian, batches, along, first_number, should_stop)
    if scan is None:
        return None
    curvature = one_sided(along.curvatures, CERTIFICATE)
    noise = float(along.slopes.var(ddof=1)) * along.examples
    return EscapeDirection(
        curvature=curvature,
        parameter_curvature=_divided(curvature, along.squared_length),
        gradient=one_sided(along.slopes, CERTIFICATE),
        noise=noise,
        isotropic_noise=noise if noise_trace is None else noise_trace / hessian.num_parameters,
        loss=scan.loss,
        loss_drop=scan.drop,
        escaped_drop=scan.escaped_drop,
        distance=scan.distance,
        lowest_at=scan.lowest_at,
        examples=along.examples * len(batches),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    loss: float
    drop: Estimate
    escaped_drop: float | None
    distance: float | None
    lowest_at: float | None


def _scan(
    hessian: Hessian,
    batches: Sequence[Any],
    along: AlongDirection,
    first_number: int,
    should_stop: Callable[[], bool],
) -> _Scan | None:
    """Losses at growing steps to both sides, cross-fitted between the two halves of the micro-batches."""

    def losses() -> Array:
        return np.array([float(hessian.loss(batch, first_number + k)) for k, batch in enumerate(batches)])

    start = losses()
    loss = float(start.mean())
    bend = max(-float(along.curvatures.mean()), 1e-12 * (abs(loss) or 1.0))
    first = math.sqrt(2 * FIRST_DROP * (abs(loss) or 1.0) / bend)
    steps = np.array([sign * first * step for sign in (1.0, -1.0) for step in STEPS_TRIED])
    drops = np.zeros((len(steps), len(batches)))
    with moved(hessian.leaves, hessian.split(along.displacement)) as move:
        for row, step in enumerate(steps):
            if should_stop():
                return None
            move(float(step))
            drops[row] = start - losses()
    drops = np.where(np.isfinite(drops), drops, -np.inf)
    mean = drops.mean(1)
    half = float(mean.max()) / 2
    escaped = min(ESCAPED_SHARE * abs(loss) or half, half) if half > 0 else None
    return _Scan(
        loss=loss,
        drop=_cross_fitted(drops),
        escaped_drop=escaped,
        distance=None if escaped is None else _distance(steps, mean, escaped),
        lowest_at=None if escaped is None else float(steps[mean.argmax()]),
    )


def _cross_fitted(drops: Array) -> Estimate:
    """The fall at the step that the other half of the micro-batches likes best."""
    even = np.arange(drops.shape[1]) % 2 == 0
    chosen = np.where(even, drops[:, ~even].mean(1).argmax(), drops[:, even].mean(1).argmax())
    return one_sided(drops[chosen, np.arange(drops.shape[1])], CERTIFICATE)


def _distance(steps: Array, drops: Array, wanted: float) -> float:
    """Where, on the way to the best step, so much of the loss is gone."""
    side = np.sign(steps) == np.sign(steps[int(drops.argmax())])
    reached, fall = (np.concatenate([[0.0], part[side]]) for part in (np.abs(steps), drops))
    above = int((fall >= wanted).argmax())
    # Between two steps the loss falls about as the square of the distance.
    lower = max(fall[above - 1], 0.0)  # at a step where the loss overflowed, minus infinity
    share = (wanted - lower) / (fall[above] - lower)
    return math.sqrt(reached[above - 1] ** 2 + share * (reached[above] ** 2 - reached[above - 1] ** 2))


def one_sided(values: Array, confidence: float) -> Estimate:
    """The mean of independent values; each end holds with `confidence` by itself.

    Without a value where one of them is not finite.
    """
    if not np.isfinite(values).all():
        return Estimate(value=None, low=None, high=None, confidence=confidence)
    return estimate(mean_interval(values, confidence, one_sided=True), confidence)


def _divided(estimate: Estimate, by: float) -> Estimate:
    value, low, high = (
        None if end is None else end / by for end in (estimate.value, estimate.low, estimate.high)
    )
    return Estimate(value=value, low=low, high=high, confidence=estimate.confidence)
