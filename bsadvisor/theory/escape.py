"""How many steps the descent from a saddle along one direction takes, and how much of it is noise.

Along the direction the loss is g x - a x^2 / 2 with a > 0, so x is g / a away from the stationary point;
one example's gradient varies by s^2 there. Momentum starts at zero, and the schemes are those of
`stability`. Under gradient descent with eta a = e,

    distance_t = (1 + e)^t (g / a + noise),    noise ~ N(0, D (1 - (1 + e)^-2t)),
    D = eta s^2 / (B a (2 + e))

and with momentum both roots r > r_- of the recursion take part. Half of the runs have escaped at the
median first passage of |distance|, which is what `escape_steps` returns.

Source: Daneshmand et al. 2018 for noise as the way out of a saddle; the formulas are the sums of the
    linear recursion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from scipy.special import erfcx, ndtr

from bsadvisor.theory.stability import Scheme

WALK_OVERSHOOT = 0.5826
"""-zeta(1/2) / sqrt(2 pi): how far past a boundary a random walk lands, in its standard deviations."""

KRAMERS_OVERSHOOT = 1.4603
"""-zeta(1/2): the same for a walk with momentum, in its mean free paths (Milne's problem)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Saddle:
    """The loss and its noise along one direction."""

    slope: float
    """g, of the mean loss at the checkpoint."""
    descent: float
    """a: minus the curvature."""
    noise: float
    """s^2: variance of one example's gradient along the direction."""

    @property
    def offset(self) -> float:
        """Distance from the stationary point of the quadratic; infinite where that is none."""
        return abs(self.slope) / self.descent if self.descent > 0 else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A batch size and a learning rate with the rule that uses them."""

    batch_size: float
    learning_rate: float
    momentum: float = 0.0
    scheme: Scheme = "gradient_descent"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Modes:
    """distance_t = sum of growing and fading mode: started at 1, and kicked by a gradient of 1."""

    growth: float
    """r - 1."""
    fading: float
    """r_-, in [0, 1)."""
    product_excess: float
    """r r_- - 1."""
    started: tuple[float, float]
    """Amplitudes of r^t and r_-^t."""
    kicked: tuple[float, float]
    """Amplitudes of r^(t - 1) and r_-^(t - 1), t steps after the kick; times eta."""


def _modes(pair: Pair, descent: float) -> _Modes:
    """r - 1 is the positive root of y^2 + c y - eta a; r_- - 1 is the other."""
    nesterov = pair.scheme == "nesterov"
    beta = 0.0 if pair.scheme == "gradient_descent" else pair.momentum
    rate = _plain_rate(pair)
    step = rate * descent
    damping = 1 - beta - step * (1 + beta if nesterov else 1)
    gap = math.hypot(damping, 2 * math.sqrt(step))
    growth = 2 * step / (damping + gap) if damping > 0 else (gap - damping) / 2
    first_kick = 1 + beta if nesterov else 1.0
    second_kick = 1 + beta + step if not nesterov else (1 + beta) ** 2 * (1 + step) - beta
    grown, fading = 1 + growth, max(0.0, 1 - damping - growth)
    first = 1 + step * first_kick
    return _Modes(
        growth=growth,
        fading=fading,
        product_excess=beta * (1 + step) - 1 if nesterov else beta - 1,
        started=((first - fading) / gap, (grown - first) / gap),
        kicked=(
            rate * (second_kick - fading * first_kick) / gap,
            rate * (grown * first_kick - second_kick) / gap,
        ),
    )


def _plain_rate(pair: Pair) -> float:
    """Exponential averaging is heavy ball at (1 - beta) eta."""
    return pair.learning_rate * (1 - pair.momentum if pair.scheme == "ema" else 1)


def growth_per_step(pair: Pair, descent: float) -> float:
    """r - 1: by what share of itself the distance grows in a step, once the growing mode is alone.

    About eta a / (1 - beta) while that is small, sqrt(eta a) under strong momentum.

    Args:
        pair: with its learning rate.
        descent: a; loss per squared unit of the distance.

    Returns:
        A pure number; 0 where a is not positive.

    Source: root of the characteristic polynomial of the recursion.

    Example:
        >>> growth_per_step(Pair(batch_size=8, learning_rate=0.1), 0.5)
        0.05
    """
    return _modes(pair, descent).growth if descent > 0 and pair.learning_rate > 0 else 0.0


def noise_seed(saddle: Saddle, pair: Pair) -> float:
    """D: variance of the noise's amplitude in the growing mode, traced back to step 0.

    Returns:
        Distance squared; 0 without noise. The saddle needs a > 0.

    Source: sum of a geometric series; eta s^2 / (B a (2 + eta a)) without momentum.

    Example:
        >>> round(noise_seed(Saddle(slope=0, descent=1.0, noise=2.1), Pair(batch_size=1, learning_rate=0.1)), 6)
        0.1
    """
    return _all_kicks(_modes(pair, saddle.descent)) * saddle.noise / pair.batch_size


def deterministic_seed(saddle: Saddle, pair: Pair) -> float:
    """Amplitude in the growing mode, at step 0, of starting away from the stationary point at rest.

    Returns:
        Distance; |g| / a without momentum. The saddle needs a > 0.

    Source: initial condition of the recursion.

    Example:
        >>> deterministic_seed(Saddle(slope=0.3, descent=0.5, noise=1.0), Pair(batch_size=1, learning_rate=1.0))
        0.6
    """
    return _modes(pair, saddle.descent).started[0] * saddle.offset


def noise_share(saddle: Saddle, pair: Pair) -> float:
    """D / (D + seed^2): how much of the escape is owed to gradient noise.

    Returns:
        In [0, 1]; NaN without noise and without slope. The saddle needs a > 0.

    Source: the two terms of the mean square distance.

    Example:
        >>> noise_share(Saddle(slope=0.0, descent=1.0, noise=1.0), Pair(batch_size=8, learning_rate=0.1))
        1.0
    """
    noise, seed = noise_seed(saddle, pair), deterministic_seed(saddle, pair) ** 2
    return noise / (noise + seed) if noise + seed > 0 else math.nan


def batch_size_that_matters(saddle: Saddle, pair: Pair) -> float:
    """B at which noise and slope contribute alike; above it the batch size hardly changes the escape.

    Args:
        pair: its batch size does not enter.

    Returns:
        Examples; infinite without slope, 0 without noise. The saddle needs a > 0.

    Source: D = seed^2 solved for B: eta a s^2 / (g^2 (2 + eta a)) without momentum.

    Example:
        >>> saddle = Saddle(slope=0.1, descent=1.0, noise=1.0)
        >>> round(batch_size_that_matters(saddle, Pair(batch_size=8, learning_rate=0.5)), 6)
        20.0
    """
    noise, seed = noise_seed(saddle, pair) * pair.batch_size, deterministic_seed(saddle, pair) ** 2
    if seed == 0 or noise == 0:
        return math.inf if noise > 0 else 0.0
    return noise / seed


def stretched_distance(distance: float, minimum: float) -> float:
    """The distance in the quadratic that is reached when `distance` is, where the descent ends in a minimum.

    The flow dx/dt = a x - c x^3 of the loss -a x^2 / 2 + c x^4 / 4, with its minimum at sqrt(a / c), is
    dy/dt = a y for y = x / sqrt(1 - (x / minimum)^2).

    Args:
        distance: from the stationary point.
        minimum: distance at which the loss along the direction is least; infinite for a quadratic.

    Returns:
        Distance; infinite from the minimum on, which the flow never reaches.

    Source: Bernoulli's equation.

    Example:
        >>> round(stretched_distance(0.5, 1.0), 4)
        0.5774
        >>> stretched_distance(0.5, math.inf)
        0.5
    """
    ratio = distance / minimum
    return distance / math.sqrt((1 - ratio) * (1 + ratio)) if ratio < 1 else math.inf


def escape_steps(saddle: Saddle, pair: Pair, distance: float, *, minimum: float = math.inf) -> float:
    """Steps after which half of the runs have been `distance` away from the stationary point.

    Exact in the number of steps for the linear recursion with Gaussian noise, but for runs that got
    there and fell back; those are counted by the tangent to the receding boundary, moved by what a
    walk in steps overshoots. Measured error: within 15 % where `distance` is at least 3 sqrt(D) and at
    most half of `minimum`; up to 25 % late at 2 sqrt(D) before a minimum.

    Args:
        distance: delta; a share of the way to where the loss stops falling, such as half of `minimum`.
        minimum: how far from the checkpoint that is, in the unit of x; infinite for a quadratic.

    Returns:
        A whole number of steps; 0 where the checkpoint is that far already; infinite where a is not
        positive, without noise and without slope, and where `minimum` is nearer.

    Source: the recursion; Siegmund 1985 for the overshoot of a walk, Marshall and Watson 1985 for that
        with momentum; tangent approximation as in Daniels 1974.

    Example:
        >>> saddle = Saddle(slope=0.0, descent=0.1, noise=1.0)
        >>> escape_steps(saddle, Pair(batch_size=16, learning_rate=0.1), 1.0)
        214.0
        >>> escape_steps(saddle, Pair(batch_size=64, learning_rate=0.1), 1.0)
        284.0
    """
    nothing_moves = saddle.slope == 0 and saddle.noise == 0
    if nothing_moves or growth_per_step(pair, saddle.descent) == 0:
        return math.inf
    if saddle.offset >= distance:
        return 0.0
    # The cubic force grows from the checkpoint on, not from the stationary point.
    target = saddle.offset + stretched_distance(distance - saddle.offset, minimum)
    if math.isinf(target):
        return math.inf
    modes = _modes(pair, saddle.descent)

    def escaped(steps: float) -> bool:
        return _share_escaped(saddle, pair, modes, target, steps) >= 1 / 2

    return _first_whole(escaped)


def _first_whole(reached: Callable[[float], bool]) -> float:
    """The least whole number from 1 on for which a condition that then stays true is true."""
    low, high = 0.0, 1.0
    while math.isfinite(high) and not reached(high):
        low, high = high, 2 * high
    while math.isfinite(high) and low < (middle := low + (high - low) // 2) < high:
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _share_escaped(saddle: Saddle, pair: Pair, modes: _Modes, distance: float, steps: float) -> float:
    """Probability of having been at the distance; all lengths are divided by r^t to stay finite."""
    shrink = math.exp(-steps * math.log1p(modes.growth))
    fading = modes.fading / (1 + modes.growth)
    mean = saddle.offset * (modes.started[0] + modes.started[1] * fading**steps)
    filled = _kicks(modes, steps) / _all_kicks(modes)
    deviation = math.sqrt(saddle.noise / pair.batch_size * _all_kicks(modes) * max(0.0, filled))
    boundary = distance * shrink
    if deviation == 0:
        return float(mean >= boundary)
    there = sum(ndtr((side - boundary) / deviation) for side in (mean, -mean))
    if there >= 1 / 2:
        return float(there)
    moved = distance + _overshoot(saddle, pair, modes)
    # Scaled by r^t the amplitude is a Brownian motion and the boundary sinks as sqrt(1 - variance / D).
    lead = moved * filled / shrink
    past = sum(_passed(moved * shrink, side, deviation, lead) for side in (mean, -mean))
    return float(max(there, past))


def _passed(boundary: float, mean: float, deviation: float, lead: float) -> float:
    """Probability that a Brownian motion has crossed a line that ends at `boundary` and began `lead` / 2 higher."""
    gap = (boundary - mean) / deviation
    return float(ndtr(-gap) + math.exp(-gap * gap / 2) * erfcx((gap + lead / deviation) / math.sqrt(2)) / 2)


def _overshoot(saddle: Saddle, pair: Pair, modes: _Modes) -> float:
    """How far beyond a boundary steps take a run: by step length, and by the mean free path of momentum."""
    memory = modes.fading**2 / (1 - modes.fading**2)
    share = math.sqrt(WALK_OVERSHOOT**2 + KRAMERS_OVERSHOOT**2 * memory)
    return share * modes.kicked[0] * math.sqrt(saddle.noise / pair.batch_size)


def _kicks(modes: _Modes, steps: float) -> float:
    """Variance of the distance over that of a batch's gradient, over r^(2 t)."""
    growing, fading = modes.kicked
    excesses = (modes.growth * (2 + modes.growth), modes.product_excess, modes.fading**2 - 1)
    weights = (growing**2, 2 * growing * fading, fading**2)
    return sum(
        weight * _geometric(excess, steps, modes.growth)
        for weight, excess in zip(weights, excesses, strict=True)
    )


def _all_kicks(modes: _Modes) -> float:
    """What `_kicks` tends to: D over the variance of a batch's gradient."""
    return modes.kicked[0] ** 2 / (modes.growth * (2 + modes.growth))


def _geometric(excess: float, steps: float, growth: float) -> float:
    """Sum over n < t of (1 + excess)^n, over (1 + growth)^(2 t)."""
    log_shrink = -2 * steps * math.log1p(growth)
    if excess <= -1:
        return math.exp(log_shrink)
    power = steps * math.log1p(excess)
    if power > 0:
        return math.exp(power + log_shrink) * -math.expm1(-power) / excess
    return math.exp(log_shrink) * (math.expm1(power) / excess if excess else steps)


def steps_saved_by(
    saddle: Saddle, now: Pair, other: Pair, distance: float, *, minimum: float = math.inf
) -> float:
    """How many steps sooner half of the runs escape with another pair; negative where later.

    Args:
        distance, minimum: as for `escape_steps`.

    Returns:
        Steps; 0 where neither pair escapes, infinite where one of them does not.

    Source: difference of two medians.

    Example:
        >>> saddle = Saddle(slope=0.0, descent=0.1, noise=1.0)
        >>> now, larger = (Pair(batch_size=b, learning_rate=0.1) for b in (16, 64))
        >>> steps_saved_by(saddle, now, larger, 1.0)
        -70.0
    """
    before, after = (escape_steps(saddle, pair, distance, minimum=minimum) for pair in (now, other))
    return 0.0 if before == after else before - after
