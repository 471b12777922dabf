"""Best single steps from a line search and a noise scale, and what exact curvature makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bsadvisor.advise.local_curve import local_curve, noise_free
from bsadvisor.theory.noise_scale import Array
from bsadvisor.values import Estimate
from tests.benchmarks.local.probes import Checkpoint, Curve, Probe


def with_simple(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """What the tool prints where no curvature was measured: B_simple in place of B_noise."""
    probe = checkpoint.probe(seed)
    return from_line_search(probe, probe.noise_scale, batch_sizes)


def with_exact_noise(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """The probe's line search, and B_noise from exact curvature over all data."""
    return from_line_search(
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
    return from_line_search(probe, _exactly(per_example / share), batch_sizes) if share > 0 else {}


def from_line_search(probe: Probe, noise_scale: Estimate, batch_sizes: Sequence[int]) -> Curve:
    if not probe.resolved or noise_scale.value is None or noise_scale.value <= 0:
        return {}
    assert probe.learning_rate is not None and probe.loss_decrease is not None
    points = local_curve(
        noise_free(probe.learning_rate, probe.examples, noise_scale),
        noise_free(probe.loss_decrease, probe.examples, noise_scale),
        noise_scale,
        batch_sizes,
    )
    return positive(
        {
            point.batch_size: (point.learning_rate.value or 0.0, point.loss_decrease.value or 0.0)
            for point in points
        }
    )


def _exactly(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value, confidence=0.95)


def positive(curve: Mapping[int, tuple[float, float]]) -> Curve:
    """A step or decrease that is not positive is no answer."""
    return {
        size: pair for size, pair in curve.items() if min(pair) > 0 and all(math.isfinite(x) for x in pair)
    }


def quadratic(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """The quadratic model with exact slope and curvatures: no line search."""
    about = checkpoint.row.curvature
    curve = {}
    for size in batch_sizes:
        steepness = about.along_gradient + about.of_noise / size
        curve[size] = (about.slope / steepness, about.slope**2 / (2 * steepness))
    return positive(curve)


def exact_line(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """The exact line along D G, less eta^2 tr(DHD Sigma) / 2B."""
    rates, decreases = np.array(checkpoint.row.line).T
    noise = checkpoint.row.curvature.of_noise
    return positive({size: best(rates, decreases - rates**2 * noise / (2 * size)) for size in batch_sizes})


def best(rates: Array, decreases: Array) -> tuple[float, float]:
    """The top of the parabola through the best point and its neighbours; nothing where it is at an end."""
    best = int(np.nanargmax(decreases))
    if best in (0, len(rates) - 1):
        return math.nan, math.nan
    around = slice(best - 1, best + 2)
    curvature, slope, offset = np.polyfit(rates[around], decreases[around], 2)
    rate = float(-slope / (2 * curvature))
    return rate, float(offset + slope * rate + curvature * rate**2)
