"""What is known of an optimizer by its name, or by what it keeps, without loading torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from bsadvisor.values import OptimizerDetails, OptimizerFamily

Kind = Literal["gradient", "adam", "radam", "rmsprop", "adagrad", "adamax", "adafactor", "sign"]
"""What an update does to each coordinate of the gradient: nothing, a division of some kind, or its sign."""

KINDS: dict[str, Kind] = {
    "sgd": "gradient",
    "lars": "gradient",
    "adam": "adam",
    "adamw": "adam",
    "nadam": "adam",
    "sparseadam": "adam",
    "stableadamw": "adam",
    "adopt": "adam",
    "lamb": "adam",
    "radam": "radam",
    "rmsprop": "rmsprop",
    "adagrad": "adagrad",
    "adamax": "adamax",
    "adafactor": "adafactor",
    "lion": "sign",
    "signsgd": "sign",
    "signum": "sign",
}
"""By the lower-case name of the class, those of other packages included."""

ADAM_LIKE = frozenset(name for name, kind in KINDS.items() if kind != "gradient")

TRUST_RATIOS = frozenset(["lamb", "lars"])
"""These rescale the step of every layer by the norm of its weights over that of its update."""

_WRAPPED = ("paged", "fused", "deepspeedcpu", "deepspeed"), ("8bit", "32bit", "4bit")
"""What other packages put before and behind the name of an optimizer that does the same."""

_STATES: dict[Kind, tuple[str, frozenset[str]]] = {
    "adam": ("exp_avg_sq", frozenset(["exp_avg", "max_exp_avg_sq", "mu_product"])),
    "rmsprop": ("square_avg", frozenset(["momentum_buffer", "grad_avg"])),
    "adagrad": ("sum", frozenset()),
    "adamax": ("exp_inf", frozenset(["exp_avg"])),
    "sign": ("exp_avg", frozenset()),
}
"""Of each kind, what its state must hold, and what else it may."""

_FACTORED = frozenset(["row_var", "exp_avg_sq_row"])

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


def kind_of(name: str | None, state_keys: Iterable[str] = ()) -> Kind | None:
    """By the name of its class, else by what it keeps for a parameter; None for one that is not known.

    Only a state without anything unfamiliar tells a kind: SOAP and GaLore keep `exp_avg_sq`, too, but of
    other coordinates than the gradient's.

    Example:
        >>> kind_of("pagedadamw8bit"), kind_of("mine", ["step", "exp_avg", "exp_avg_sq"]), kind_of("mine")
        ('adam', 'adam', None)
    """
    known = KINDS.get(bare_name(name or ""))
    if known is not None:
        return known
    keys = set(state_keys) - {"step"}
    if keys & _FACTORED:
        return "adafactor"
    fitting = (kind for kind, (needed, more) in _STATES.items() if needed in keys <= {needed, *more})
    return next(fitting, None)


def bare_name(name: str) -> str:
    """In lower case, without what only says how it is computed.

    Example:
        >>> bare_name("FusedLAMB"), bare_name("AdamW8bit")
        ('lamb', 'adamw')
    """
    before, behind = _WRAPPED
    name = name.lower()
    for prefix in before:
        name = name.removeprefix(prefix)
    for suffix in behind:
        name = name.removesuffix(suffix)
    return name


def family_of_kind(kind: Kind | None) -> OptimizerFamily:
    """Whose scaling rules hold: of gradients as they are, or of those divided by their size."""
    if kind is None:
        return "other"
    return "sgd" if kind == "gradient" else "adam"


def family_of(name: str | None) -> OptimizerFamily:
    """By the name of its class; `other` for one that is not known."""
    return family_of_kind(kind_of(name))


def default_details(name: str) -> OptimizerDetails:
    """Its family, with the settings that PyTorch gives it."""
    return OptimizerDetails(
        family=family_of(name), **facts_of(name, kind_of(name)), **_DEFAULTS.get(bare_name(name), {})
    )


def facts_of(name: str | None, kind: Kind | None) -> dict[str, Any]:
    """Fields of `OptimizerDetails` that follow from what it is."""
    return {"signed": kind == "sign", "trust_ratios": bare_name(name or "") in TRUST_RATIOS}
