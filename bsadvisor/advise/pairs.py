"""Recommended (batch size, learning rate) pairs over a ladder of doublings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bsadvisor.theory import scaling, training_cost
from bsadvisor.values import OptimizerDetails, OtherRules, Recommendation, Role

ALONE = 1.3
"""Steps times examples of a pair whose learning rate was merely expected to be the best, over what they may be: up
to 1.5 times the fewest steps were seen, and 1.2 with rates that were compared."""

EFFICIENT_EXAMPLES = 1.2
"""`efficient`: at most this many times the least number of examples."""

CAPPED = "capped at"
"""In the rule of a row whose learning rate the stability limit has lowered."""

USEFUL_STEPS = 0.9
"""`largest_useful`: each doubling on the way brings the steps to at most this share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairInUse:
    """What the recommendations start from."""

    batch_size: int | None
    learning_rate: float | None
    optimizer: OptimizerDetails | None
    devices: int | None = None

    @property
    def family(self) -> scaling.Family:
        return "sgd" if self.optimizer is None else self.optimizer.family


def recommend(
    pair: PairInUse,
    *,
    critical: float,
    noise_scale: float,
    dataset_size: int | None,
    limit: Callable[[int], float | None] = lambda batch_size: None,
    also: Iterable[int] = (),
) -> tuple[Recommendation, ...]:
    """One row per rung of the ladder, from the efficient batch size to the largest useful one.

    Args:
        pair: in use today.
        critical: B_crit, predicted, in examples.
        noise_scale: Bn of the learning-rate rule, in examples.
        dataset_size: no batch is larger.
        limit: stability limit of the learning rate at a batch size; it caps the rule, though never below
            the learning rate in use, which the run has shown to work.
        also: batch sizes that have a row in any case.
    """
    rungs = sorted({*ladder(pair.batch_size, critical, dataset_size, pair.devices or 1), *also})
    roles = assign_roles(rungs, critical, pair.batch_size)
    return tuple(
        _row(rung, roles.get(rung), pair, critical=critical, noise_scale=noise_scale, limit=limit(rung))
        for rung in rungs
    )


def ladder(base: int | None, critical: float, dataset_size: int | None, multiple: int) -> list[int]:
    """Doublings from the last efficient batch size to the last useful one, through the one in use.

    They are `base` times powers of two, or powers of two where no batch size is in use, and multiples
    of `multiple`.
    """
    lowest = base or multiple
    while base and lowest % (2 * multiple) == 0:
        lowest //= 2
    rungs = [lowest]
    while rungs[-1] < (base or 0) or (
        _saves_steps(rungs[-1], critical) and 2 * rungs[-1] <= (dataset_size or 2**62)
    ):
        rungs.append(2 * rungs[-1])
    num_efficient = sum(_is_efficient(rung, critical) for rung in rungs)
    first = max(num_efficient - 1, 0)
    return rungs[min(first, rungs.index(base)) if base else first :]


def assign_roles(rungs: Sequence[int], critical: float, in_use: int | None) -> dict[int, Role]:
    """Each rung's role; `current` only where today's pair has no other."""
    roles: dict[int, Role] = {}
    if in_use is not None:
        roles[in_use] = "current"
    efficient = [rung for rung in rungs if _is_efficient(rung, critical)]
    if efficient:
        roles[efficient[-1]] = "efficient"
    if not _saves_steps(rungs[-1], critical):
        useful = next(rung for rung in rungs if not _saves_steps(rung, critical))
        roles[useful] = "largest_useful"
    roles[balanced(rungs, critical)] = "balanced"
    return roles


def balanced(rungs: Sequence[int], critical: float) -> int:
    """The rung nearest to B_crit by ratio: the least product of steps and examples."""
    return min(rungs, key=lambda rung: training_cost.inefficiency(rung, critical))


def surest(rates_tried: Mapping[int, int], critical: float) -> int:
    """The measured batch size to recommend: near to B_crit, but rather one whose learning rate was compared with others.

    Args:
        rates_tried: number of learning rates, by batch size.
    """

    def loss(size: int) -> float:
        doubt = ALONE if rates_tried[size] < 2 else 1.0
        return doubt * training_cost.inefficiency(size, critical)

    return min(rates_tried, key=loss)


def _is_efficient(batch_size: int, critical: float) -> bool:
    return training_cost.examples_over_minimum(batch_size, critical) <= EFFICIENT_EXAMPLES


def _saves_steps(batch_size: int, critical: float) -> bool:
    return training_cost.steps_factor(2 * batch_size, batch_size, critical) <= USEFUL_STEPS


def _row(
    batch_size: int,
    role: Role | None,
    pair: PairInUse,
    *,
    critical: float,
    noise_scale: float,
    limit: float | None,
) -> Recommendation:
    anchor = pair.batch_size
    power = scaling.SATURATING_POWER[pair.family]
    rate = scaling.saturating_power(batch_size, anchor, noise_scale, power) if anchor else None
    rule = f"[(1 + Bn/B0) / (1 + Bn/B)]^{power:g} with Bn = {noise_scale:.4g}"
    highest = highest_factor(limit, pair.learning_rate)
    if rate is not None and highest is not None and rate > highest:
        rate, rule = (
            highest,
            f"{rule}, {CAPPED} {'the stability limit' if highest > 1 else 'the rate in use'}",
        )
    steps = training_cost.steps_factor(batch_size, anchor, critical) if anchor else None
    batch_factor = batch_size / anchor if anchor else None
    low, high, confidence = rate_range(batch_size, pair, rate, highest)
    return Recommendation(
        batch_size=batch_size,
        learning_rate=_times(rate, pair.learning_rate),
        learning_rate_factor=rate,
        learning_rate_low=low,
        learning_rate_high=high,
        learning_rate_confidence=confidence,
        other_rules=_other_rules(batch_size, pair),
        role=role,
        current=batch_size == anchor,
        basis="predicted",
        rule=rule,
        steps_factor=steps,
        examples_factor=_times(steps, batch_factor),
        steps_over_minimum=training_cost.steps_over_minimum(batch_size, critical),
        examples_over_minimum=training_cost.examples_over_minimum(batch_size, critical),
        relative_temperature=rate / batch_factor if rate and batch_factor else None,
        relative_update_noise=rate**2 / batch_factor if rate and batch_factor else None,
        learning_rate_limit=limit,
        adam_betas=betas_at(batch_size, pair),
        weight_decay=weight_decay_at(pair, batch_factor, rate),
        devices=pair.devices,
    )


def highest_factor(limit: float | None, learning_rate: float | None) -> float | None:
    """Of the learning rate in use, which counts as stable itself."""
    return None if limit is None or learning_rate is None else max(1.0, limit / learning_rate)


def rate_range(
    batch_size: int, pair: PairInUse, rate: float | None, highest: float | None
) -> tuple[float | None, float | None, float | None]:
    """Where the stored errors of the rule say the best learning rate is; today's own pair has none.

    What lies above the stability limit is cut off.
    """
    learning_rate = _times(rate, pair.learning_rate)
    if learning_rate is None or batch_size == pair.batch_size:
        return None, None, None
    factor = scaling.range_factor(pair.family)
    high = learning_rate * factor
    if highest is not None and pair.learning_rate is not None:
        high = min(high, highest * pair.learning_rate)
    return learning_rate / factor, high, scaling.RANGE_CONFIDENCE


def _other_rules(batch_size: int, pair: PairInUse) -> OtherRules | None:
    if pair.batch_size is None:
        return None
    unit = pair.learning_rate or 1.0
    return OtherRules(
        square_root=unit * scaling.square_root(batch_size, pair.batch_size),
        linear=unit * scaling.linear(batch_size, pair.batch_size),
    )


def betas_at(batch_size: int, pair: PairInUse) -> tuple[float, float] | None:
    """beta_1 is kept; beta_2 forgets after the same number of examples."""
    if pair.optimizer is None or pair.optimizer.betas is None or pair.batch_size is None:
        return None
    beta_1, beta_2 = pair.optimizer.betas
    return beta_1, scaling.half_life_beta(beta_2, batch_size, pair.batch_size)


def weight_decay_at(pair: PairInUse, batch_factor: float | None, rate: float | None) -> float | None:
    """Adapted for decoupled decay (Adam-like optimizers); plain L2 does not depend on the batch size."""
    decay = pair.optimizer.weight_decay if pair.optimizer else None
    if decay is None or pair.family != "adam" or batch_factor is None or rate is None:
        return decay
    return scaling.constant_timescale_decay(decay, batch_factor, rate)


def _times(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a * b
