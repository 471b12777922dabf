"""The best learning rate at a batch size that was not tried, from those at batch sizes that were."""

from __future__ import annotations

import math
from collections.abc import Mapping

from bsadvisor.theory import scaling


def expected_rate(
    rates: Mapping[int, float], batch_size: int, *, family: scaling.Family, noise_scale: float | None
) -> float:
    """On the straight line through the neighbours in logarithms; beyond them, half by it and half by the rule.

    Args:
        rates: measured best learning rate by batch size, at least one.
        batch_size: where it is asked for.
        family: of the optimizer, which has its rule.
        noise_scale: Bn of that rule; None: four times the nearest batch size.
    """
    nearest, *others = sorted(rates, key=lambda size: abs(math.log(size / batch_size)))
    if nearest == batch_size:
        return rates[nearest]
    rule = _rule_slope(nearest, batch_size, scaling.SATURATING_POWER[family], noise_scale or 4.0 * nearest)
    beyond = [size for size in others if (size > batch_size) != (nearest > batch_size)]
    if beyond:
        slope = _slope(rates, nearest, beyond[0])
    elif others:
        slope = (min(max(_slope(rates, nearest, others[0]), 0.0), 1.0) + rule) / 2
    else:
        slope = rule
    return float(rates[nearest] * (batch_size / nearest) ** slope)


def _slope(rates: Mapping[int, float], one: int, other: int) -> float:
    return math.log(rates[other] / rates[one]) / math.log(other / one)


def _rule_slope(anchor: int, batch_size: int, power: float, noise_scale: float) -> float:
    """Of log learning rate over log batch size, by the rule for another batch size."""
    factor = scaling.saturating_power(batch_size, anchor, noise_scale, power)
    return math.log(factor) / math.log(batch_size / anchor)
