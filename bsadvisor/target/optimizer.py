"""The optimizer in use: its name, hyperparameters, learning rate and gathered second moments."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from bsadvisor.errors import TargetError, UsageError
from bsadvisor.target.optimizer_families import facts_of, family_of, family_of_kind, kind_of
from bsadvisor.target.second_moments import SecondMoments, find_second_moments, rate_of, state_keys
from bsadvisor.target.spec import OptimizerSpec
from bsadvisor.target.user_code import UserCode
from bsadvisor.values import OptimizerDetails

Groups = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A learning rate as it was set, and as a schedule has left it."""

    peak: float
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerInUse:
    """What is known of the optimizer."""

    name: str | None
    details: OptimizerDetails | None
    own_rate: Rate | None
    """Of the optimizer in the user's file."""
    saved_rate: Rate | None
    """Of the checkpoint."""
    moments: SecondMoments
    settings: Mapping[str, Any]
    """Hyperparameters of the first group."""
    own: Optimizer | None
    """Over the model, where the user's file makes or holds the optimizer in use."""


def describe_optimizer(
    model: nn.Module,
    *,
    named: OptimizerSpec | None,
    in_file: Any,
    saved: Mapping[str, Any] | None,
    code: UserCode,
) -> OptimizerInUse:
    """Put together what flags, YAML, the user's file and the checkpoint know.

    Args:
        named: by flag or YAML.
        in_file: the user's factory or instance, or None. It is never stepped nor changed.
        saved: the optimizer's `state_dict` in the checkpoint, or None.
    """
    own = build_optimizer(model, in_file, code) if in_file is not None else None
    if own is not None and named and named.name.lower() != _name_of(own):
        own = None
    saved_groups: Groups = saved["param_groups"] if saved else ()
    name = (
        named.name.lower()
        if named
        else _name_of(own)
        if own
        else _guess_name(saved_groups, state_keys(None, saved))
    )
    own_groups: Groups = own.param_groups if own else ()
    settings = _settings(name, named, own_groups, saved_groups)
    moments = find_second_moments(name, model, own, saved)
    return OptimizerInUse(
        name=name,
        details=_details(name, settings, saved_step(saved), moments),
        own_rate=largest_rate(own_groups),
        saved_rate=largest_rate(saved_groups),
        moments=moments,
        settings=settings,
        own=own,
    )


def build_optimizer(model: nn.Module, in_file: Any, code: UserCode) -> Optimizer:
    """The user's optimizer over the model, for its groups and their order."""
    if isinstance(in_file, Optimizer):
        return in_file
    with code.run("`optimizer`", remedy="it is called as optimizer(params) with a list of parameters"):
        built = in_file(list(model.parameters()))
    if not isinstance(built, Optimizer):
        raise TargetError(
            f"`optimizer` returned a {type(built).__name__}, not a torch.optim.Optimizer",
            "let optimizer(params) return the optimizer alone",
        )
    return built


def _name_of(optimizer: Optimizer) -> str:
    return type(optimizer).__name__.lower()


_TELLING = {
    "momentum_decay": "nadam",
    "nesterov": "sgd",
    "centered": "rmsprop",
    "lr_decay": "adagrad",
    "beta2_decay": "adafactor",
    "clip_threshold": "adafactor",
}
"""Settings that only one optimizer has."""


def _guess_name(groups: Groups, state: Sequence[str] = ()) -> str | None:
    """By its settings, else by what it keeps."""
    keys = set(groups[0]) if groups else set()
    if "amsgrad" in keys:
        return "adamw" if groups[0].get("decoupled_weight_decay") else "adam"
    told = next((name for key, name in _TELLING.items() if key in keys), None)
    if told is not None or not groups:
        return told
    if kind_of(None, state) == "adam" and "betas" in keys and "decoupled_weight_decay" in keys:
        return "radam"
    kinds = {"adam": "adam", "adamax": "adamax", "sign": "lion"}
    return kinds.get(kind_of(None, state) or "") if "betas" in keys else None


def _settings(name: str | None, named: OptimizerSpec | None, own: Groups, saved: Groups) -> dict[str, Any]:
    """Of the optimizer in the file; of one asked for by name: torch's, the checkpoint's, those given."""
    if own:
        first = dict(own[0])
        return {**first, **named.settings} if named else first
    if named is None:
        return dict(saved[0]) if saved else {}
    defaults = _defaults(named)
    guess = _guess_name(saved)
    same = guess is not None and family_of(guess) == family_of(name)
    carried = {key: value for key, value in saved[0].items() if key in defaults} if same else {}
    return {**defaults, **carried, **named.settings}


def _defaults(named: OptimizerSpec) -> dict[str, Any]:
    classes = optimizer_classes()
    name = named.name.lower()
    if name not in classes:
        near = difflib.get_close_matches(name, classes, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"there is no optimizer `{named.name}` in torch.optim", f"{hint}one of: {', '.join(classes)}"
        )
    return defaults_of(classes[name])


def defaults_of(kind: Callable[..., Optimizer]) -> dict[str, Any]:
    """Its hyperparameters as torch sets them."""
    return kind([torch.zeros(1)], lr=1.0).defaults


def accepted(kind: Callable[..., Optimizer], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that its constructor takes: AdamW keeps one of Adam's among its defaults that it does not."""
    taken = inspect.signature(kind).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return dict(settings)
    return {key: value for key, value in settings.items() if key in taken}


def optimizer_classes() -> dict[str, Callable[..., Optimizer]]:
    """Those of torch, by name in lower case."""
    return {
        kind.lower(): found
        for kind, found in vars(torch.optim).items()
        if isinstance(found, type) and issubclass(found, Optimizer) and found is not Optimizer
    }


def _details(
    name: str | None, settings: Mapping[str, Any], step: int | None, moments: SecondMoments
) -> OptimizerDetails | None:
    if name is None and not settings:
        return None
    betas = settings.get("betas")
    return OptimizerDetails(
        family=family_of_kind(moments.kind),
        betas=(float(betas[0]), float(betas[1])) if betas else None,
        momentum=_float(settings.get("momentum")),
        nesterov=bool(settings.get("nesterov")),
        weight_decay=_float(settings.get("weight_decay")),
        epsilon=_float(settings.get("eps")),
        step=step,
        state_loaded=moments.state == "loaded",
        dampening=_float(settings.get("dampening")) or 0.0,
        **facts_of(name, moments.kind),
    )


def saved_step(saved: Mapping[str, Any] | None) -> int | None:
    """Steps taken so far, as the state of most adaptive optimizers counts them."""
    states = [*saved["state"].values(), *saved["param_groups"]] if saved else ()
    steps = [int(state["step"]) for state in states if isinstance(state, Mapping) and "step" in state]
    return max(steps, default=None)


def largest_rate(groups: Groups) -> Rate | None:
    """The largest of several groups: layer-wise decay and the like state the others relative to it."""
    rates = [
        Rate(peak=rate_of(group), now=float(group["lr"])) for group in groups if group.get("lr") is not None
    ]
    return max(rates, key=lambda rate: rate.peak, default=None)


def _float(value: Any) -> float | None:
    return None if value is None or isinstance(value, (tuple, list)) else float(value)
