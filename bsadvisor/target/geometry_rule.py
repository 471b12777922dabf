"""How an optimizer divides the coordinates of the gradient, where it keeps or has left nothing to read that from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bsadvisor.target.second_moments import SecondMoments
from bsadvisor.values import GeometryRule

LEAST_SIZE = 1e-3
"""Of Adafactor's parameters, in PyTorch and elsewhere."""


def geometry_rule(moments: SecondMoments, settings: Mapping[str, Any]) -> GeometryRule | None:
    """None where the geometry is known, where there is none, and where nothing is known of the optimizer.

    Args:
        settings: hyperparameters of its first group.
    """
    kind = moments.kind
    if kind is None or kind == "gradient" or moments.preconditioner is not None:
        return None
    epsilon = settings.get("eps")
    return GeometryRule(
        epsilon=0.0 if kind in ("sign", "adafactor") or epsilon is None else float(epsilon),
        factored=kind == "adafactor",
        averaging=averaging(settings) if kind == "sign" else None,
        least_size=_least_size(settings) if kind == "adafactor" else None,
        relative_rates=moments.relative_rates,
    )


def averaging(settings: Mapping[str, Any]) -> float:
    """Variance of what a sign is taken of, over that of one gradient.

    Of Lion's  beta_1 m + (1 - beta_1) g  with the average m of earlier gradients, else of one average.

    Example:
        >>> averaging({"betas": (0.5, 0.0)}), averaging({"momentum": 0.5}), averaging({})
        (0.5, 0.3333333333333333, 1.0)
    """
    betas, momentum = settings.get("betas"), float(settings.get("momentum") or 0.0)
    if betas:
        first, second = map(float, betas)
        return (1 - first) ** 2 + first**2 * (1 - second) / (1 + second)
    return (1 - momentum) / (1 + momentum)


def _least_size(settings: Mapping[str, Any]) -> float | None:
    """None where steps are not relative to the size of what they change."""
    if settings.get("scale_parameter") is False:
        return None
    epsilon = settings.get("eps")
    pair = isinstance(epsilon, (tuple, list)) and len(epsilon) == 2
    return float(epsilon[1]) if pair else LEAST_SIZE  # type: ignore[index]
