"""What predicts the best single step: each method answers a whole ladder of batch sizes from one probe's seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsadvisor import pipeline
from bsadvisor.advise.local_curve import local_curve, noise_free
from bsadvisor.measure.line_search import CHUNKS, line_search
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.statistics import gradient_stats, noise_trace, squared_norm
from bsadvisor.theory.noise_scale import Array
from bsadvisor.values import AssumptionFacts, Estimate, ProbeSettings
from tests.benchmarks.local.full_data import FullData, full_data
from tests.benchmarks.local.truth import Row
from tests.benchmarks.tasks import Task

Curve = dict[int, tuple[float, float]]
"""(eta, loss decrease) by batch size, where the method has an answer."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What one seed of the tool's probe found."""

    sampler: Sampler
    examples: int
    micro_batch: int
    held_back: tuple[int, int]
    """Number and size of the line search's batches."""
    noise_scale: Estimate
    """B_simple in the optimizer's own geometry."""
    slope: float
    """G'DG without bias: of the population."""
    trace: float
    """tr(D Sigma)."""
    learning_rate: Estimate | None
    loss_decrease: Estimate | None

    @property
    def resolved(self) -> bool:
        return self.learning_rate is not None and self.noise_scale.value is not None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A task, its truth, and the probes made of it."""

    task: Task
    row: Row
    probes: dict[int, Probe] = field(default_factory=dict)

    def probe(self, seed: int) -> Probe:
        """Each seed is probed once, whatever the number of methods that ask."""
        if seed not in self.probes:
            self.probes[seed] = run_probe(self.task, seed)
        return self.probes[seed]


Method = Callable[[Checkpoint, Sequence[int], int], Curve]


def run_probe(task: Task, seed: int) -> Probe:
    """The tool's gradient rounds and line search, as a user with its defaults meets them."""
    settings = ProbeSettings(time_budget=1e9)
    sampler = Sampler(task.data, seed=seed)
    session = pipeline.Session(
        target=task,  # type: ignore[arg-type]
        settings=replace(settings, seed=seed),
        watch=pipeline.Stopwatch(budget=1e9, began=time.perf_counter()),
        progress=lambda progress: None,
        stop=pipeline.StopSignal(),
    )
    measured, _, _ = pipeline.gradient_rounds(session, sampler, AssumptionFacts(), None)
    gradient = gradient_stats(
        measured,
        confidence=settings.confidence,
        precision=settings.precision,
        batch_size=None,
        learning_rate=None,
    )
    sums = measured.accumulator.sums(preconditioned=task.preconditioner is not None)
    examples = measured.accumulator.num_examples
    tried = min(sampler.num_line_search, max(examples // pipeline.LINE_SEARCH_SHARE, 4 * CHUNKS))
    size = max(1, min(measured.micro_batch, tried // CHUNKS))
    found = line_search(
        task,
        sampler.line_search(tried // size, size),
        measured.accumulator.total_gradient(),
        weight=measured.accumulator.total_weight,
        confidence=settings.confidence,
        seed=seed,
        should_stop=lambda: False,
    )
    return Probe(
        sampler=sampler,
        examples=examples,
        micro_batch=measured.micro_batch,
        held_back=(tried // size, size),
        noise_scale=gradient.noise_scale_preconditioned or gradient.noise_scale_simple,
        slope=squared_norm(sums, settings.confidence).value or 0.0,
        trace=noise_trace(sums, settings.confidence).value or 0.0,
        learning_rate=found.learning_rate if found else None,
        loss_decrease=found.loss_decrease if found else None,
    )


# --- from the line search and a noise scale ---------------------------------------------------------


def with_simple(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """What the tool prints where no curvature was measured: B_simple in place of B_noise."""
    probe = checkpoint.probe(seed)
    return _from_line_search(probe, probe.noise_scale, batch_sizes)


def with_exact_noise(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """The probe's line search, and B_noise from exact curvature over all data."""
    return _from_line_search(
        checkpoint.probe(seed), _exactly(checkpoint.row.curvature.noise_scale), batch_sizes
    )


def with_exact_slope(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """As above, with slope / eta_max in place of G'DHDG: the curvature that the line search itself met.

    B_noise is then eta_max tr(DHD Sigma) / G'DG, with eta_max = eta_n (1 + B_noise / n).
    """
    probe, about = checkpoint.probe(seed), checkpoint.row.curvature
    if probe.learning_rate is None or probe.learning_rate.value is None:
        return {}
    per_example = probe.learning_rate.value * about.of_noise / about.slope
    share = 1 - per_example / probe.examples
    return _from_line_search(probe, _exactly(per_example / share), batch_sizes) if share > 0 else {}


def _from_line_search(probe: Probe, noise_scale: Estimate, batch_sizes: Sequence[int]) -> Curve:
    if not probe.resolved or noise_scale.value is None or noise_scale.value <= 0:
        return {}
    assert probe.learning_rate is not None and probe.loss_decrease is not None
    points = local_curve(
        noise_free(probe.learning_rate, probe.examples, noise_scale),
        noise_free(probe.loss_decrease, probe.examples, noise_scale),
        noise_scale,
        batch_sizes,
    )
    return _positive(
        {
            point.batch_size: (point.learning_rate.value or 0.0, point.loss_decrease.value or 0.0)
            for point in points
        }
    )


def _exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value, confidence=0.95)


def _positive(curve: Mapping[int, tuple[float, float]]) -> Curve:
    """A step or decrease that is not positive is no answer."""
    return {
        size: pair for size, pair in curve.items() if min(pair) > 0 and all(math.isfinite(x) for x in pair)
    }


# --- from all data -----------------------------------------------------------------------------------


def quadratic(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """The quadratic model with exact slope and curvatures: no line search."""
    about = checkpoint.row.curvature
    curve = {}
    for size in batch_sizes:
        steepness = about.along_gradient + about.of_noise / size
        curve[size] = (about.slope / steepness, about.slope**2 / (2 * steepness))
    return _positive(curve)


def exact_line(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """The exact line along D G, less eta^2 tr(DHD Sigma) / 2B."""
    rates, decreases = np.array(checkpoint.row.line).T
    noise = checkpoint.row.curvature.of_noise
    return _positive({size: _best(rates, decreases - rates**2 * noise / (2 * size)) for size in batch_sizes})


def _best(rates: Array, decreases: Array) -> tuple[float, float]:
    """The top of the parabola through the best point and its neighbours; nothing where it is at an end."""
    best = int(np.nanargmax(decreases))
    if best in (0, len(rates) - 1):
        return math.nan, math.nan
    around = slice(best - 1, best + 2)
    curvature, slope, offset = np.polyfit(rates[around], decreases[around], 2)
    rate = float(-slope / (2 * curvature))
    return rate, float(offset + slope * rate + curvature * rate**2)


# --- from the line along the probe's gradient ----------------------------------------------------------

DIRECTIONS = 16
"""Micro-batch updates along which steps are tried, or curvature is measured."""

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
        return _positive(
            {
                size: _best(self.rates, self.decreases - cost * (1 / size - 1 / self.examples))
                for size in batch_sizes
            }
        )


def line_held_back(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """The line on the examples held back, and the exact curvature of the noise."""
    held, measured = _halves(checkpoint.task, checkpoint.probe(seed))
    return _line(held, measured).curve(checkpoint.row.curvature.of_noise, batch_sizes)


def line_tilted(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """As above; all measured examples give the slope, those held back only what bends the line."""
    held, measured = _halves(checkpoint.task, checkpoint.probe(seed))
    return _tilted(checkpoint, seed, held, measured).curve(checkpoint.row.curvature.of_noise, batch_sizes)


def line_own(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """The line on the examples that made the update, less the slope tr(D Sigma)/n that they owe to it."""
    _, measured = _halves(checkpoint.task, checkpoint.probe(seed))
    return _tilted(checkpoint, seed, measured, measured).curve(checkpoint.row.curvature.of_noise, batch_sizes)


def line_tilted_probed(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """The tilted line; curvature of the noise on the examples held back, along a few micro-batch updates."""
    held, measured = _halves(checkpoint.task, checkpoint.probe(seed))
    noise = _curvature_of(_noises(measured, checkpoint.probe(seed)), held)
    return _tilted(checkpoint, seed, held, measured).curve(noise, batch_sizes)


def line_own_probed(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """As above, on the examples that made the updates."""
    _, measured = _halves(checkpoint.task, checkpoint.probe(seed))
    noise = _curvature_of(_noises(measured, checkpoint.probe(seed)), measured)
    return _tilted(checkpoint, seed, measured, measured).curve(noise, batch_sizes)


def line_own_forward(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """As above, with the curvature from steps along noisy updates: forward passes alone."""
    probe = checkpoint.probe(seed)
    _, measured = _halves(checkpoint.task, probe)
    line = _tilted(checkpoint, seed, measured, measured)
    noises, size = _noises(measured, probe), probe.micro_batch
    step = _first_step(probe)
    for _ in range(ROUNDS):
        noise = _curvature_by_steps(noises, measured, step, size)
        step = line.curve(noise, [size]).get(size, (step / 4, 0.0))[0]
    return line.curve(noise, batch_sizes)


def _tilted(checkpoint: Checkpoint, seed: int, tried: FullData, measured: FullData) -> Line:
    """The line on some examples with the slope that all data has: the population's G'DG and tr(D Sigma)/N."""
    probe = checkpoint.probe(seed)
    update = measured.update(torch.arange(measured.size))
    found = float(tried.gradient(torch.arange(tried.size)) @ update)
    return _line(tried, measured).tilted(probe.slope + probe.trace / checkpoint.row.examples - found)


def _noises(measured: FullData, probe: Probe) -> list[Tensor]:
    """Deviations of micro-batch updates from their mean, scaled to the covariance of one example's."""
    update, size = measured.update(torch.arange(measured.size)), probe.micro_batch
    scale = math.sqrt(size / (1 - size / measured.size))
    chunks = torch.arange(measured.size).split(size)[:DIRECTIONS]
    return [scale * (measured.update(rows) - update) for rows in chunks]


def _curvature_of(noises: Sequence[Tensor], tried: FullData) -> float:
    """tr(DHD Sigma) by second derivatives on some examples."""
    return float(np.mean([tried.curvature_along(noise) for noise in noises]))


def _curvature_by_steps(noises: Sequence[Tensor], measured: FullData, step: float, size: int) -> float:
    """tr(DHD Sigma) where steps along g + e and g - e end: their mean loss less that of g, e of a micro-batch."""
    update = measured.update(torch.arange(measured.size))
    shares = [noise / math.sqrt(size) for noise in noises]
    losses = [measured.loss(step * (update + sign * share)) for share in shares for sign in (1, -1)]
    excess = float(np.mean(losses)) - measured.loss(step * update)
    return 2 * size * excess / step**2


def _first_step(probe: Probe) -> float:
    """A step that should be near the best at the micro-batch's size."""
    curve = _from_line_search(probe, probe.noise_scale, [probe.micro_batch])
    return curve[probe.micro_batch][0] if curve else probe.micro_batch / probe.examples


def _line(tried: FullData, measured: FullData) -> Line:
    """Steps in factors of 1.5 around the one that takes the loss off to first order."""
    update = measured.update(torch.arange(measured.size))
    gradient = tried.gradient(torch.arange(tried.size))
    start = tried.loss(torch.zeros_like(update))
    rates = start / abs(float(gradient @ update)) * 1.5 ** np.arange(-18.0, 6.0)
    decreases = np.array([start - tried.loss(float(rate) * update) for rate in rates])
    return Line(rates=rates, decreases=decreases, examples=measured.size)


def _halves(task: Task, probe: Probe) -> tuple[FullData, FullData]:
    """The line search's examples, and those of the gradient."""
    count, size = probe.held_back
    held = probe.sampler.line_search(count, size)
    measured = probe.sampler.gradient(0, probe.examples // probe.micro_batch, probe.micro_batch)
    return _only(task, held), _only(task, measured)


def _only(task: Task, batches: Iterable[Any]) -> FullData:
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return full_data(replace(task, inputs=inputs, targets=targets))
