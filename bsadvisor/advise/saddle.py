"""Does the checkpoint sit at a saddle, and will this pair leave it?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bsadvisor.advise.update_rule import UpdateRule
from bsadvisor.theory.escape import Pair, Saddle, escape_steps, noise_share
from bsadvisor.values import (
    CurvatureStats,
    EscapeDirection,
    Estimate,
    GradientStats,
    Recommendation,
    SaddleVerdict,
    ShortRun,
    Verdict,
)

STUCK_STEPS, STUCK_SHARE = 100, 0.05
"""A run that is stuck keeps its loss to within this share over so many steps."""

RUN_EXAMPLES = 25_600
"""The most that a short run may see, but for a tenth of `STUCK_STEPS` at the least."""

FEW_STEPS = 20
"""Where the gradient alone takes that share off in fewer steps, nobody is stuck."""

LEAST_STEPS = 50
"""Where the run was not tried: what is left sooner than this holds nobody up."""

LEAST_DROP = 0.02
"""Of the loss: a saddle worth leaving has this much to gain."""

ERRORS_TO_THE_END = 2.6
"""Standard errors from the value to the end of a one-sided 99 % interval of 16 and more units."""

HORIZON = 10_000
"""Steps: what takes longer to leave than this is no saddle of this run's."""

LEAST_CURVATURE = 1e-3
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
    least_gradient_steps: float
    """The same at the upper end of |G|^2."""


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
    if rule is not None and batch_size is not None and learning_rate is not None:
        trap = find_trap(escape, gradient, rule, batch_size=batch_size, learning_rate=learning_rate)
    verdict = _decide(escape, curvature, trap)
    return SaddleVerdict(
        verdict=verdict,
        advice=_advice(verdict, escape, trap),
        curvature=escape.parameter_curvature,
        escape_steps=_finite(trap.steps) if trap else None,
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
        batch_size=batch_size, learning_rate=learning_rate, momentum=rule.momentum, scheme=rule.scheme
    )
    distance, rate = escape.distance, rule.amplification * learning_rate
    norm = gradient.squared_norm_preconditioned or gradient.squared_norm
    return Trap(
        saddle=saddle,
        pair=pair,
        steps=math.inf if distance is None else escape_steps(saddle, pair, distance),
        gradient_steps=_gradient_steps(escape.escaped_drop, norm.value, rate),
        least_gradient_steps=_gradient_steps(escape.escaped_drop, norm.high, rate),
    )


def with_escape_steps(
    rows: Sequence[Recommendation], escape: EscapeDirection, gradient: GradientStats, rule: UpdateRule
) -> tuple[Recommendation, ...]:
    """The rows with the steps that each pair takes to leave."""
    return tuple(
        row
        if row.learning_rate is None
        else replace(
            row,
            escape_steps=_finite(
                find_trap(
                    escape, gradient, rule, batch_size=row.batch_size, learning_rate=row.learning_rate
                ).steps
            ),
        )
        for row in rows
    )


def is_certified(escape: EscapeDirection, curvature: CurvatureStats) -> bool:
    """Whether the direction is surely one of negative curvature, and not of rounding."""
    largest = curvature.lambda_max_preconditioned or curvature.lambda_max
    top = largest.value if largest and largest.value else 0.0
    high = escape.curvature.high
    return high is not None and high < 0 and -high > LEAST_CURVATURE * top


def examples_for_certificate(escape: EscapeDirection) -> int | None:
    """Forecast of the sample on which the same curvature would be certified."""
    value, high = escape.curvature.value, escape.curvature.high
    if value is None or high is None or value >= 0:
        return None
    return math.ceil(escape.examples * ((high - value) / value) ** 2)


def _decide(escape: EscapeDirection, curvature: CurvatureStats, trap: Trap | None) -> Verdict:
    certified = is_certified(escape, curvature)
    if trap is None or not is_worth_leaving(escape) or not _holds(escape, trap):
        return "note" if certified else "none"
    if not certified:
        return "unresolved"
    run, low = escape.short_run, escape.loss_drop.low
    surely_gains = low is not None and low >= LEAST_DROP * abs(escape.loss)
    return (
        "warning"
        if surely_gains and run is not None and _stays(run, run.loss_drop.high, escape)
        else "possible"
    )


def is_worth_leaving(escape: EscapeDirection) -> bool:
    """Whether the loss falls along the direction by a share that matters."""
    drop = escape.loss_drop.value
    return drop is not None and drop >= LEAST_DROP * abs(escape.loss)


def _holds(escape: EscapeDirection, trap: Trap) -> bool:
    """Whether the run stays where it is: as it was tried, or else as the gradient's strength lets expect."""
    if trap.steps > HORIZON:
        return False
    run = escape.short_run
    if run is not None:
        return _stays(run, run.loss_drop.value, escape)
    return trap.steps >= LEAST_STEPS and trap.steps < trap.gradient_steps


def _stays(run: ShortRun, drop: float | None, escape: EscapeDirection) -> bool:
    """Whether the fall of the loss would be below `STUCK_SHARE` in `STUCK_STEPS`."""
    return drop is not None and drop < STUCK_SHARE * abs(escape.loss) * run.steps / STUCK_STEPS


def may_be_stuck(
    gradient: GradientStats, loss: float | None, rule: UpdateRule | None, learning_rate: float | None
) -> bool:
    """Whether the gradient is too weak to take 5 % off the loss in a few steps: cheap, and seldom so.

    Args:
        loss: None where it was not measured, as no gradient was resolved.
    """
    norm = gradient.squared_norm_preconditioned or gradient.squared_norm
    if rule is None or learning_rate is None or loss is None:
        return rule is not None and learning_rate is not None
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
        advice="no direction of certified negative curvature",
        evidence=None,
    )


def _advice(verdict: Verdict, escape: EscapeDirection, trap: Trap | None) -> str:
    """The plain sentence: what would leave sooner."""
    if verdict == "none" or trap is None:
        return "no direction of certified negative curvature"
    if verdict == "note":
        return "negative curvature, as in almost every network; it does not hold the run up"
    if verdict == "unresolved":
        return "the sample is too small to certify the negative curvature that it shows"
    if is_noiseless(escape):
        return "neither gradient nor noise points out of it: perturb the weights along the direction"
    if noise_share(trap.saddle, trap.pair) > 1 / 2:
        return _smaller_batch(escape, trap)
    return _larger_rate(escape, trap)


def _smaller_batch(escape: EscapeDirection, trap: Trap) -> str:
    smaller = max(1, int(trap.pair.batch_size) // 4)
    steps = _steps(escape, trap, replace(trap.pair, batch_size=smaller))
    return (
        f"gradient noise leads out: B = {smaller:,} at this learning rate leaves in about {steps:,.0f} "
        f"instead of {trap.steps:,.0f} steps"
    )


def _larger_rate(escape: EscapeDirection, trap: Trap) -> str:
    steps = _steps(escape, trap, replace(trap.pair, learning_rate=2 * trap.pair.learning_rate))
    return (
        f"the batch size does not matter here, the learning rate does: twice as large it leaves in about "
        f"{steps:,.0f} instead of {trap.steps:,.0f} steps"
    )


def _steps(escape: EscapeDirection, trap: Trap, pair: Pair) -> float:
    return math.inf if escape.distance is None else escape_steps(trap.saddle, pair, escape.distance)


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


def plan_short_run(batch_size: int) -> int:
    """Steps of the run that is tried: fewer where its batches are large."""
    return max(min(STUCK_STEPS, RUN_EXAMPLES // batch_size), STUCK_STEPS // 10)
