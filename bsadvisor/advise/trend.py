"""What the noise scales of a run's checkpoints say together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from bsadvisor.theory.noise_trend import PowerLaw, fit_power_law, inverse_of
from bsadvisor.values import Estimate, NoiseTrend, TrackedCheckpoint, TrendVerdict

Geometry = Literal["simple", "preconditioned"]


def find_trends(checkpoints: Sequence[TrackedCheckpoint], *, confidence: float) -> tuple[NoiseTrend, ...]:
    """Against steps, where these are known, and against the loss; each only where a law can be fitted."""
    in_steps = all(checkpoint.step_from != "order" for checkpoint in checkpoints)
    found = (
        _trend("step", lambda one: float(one.step), checkpoints, confidence) if in_steps else None,
        _trend("loss", lambda one: one.loss.value if one.loss else None, checkpoints, confidence),
    )
    return tuple(trend for trend in found if trend is not None)


def own_geometry(checkpoints: Sequence[TrackedCheckpoint]) -> Geometry:
    """The optimizer's, where every checkpoint was measured in it."""
    whole = all(checkpoint.noise_scale_preconditioned is not None for checkpoint in checkpoints)
    return "preconditioned" if whole and checkpoints else "simple"


def noise_scale_of(checkpoint: TrackedCheckpoint, geometry: Geometry) -> Estimate:
    """In the geometry that all checkpoints have in common."""
    adaptive = checkpoint.noise_scale_preconditioned
    return adaptive if geometry == "preconditioned" and adaptive else checkpoint.noise_scale_simple


def _trend(
    against: Literal["step", "loss"],
    position: Callable[[TrackedCheckpoint], float | None],
    checkpoints: Sequence[TrackedCheckpoint],
    confidence: float,
) -> NoiseTrend | None:
    geometry = own_geometry(checkpoints)
    scales = [noise_scale_of(checkpoint, geometry) for checkpoint in checkpoints]
    inverses = [inverse_of(scale.value, scale.low, scale.high, scale.confidence) for scale in scales]
    points = [
        (x, inverse)
        for x, inverse in zip(map(position, checkpoints), inverses, strict=True)
        if x is not None and x > 0 and inverse is not None
    ]
    law = fit_power_law([x for x, _ in points], [q for _, q in points], confidence=confidence)
    if law is None:
        return None
    first, last = points[0][0], points[-1][0]
    growth = _growth(law, math.log(last / first), confidence)
    return NoiseTrend(
        against=against,
        noise_scale=geometry,
        exponent=Estimate(value=law.exponent, low=law.low, high=law.high, confidence=confidence),
        growth=growth,
        last=law.at(last, first),
        scatter=law.scatter,
        checkpoints=len(points),
        verdict=_verdict(growth),
    )


def _growth(law: PowerLaw, reach: float, confidence: float) -> Estimate:
    """From the first checkpoint to the last; where the loss falls, the ends change places."""
    low, high = (law.low, law.high) if reach >= 0 else (law.high, law.low)
    ends = (None if end is None else math.exp(end * reach) for end in (low, high))
    return Estimate(
        value=math.exp(law.exponent * reach), low=next(ends), high=next(ends), confidence=confidence
    )


def _verdict(growth: Estimate) -> TrendVerdict:
    if growth.low is not None and growth.low > 1:
        return "grows"
    return "falls" if growth.high is not None and growth.high < 1 else "unresolved"
