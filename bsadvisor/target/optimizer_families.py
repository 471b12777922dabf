"""What is known of an optimizer by its name alone, without loading torch."""

from __future__ import annotations

from typing import Any

from bsadvisor.values import OptimizerDetails, OptimizerFamily

ADAM_LIKE = frozenset(
    ["adam", "adamw", "nadam", "radam", "adamax", "sparseadam", "rmsprop", "adagrad", "adafactor", "lion"]
)

_BETAS_AND_EPSILON = {"betas": (0.9, 0.999), "epsilon": 1e-8}

_DEFAULTS: dict[str, dict[str, Any]] = {
    "adam": {**_BETAS_AND_EPSILON, "weight_decay": 0.0},
    "adamw": {**_BETAS_AND_EPSILON, "weight_decay": 0.01},
    "nadam": {**_BETAS_AND_EPSILON, "weight_decay": 0.0},
    "radam": {**_BETAS_AND_EPSILON, "weight_decay": 0.0},
    "adamax": {**_BETAS_AND_EPSILON, "weight_decay": 0.0},
    "sparseadam": _BETAS_AND_EPSILON,
}
"""PyTorch's own; a test compares them."""


def family_of(name: str | None) -> OptimizerFamily:
    """By the lower-case name of its class; `other` for one that is not known."""
    if name == "sgd":
        return "sgd"
    return "adam" if name in ADAM_LIKE else "other"


def default_details(name: str) -> OptimizerDetails:
    """Its family, with the settings that PyTorch gives it."""
    return OptimizerDetails(family=family_of(name), **_DEFAULTS.get(name, {}))
