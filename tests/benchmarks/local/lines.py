"""Best single steps from the line along a probe's mean update and the curvature of its noise.

E L(theta - eta D g_B) is the loss along the noise-free update, whatever its shape, and
eta^2 tr(DHD Sigma) / 2B. Nothing else is taken to be quadratic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsadvisor.theory.local import saturation
from bsadvisor.theory.noise_scale import Array
from tests.benchmarks.local.full_data import FullData, full_data
from tests.benchmarks.local.methods import best, positive
from tests.benchmarks.local.probes import Checkpoint, Curve, Probe
from tests.benchmarks.tasks import Task

DIRECTIONS = 16
"""Micro-batch updates along which steps are tried, or curvature is measured."""

PART = 256
"""Examples on which steps are tried, where not on all."""

ROUNDS = 2
"""The second one tries steps of the size that the first one finds best."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Loss decreases along the probe's mean update, on some examples."""

    rates: Array
    decreases: Array
    examples: int
    """Of the update."""

    def tilted(self, slope: float) -> Line:
        """The same with a slope added, where a better one is known."""
        return replace(self, decreases=self.decreases + self.rates * slope)

    def curve(self, noise_curvature: float, batch_sizes: Sequence[int]) -> Curve:
        """The best steps once the noise of B examples' updates replaces that of this one."""
        cost = self.rates**2 * noise_curvature / 2
        return positive(
            {
                size: best(self.rates, self.decreases - cost * (1 / size - 1 / self.examples))
                for size in batch_sizes
            }
        )


def held_back(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """The line on the examples held back, and the exact curvature of the noise."""
    held, measured = halves(checkpoint.task, checkpoint.probe(seed))
    return _line(held, measured).curve(checkpoint.row.curvature.of_noise, batch_sizes)


def tilted(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """As above; all measured examples give the slope, those held back only what bends the line."""
    held, measured = halves(checkpoint.task, checkpoint.probe(seed))
    return tilted_line(checkpoint, seed, held, measured).curve(checkpoint.row.curvature.of_noise, batch_sizes)


def own(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """The line on the examples that made the update, less the slope tr(D Sigma)/n that they owe to it."""
    _, measured = halves(checkpoint.task, checkpoint.probe(seed))
    return tilted_line(checkpoint, seed, measured, measured).curve(
        checkpoint.row.curvature.of_noise, batch_sizes
    )


def tilted_probed(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """The tilted line; curvature of the noise on the examples held back, along a few micro-batch updates."""
    held, measured = halves(checkpoint.task, checkpoint.probe(seed))
    noise = _curvature_of(_noises(measured, checkpoint.probe(seed)), held)
    return tilted_line(checkpoint, seed, held, measured).curve(noise, batch_sizes)


def own_probed(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """As above, on the examples that made the updates."""
    _, measured = halves(checkpoint.task, checkpoint.probe(seed))
    noise = _curvature_of(_noises(measured, checkpoint.probe(seed)), measured)
    return tilted_line(checkpoint, seed, measured, measured).curve(noise, batch_sizes)


def own_forward(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """As above, with the curvature from forward passes alone.

    Steps along g + e and g - e end, for a micro-batch update g + e, at a mean loss that is
    eta^2 tr(DHD Sigma) / 2b above that of g: with the curvature where the step ends.
    """
    _, measured = halves(checkpoint.task, checkpoint.probe(seed))
    return _forward(checkpoint, batch_sizes, seed, measured, measured)


def part_forward(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """As above, on a part of the examples that made the update."""
    _, measured = halves(checkpoint.task, checkpoint.probe(seed))
    rows = ((measured.task.inputs[:PART], measured.task.targets[:PART]),)
    return _forward(checkpoint, batch_sizes, seed, _only(checkpoint.task, rows), measured)


def tilted_forward(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """As above, on the examples held back."""
    held, measured = halves(checkpoint.task, checkpoint.probe(seed))
    return _forward(checkpoint, batch_sizes, seed, held, measured)


def _forward(
    checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int, tried: FullData, measured: FullData
) -> Curve:
    probe = checkpoint.probe(seed)
    line = tilted_line(checkpoint, seed, tried, measured)
    update, noises, size = _update(measured), _noises(measured, probe), probe.micro_batch
    step = _first_step(line, probe)
    for _ in range(ROUNDS):
        shares = [step * noise / math.sqrt(size) for noise in noises]
        losses = [tried.loss(step * update + sign * share) for share in shares for sign in (1, -1)]
        noise = 2 * size * (float(np.mean(losses)) - tried.loss(step * update)) / step**2
        step = line.curve(noise, [size]).get(size, (step / 4, 0.0))[0]
    return line.curve(noise, batch_sizes)


def tilted_line(checkpoint: Checkpoint, seed: int, tried: FullData, measured: FullData) -> Line:
    """The line on some examples with the slope that all data has: the population's G'DG and tr(D Sigma)/N."""
    probe = checkpoint.probe(seed)
    update = _update(measured)
    found = float(tried.gradient(torch.arange(tried.size)) @ update)
    return _line(tried, measured).tilted(probe.slope + probe.trace / checkpoint.row.examples - found)


def _noises(measured: FullData, probe: Probe) -> list[Tensor]:
    """Deviations of micro-batch updates from their mean, scaled to the covariance of one example's."""
    update, size = _update(measured), probe.micro_batch
    scale = math.sqrt(size / (1 - size / measured.size))
    chunks = torch.arange(measured.size).split(size)[:DIRECTIONS]
    return [scale * (measured.update(rows) - update) for rows in chunks]


def _curvature_of(noises: Sequence[Tensor], tried: FullData) -> float:
    """tr(DHD Sigma) by second derivatives on some examples."""
    return float(np.mean([tried.curvature_along(noise) for noise in noises]))


def _update(measured: FullData) -> Tensor:
    return measured.update(torch.arange(measured.size))


def _first_step(line: Line, probe: Probe) -> float:
    """A step that should be near the best at the micro-batch's size."""
    rate, _ = best(line.rates, line.decreases)
    share = saturation(probe.micro_batch, probe.noise_scale.value or 0.0)
    return rate * share if math.isfinite(rate) else probe.micro_batch / probe.examples


def _line(tried: FullData, measured: FullData) -> Line:
    """Steps in factors of 1.5 around the one that takes the loss off to first order."""
    update = _update(measured)
    gradient = tried.gradient(torch.arange(tried.size))
    start = tried.loss(torch.zeros_like(update))
    rates = start / abs(float(gradient @ update)) * 1.5 ** np.arange(-18.0, 6.0)
    decreases = np.array([start - tried.loss(float(rate) * update) for rate in rates])
    return Line(rates=rates, decreases=decreases, examples=measured.size)


def halves(task: Task, probe: Probe) -> tuple[FullData, FullData]:
    """The line search's examples, and those of the gradient."""
    count, size = probe.held_back
    held = probe.sampler.line_search(count, size)
    measured = probe.sampler.gradient(0, probe.examples // probe.micro_batch, probe.micro_batch)
    return _only(task, held), _only(task, measured)


def _only(task: Task, batches: Iterable[Any]) -> FullData:
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return full_data(replace(task, inputs=inputs, targets=targets))
