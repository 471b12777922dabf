"""The ridge that dropout before a linear layer amounts to, from the inputs of the layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsadvisor.measure.curvature_stats import mean_estimate
from bsadvisor.measure.dropout_calls import LinearCall, dropout_watched
from bsadvisor.measure.lanczos import lanczos
from bsadvisor.measure.preserve import preserved
from bsadvisor.measure.problem import Problem
from bsadvisor.measure.statistics import estimate
from bsadvisor.random_state import seed_everything
from bsadvisor.theory.mask_noise import ridge_strength
from bsadvisor.theory.noise_scale import Array, Interval, jackknife_variance, symmetric_interval
from bsadvisor.values import DropoutRidge, Estimate

MOST_ROWS = 128
"""Of a micro-batch's inputs (examples, or positions of them) that an eigenvalue is taken from."""

ITERATIONS = 40
"""Of Lanczos, at most: the largest eigenvalue of a second-moment matrix stands well apart."""

TOLERANCE = 1e-3


@dataclass(kw_only=True)
class _Layer:
    """A linear layer behind dropout, over the micro-batches."""

    keep: float
    rows: list[Tensor] = field(default_factory=list)
    """(rows, features and a bias) of each micro-batch."""
    squares: list[float] = field(default_factory=list)
    """Mean square of a feature, of each micro-batch."""
    bias: bool = False


def dropout_ridges(
    problem: Problem, batches: Iterator[Any], *, confidence: float, seed: int, should_stop: Callable[[], bool]
) -> tuple[DropoutRidge, ...]:
    """Strength and effect of every ridge that the model's dropout makes.

    Args:
        batches: whose means are taken as independent.

    Cost: a forward pass over each batch.
    """
    layers: dict[tuple[str, float], _Layer] = {}
    with preserved(problem.model), torch.no_grad():
        seed_everything(seed)
        for batch in batches:
            if should_stop():
                break
            with dropout_watched(problem.model, inputs=True) as seen:
                problem.loss(batch)
            _add(layers, seen.linear)
        found = [_ridge(name, layer, confidence) for (name, _), layer in layers.items()]
    return tuple(ridge for ridge in found if ridge is not None)


def _add(layers: dict[tuple[str, float], _Layer], calls: list[LinearCall]) -> None:
    """A layer that is called several times has all their rows."""
    together: dict[tuple[str, float], list[Tensor]] = {}
    for call in calls:
        key = call.name, call.keep
        layers.setdefault(key, _Layer(keep=call.keep, bias=call.has_bias))
        together.setdefault(key, []).append(call.input.flatten(0, -2).float())
    for key, parts in together.items():
        rows, layer = torch.cat(parts), layers[key]
        layer.squares.append(float(rows.square().mean()))
        some = rows[:: -(-len(rows) // MOST_ROWS)]
        layer.rows.append(torch.cat([some, torch.ones_like(some[:, :1])], dim=1) if layer.bias else some)


def _ridge(name: str, layer: _Layer, confidence: float) -> DropoutRidge | None:
    if len(layer.squares) < 2:
        return None
    strengths = np.array([ridge_strength(layer.keep, square) for square in layer.squares])
    return DropoutRidge(
        name=name,
        keep=layer.keep,
        strength=mean_estimate(strengths, confidence),
        learning_rate_factor=_learning_rate_factor(layer, confidence),
    )


def _learning_rate_factor(layer: _Layer, confidence: float) -> Estimate:
    """lambda(M) / lambda(M + (1 - q) / q diag(M)), M the second moments of the inputs; the bias is not dropped.

    The layer's Hessian is M times the output's where the two are independent, and so is the limit's change.
    Replicates are of first order: the eigenvectors stay.
    """
    plain = _along(layer, _top(layer, 0.0), 0.0)
    spread = (1 - layer.keep) / layer.keep
    dropped = _along(layer, _top(layer, spread), spread)
    if not plain.mean() > 0:
        return Estimate(value=None, low=None, high=None, confidence=confidence)
    logs = np.log(_others(plain) / _others(dropped))
    interval = symmetric_interval(
        float(np.log(plain.mean() / dropped.mean())),
        float(jackknife_variance(logs)),
        confidence,
        len(logs) - 1,
    )
    low, value, high = np.exp([interval.low, interval.value, interval.high])
    return estimate(Interval(value=float(value), low=float(low), high=min(float(high), 1.0)), confidence)


def _others(values: Array) -> Array:
    return np.asarray((values.sum() - values) / (len(values) - 1))


def _spreads(layer: _Layer, spread: float) -> Tensor:
    """(features and a bias,): the factor before diag(M) of each."""
    factors = torch.full_like(layer.rows[0][0], spread)
    if layer.bias:
        factors[-1] = 0.0
    return factors


def _top(layer: _Layer, spread: float) -> Tensor:
    """The eigenvector of the largest eigenvalue."""
    count = len(layer.rows)
    diagonal = torch.stack([rows.square().mean(0) for rows in layer.rows]).mean(0) * _spreads(layer, spread)

    def product(vector: Tensor, into: Tensor) -> None:
        into.add_(diagonal * vector)
        for rows in layer.rows:
            into.add_(rows.T @ (rows @ vector), alpha=1 / (count * len(rows)))

    def start() -> Tensor:
        return torch.ones_like(diagonal)

    found = lanczos(product, start, max_iterations=ITERATIONS, tolerance=TOLERANCE, keep_basis=True)
    return found.highest.vector


def _along(layer: _Layer, vector: Tensor, spread: float) -> Array:
    """v'(M + spread diag(M))v of each micro-batch."""
    weights = _spreads(layer, spread) * vector.square()
    along = [(rows @ vector).square().mean() + rows.square().mean(0) @ weights for rows in layer.rows]
    return np.asarray(torch.stack(along).double().cpu().numpy())
