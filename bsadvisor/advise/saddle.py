"""Does the checkpoint sit at a saddle, and will this pair leave it?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bsadvisor.advise.short_runs import STUCK_SHARE, is_refuted, judge_runs
from bsadvisor.advise.update_rule import UpdateRule
from bsadvisor.theory.escape import Pair, Saddle, escape_steps, noise_share
from bsadvisor.values import (
    CurvatureStats,
    EscapeDirection,
    Estimate,
    GradientStats,
    Recommendation,
    SaddleVerdict,
    Verdict,
)

STEP_GAIN = 0.04
"""Of the loss: a gradient that gains so much in its best single step leads somewhere."""

FEW_STEPS = 20
"""Where the gradient alone takes that share off in fewer steps, nobody is stuck."""

LEAST_STEPS = 50
"""Where the run was not tried: what is left sooner than this holds nobody up."""

SLIGHT_DROP = 0.001
"""Of the loss: what falls less along a direction is not followed up."""

LEAST_DROP = 0.02
"""Of the loss, along the direction alone: where no run was tried, a saddle worth leaving has so much to gain."""

ERRORS_TO_THE_END = 2.6
"""Standard errors from the value to the end of a one-sided 99 % interval of 16 and more units."""

NOTHING = "no direction of certified negative curvature"

USUAL = "negative curvature, as in almost every network"

RAISED, LEAST_RAISE = 2.0, 1.1
"""The learning rate that is advised, times today's, where the stability limit allows; and what is a raise at all."""

LEAST_CURVATURE = 1e-4
"""Of the largest: what is flatter counts as flat."""

NO_NOISE = 1e-6
"""Of the noise that a direction has on average: below, the noise vanishes at the saddle itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trap:
    """The escape from one point with one pair, and the gradient's own progress meanwhile."""

    saddle: Saddle
    pair: Pair
    steps: float
    """Median, to the distance that counts as escaped."""
    gradient_steps: float
    """In which following the gradient gains as much as the escape does; infinite without gradient."""


def judge_saddle(
    escape: EscapeDirection | None,
    curvature: CurvatureStats,
    gradient: GradientStats,
    rule: UpdateRule | None,
    *,
    batch_size: int | None,
    learning_rate: float | None,
) -> SaddleVerdict | None:
    """The verdict at the pair in use; None where no direction was sought."""
    if curvature.lambda_min is None:
        return None
    if escape is None:
        return _nothing()
    trap = None
    if rule is not None and rule.knows_geometry and batch_size is not None and learning_rate is not None:
        trap = find_trap(escape, gradient, rule, batch_size=batch_size, learning_rate=learning_rate)
    verdict = _decide(escape, curvature, trap)
    return SaddleVerdict(
        verdict=verdict,
        advice=_advice(verdict, escape, trap, curvature.learning_rate_limit)
        if trap or escape.short_run or verdict == "none"
        else f"{USUAL}; without {_missing(rule, batch_size, learning_rate)} it cannot be told whether it "
        "holds the run up",
        curvature=escape.parameter_curvature,
        escape_steps=_finite(trap.steps) if trap and not is_refuted(escape, trap.steps) else None,
        noise_share=_finite(noise_share(trap.saddle, trap.pair)) if trap else None,
        loss_drop=escape.loss_drop,
        gradient_steps=_finite(trap.gradient_steps) if trap else None,
        examples_needed=examples_for_certificate(escape) if verdict == "unresolved" else None,
        evidence=escape,
    )


def find_trap(
    escape: EscapeDirection,
    gradient: GradientStats,
    rule: UpdateRule,
    *,
    batch_size: int,
    learning_rate: float,
) -> Trap:
    """Both ways out of a point: along the direction, and along the gradient."""
    saddle = Saddle(
        slope=_debiased(escape.gradient), descent=-(escape.curvature.value or 0.0), noise=escape.noise
    )
    pair = Pair(
        batch_size=batch_size,
        learning_rate=rule.gradient_weight * learning_rate,
        momentum=rule.momentum,
        scheme=rule.scheme,
    )
    distance, rate = escape.distance, rule.amplification * learning_rate
    norm = gradient.own_squared_norm
    return Trap(
        saddle=saddle,
        pair=pair,
        steps=math.inf if distance is None else escape_steps(saddle, pair, distance),
        gradient_steps=_gradient_steps(escape.escaped_drop, norm.value, rate),
    )


def with_escape_steps(
    rows: Sequence[Recommendation], escape: EscapeDirection, gradient: GradientStats, rule: UpdateRule
) -> tuple[Recommendation, ...]:
    """The rows with the steps that each pair takes to leave.

    As they are where that is not known: without the optimizer's geometry, or where a run has refuted
    today's.
    """
    if not rule.knows_geometry:
        return tuple(rows)

    def steps(row: Recommendation) -> float:
        if row.learning_rate is None:
            return math.inf
        size, rate = row.batch_size, row.learning_rate
        return find_trap(escape, gradient, rule, batch_size=size, learning_rate=rate).steps

    if any(row.current and is_refuted(escape, steps(row)) for row in rows):
        return tuple(rows)
    return tuple(replace(row, escape_steps=_finite(steps(row))) for row in rows)


def is_certified(escape: EscapeDirection, curvature: CurvatureStats) -> bool:
    """Whether the direction is surely one of negative curvature, and not of rounding."""
    largest = curvature.own_lambda_max
    top = largest.value if largest and largest.value else 0.0
    high = escape.curvature.high
    return high is not None and high < 0 and -high > LEAST_CURVATURE * top


def examples_for_certificate(escape: EscapeDirection) -> int | None:
    """Forecast of the sample on which the same curvature would be certified."""
    value, high = escape.curvature.value, escape.curvature.high
    if value is None or high is None or value >= 0:
        return None
    return math.ceil(escape.examples * ((high - value) / value) ** 2)


def is_suspicious(escape: EscapeDirection, curvature: CurvatureStats) -> bool:
    """Whether to try a run from here: a certified direction along which the loss falls at all.

    Where all examples were seen, that is no chance, and a kick that gains next to nothing by itself may
    lead away: it breaks a symmetry.
    """
    is_exact = escape.curvature.low == escape.curvature.high
    falls = escape.lowest_at is not None if is_exact else _falls(escape, SLIGHT_DROP)
    return is_certified(escape, curvature) and falls


def _decide(escape: EscapeDirection, curvature: CurvatureStats, trap: Trap | None) -> Verdict:
    would_hold = trap is not None and _would_hold(escape, trap)
    if not is_certified(escape, curvature):
        return "unresolved" if would_hold else "none"
    if escape.short_run is None:
        return "possible" if would_hold else "note"
    return judge_runs(escape)


def _would_hold(escape: EscapeDirection, trap: Trap) -> bool:
    """Without a run that was tried: slow to leave, worth leaving, and the gradient is slower still."""
    return _falls(escape, LEAST_DROP) and LEAST_STEPS <= trap.steps < trap.gradient_steps


def _falls(escape: EscapeDirection, share: float) -> bool:
    drop = escape.loss_drop.value
    return drop is not None and drop >= share * abs(escape.loss)


def may_be_stuck(
    gradient: GradientStats,
    rule: UpdateRule | None,
    learning_rate: float | None,
    *,
    loss: float | None,
    best_step_gain: float | None,
) -> bool:
    """Whether it cannot be told from the gradient alone that the run is moving: cheap, and often so.

    Args:
        loss: at the checkpoint; None where it was not measured, as no gradient was resolved.
        best_step_gain: fall of the loss at the best single step; None where no step lowers it.
    """
    if rule is None or learning_rate is None:
        return False
    norm = gradient.own_squared_norm
    if loss is None or best_step_gain is None or best_step_gain < STEP_GAIN * abs(loss):
        return True
    if not rule.knows_geometry:
        return False
    steps = _gradient_steps(STUCK_SHARE * abs(loss), norm.value, rule.amplification * learning_rate)
    return steps >= FEW_STEPS


def _nothing() -> SaddleVerdict:
    return SaddleVerdict(
        verdict="none",
        curvature=None,
        escape_steps=None,
        noise_share=None,
        loss_drop=None,
        gradient_steps=None,
        examples_needed=None,
        advice=NOTHING,
        evidence=None,
    )


def _advice(verdict: Verdict, escape: EscapeDirection, trap: Trap | None, limit: Estimate | None) -> str:
    """The plain sentence: what would leave sooner."""
    if verdict == "none":
        return NOTHING
    if verdict == "unresolved":
        return "the sample is too small to certify the negative curvature that it shows"
    if verdict == "note":
        return f"{USUAL}; it does not hold the run up"
    if trap is None:
        return "which pair leaves sooner cannot be told without the optimizer's state"
    if is_noiseless(escape):
        return "neither gradient nor noise points out of it: add a little random noise to the weights"
    if noise_share(trap.saddle, trap.pair) <= 1 / 2:
        return f"the batch size hardly matters here: {_larger_rate(escape, trap, limit)}"
    if trap.pair.batch_size > 1:
        return _smaller_batch(escape, trap)
    return f"gradient noise leads out, and B = 1 has the most of it: {_larger_rate(escape, trap, limit)}"


def _smaller_batch(escape: EscapeDirection, trap: Trap) -> str:
    smaller = max(1, int(trap.pair.batch_size) // 4)
    pair = replace(trap.pair, batch_size=smaller)
    return f"gradient noise leads out: B = {smaller:,} at this learning rate {_leaves(escape, trap, pair)}"


def _larger_rate(escape: EscapeDirection, trap: Trap, limit: Estimate | None) -> str:
    """Never a learning rate above the stability limit."""
    rate = trap.pair.learning_rate
    highest = limit.value if limit else None
    larger = RAISED * rate if highest is None else min(RAISED * rate, highest)
    if larger < LEAST_RAISE * rate:
        return "and the learning rate is at its stability limit; add a little random noise to the weights"
    return f"η = {larger:.2g} {_leaves(escape, trap, replace(trap.pair, learning_rate=larger))}"


def _leaves(escape: EscapeDirection, trap: Trap, pair: Pair) -> str:
    """How soon another pair leaves; without numbers where a run has shown the forecast to be too short."""
    if escape.distance is None or is_refuted(escape, trap.steps):
        return "leaves sooner"
    steps = max(escape_steps(trap.saddle, pair, escape.distance), 1.0)
    return f"leaves in about {_rounded(steps)} instead of {_rounded(trap.steps)} steps"


def _missing(rule: UpdateRule | None, batch_size: int | None, learning_rate: float | None) -> str:
    """What a forecast of the escape would take."""
    geometry = rule if rule and rule.knows_geometry else None
    needed = {"a batch size": batch_size, "a learning rate": learning_rate, "the optimizer's state": geometry}
    return " and ".join(name for name, known in needed.items() if known is None)


def _rounded(number: float) -> str:
    """To two digits."""
    return f"{float(f'{number:.1e}'):,.0f}"


def is_noiseless(escape: EscapeDirection) -> bool:
    """Whether both seeds of an escape vanish at the saddle itself (type II of Ziyin et al. 2023)."""
    return escape.noise <= NO_NOISE * escape.isotropic_noise and _debiased(escape.gradient) == 0.0


def _debiased(slope: Estimate) -> float:
    """|g| without the part that its own error adds to the square."""
    value, high = slope.value or 0.0, slope.high or 0.0
    error = (high - value) / ERRORS_TO_THE_END
    return math.sqrt(max(value**2 - error**2, 0.0))


def _gradient_steps(escaped_drop: float | None, squared_norm: float | None, rate: float) -> float:
    """Steps of plain descent to a given fall of the loss, as if the gradient stayed what it is."""
    if escaped_drop is None or squared_norm is None or squared_norm <= 0:
        return math.inf
    return escaped_drop / (rate * squared_norm)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
