"""Best single steps as the tool finds them, and what exact curvature makes of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from bsadvisor.theory.noise_scale import Array
from tests.benchmarks.local.probes import Checkpoint, Curve


def the_tool(checkpoint: Checkpoint, batch_sizes: Sequence[int], seed: int) -> Curve:
    """What the report's section `local` says."""
    found = checkpoint.probe(seed).best_step
    if found is None:
        return {}
    points = {size: found.at(size) for size in batch_sizes}
    return positive({size: (rate.value or 0.0, drop.value or 0.0) for size, (rate, drop) in points.items()})


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
