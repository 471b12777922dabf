"""The update rule in use, in the terms of theory/stability.py, and the limits that it sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bsadvisor.theory.stability import Scheme, learning_rate_limit, mini_batch_limit
from bsadvisor.values import CurvatureStats, Estimate, OptimizerDetails


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRule:
    """What an optimizer does to the gradient, in its own geometry."""

    scheme: Scheme
    momentum: float
    second_beta: float | None = None
    """Of an adaptive optimizer's moving average of squared gradients."""
    knows_geometry: bool = True
    """False for an adaptive optimizer without its state: it can be run afresh, and no more."""
    gradient_weight: float = 1.0
    """Of each new gradient in the momentum: 1 less SGD's dampening."""

    @property
    def amplification(self) -> float:
        """Steady progress per step over that of plain gradient descent at the same learning rate."""
        gain = 1 / (1 - self.momentum) if self.scheme in ("heavy_ball", "nesterov") else 1.0
        return gain * self.gradient_weight


def update_rule(optimizer: OptimizerDetails | None) -> UpdateRule | None:
    """Of the optimizer in use, SGD where none was found; None where it is not known what it does."""
    if optimizer is None:
        return UpdateRule(scheme="gradient_descent", momentum=0.0)
    adaptive = optimizer.family == "adam"
    if optimizer.family == "other" or optimizer.signed or optimizer.trust_ratios:
        return None
    if adaptive and not optimizer.state_loaded and optimizer.betas is None:
        return None
    if adaptive and optimizer.betas is not None:
        first, second = optimizer.betas
        return UpdateRule(
            scheme="ema", momentum=first, second_beta=second, knows_geometry=optimizer.state_loaded
        )
    momentum = optimizer.momentum or 0.0
    if not momentum:
        return UpdateRule(scheme="gradient_descent", momentum=0.0)
    return UpdateRule(
        scheme="nesterov" if optimizer.nesterov else "heavy_ball",
        momentum=momentum,
        gradient_weight=1 - optimizer.dampening,
    )


def full_batch_limit(curvature: Estimate | None, rule: UpdateRule | None) -> Estimate | None:
    """The largest stable learning rate; no value where the largest curvature is not positive."""
    if curvature is None or rule is None or not rule.knows_geometry:
        return None
    ends = curvature.high, curvature.value, curvature.low
    low, value, high = (None if end is None else _finite(rule, end) for end in ends)
    return Estimate(value=value, low=low, high=high, confidence=curvature.confidence)


def _finite(rule: UpdateRule, curvature: float) -> float | None:
    limit = learning_rate_limit(rule.scheme, curvature, rule.momentum) / rule.gradient_weight
    return limit if math.isfinite(limit) else None


def limit_by_batch_size(
    curvature: CurvatureStats | None, rule: UpdateRule | None
) -> Callable[[int], float | None]:
    """The stability limit of mini-batch steps as a function of B; None where it is not known."""
    if curvature is None or rule is None or not rule.knows_geometry:
        return lambda batch_size: None
    largest = curvature.own_lambda_max
    if largest is None or largest.value is None or largest.value <= 0:
        return lambda batch_size: None
    top, trace = largest.value, curvature.trace.value if curvature.trace else None

    def limit(batch_size: int) -> float | None:
        limit = mini_batch_limit(rule.scheme, top, trace or 0.0, batch_size, rule.momentum)
        return limit / rule.gradient_weight

    return limit
