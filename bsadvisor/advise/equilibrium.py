"""Does the measured noise scale tell of the task, or only of the run's own learning rate and batch size?"""

from __future__ import annotations

import math

from bsadvisor.advise.update_rule import UpdateRule
from bsadvisor.theory import equilibrium as theory
from bsadvisor.theory.noise_scale import Interval
from bsadvisor.values import CurvatureStats, Equilibrium, EquilibriumVerdict, Estimate, GradientStats

HALF = 0.5
"""Of |G|^2: where the run's own noise makes more of it than that, the noise scale is the run's."""


def judge_equilibrium(
    gradient: GradientStats,
    curvature: CurvatureStats | None,
    rule: UpdateRule | None,
    *,
    batch_size: int | None,
    learning_rate: float | None,
) -> Equilibrium | None:
    """None where something is not known, or where noise is not held by positive curvature.

    Args:
        batch_size, learning_rate: of the run's last steps, so a decayed learning rate and not its peak.
    """
    along = curvature.along_noise if curvature else None
    if along is None or along.value is None or along.value <= 0 or rule is None or not rule.knows_geometry:
        return None
    if batch_size is None or not learning_rate:
        return None
    rate = rule.gradient_weight * learning_rate

    def own_at(mean_curvature: float | None) -> float:
        if mean_curvature is None or mean_curvature <= 0:
            return math.inf
        return theory.own_noise_scale(rule.scheme, rule.momentum, mean_curvature, rate, batch_size)

    own = Interval(value=own_at(along.value), low=own_at(along.high), high=own_at(along.low))
    measured = _own_geometry(gradient)
    found = theory.ratio(_interval(measured), own)
    return Equilibrium(
        noise_scale=_estimate(own, along.confidence),
        ratio=_estimate(found, min(measured.confidence, along.confidence)),
        batch_size=batch_size,
        learning_rate=learning_rate,
        verdict=_verdict(found),
    )


def _own_geometry(gradient: GradientStats) -> Estimate:
    """As the curvature is: in the optimizer's where that is known, which an estimated one is not."""
    known = gradient.squared_norm_preconditioned is not None
    own = gradient.noise_scale_preconditioned
    return own if known and own is not None else gradient.noise_scale_simple


def _verdict(found: Interval) -> EquilibriumVerdict:
    if found.low > HALF:
        return "run"
    return "task" if found.high < HALF else "unresolved"


def _interval(estimate: Estimate) -> Interval:
    value, low, high = (
        math.nan if end is None else end for end in (estimate.value, estimate.low, estimate.high)
    )
    return Interval(value=value, low=low, high=high)


def _estimate(interval: Interval, confidence: float) -> Estimate:
    value, low, high = (
        end if math.isfinite(end) else None for end in (interval.value, interval.low, interval.high)
    )
    return Estimate(value=value, low=low, high=high, confidence=confidence)
