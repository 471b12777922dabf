"""The optimizer in use, made anew: for training runs from the checkpoint, which are taken back."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from bsadvisor.target.optimizer import OptimizerInUse, accepted, build_optimizer, optimizer_classes
from bsadvisor.target.spec import OptimizerSpec
from bsadvisor.target.user_code import UserCode

FALLBACK = "adamw"
"""Where no optimizer is known anywhere."""


@dataclass(kw_only=True)
class Training:
    """How the run steps: makes any number of independent optimizers over the model's parameters."""

    name: str
    known: bool
    """False: no optimizer was found anywhere, and `FALLBACK` stands in."""
    clip_grad_norm: float | None
    make: Callable[[], Optimizer]
    """A fresh one, as the run's was at its beginning."""
    saved: Mapping[str, Any] | None
    """State of the checkpoint, not looked at yet."""

    @cached_property
    def has_state(self) -> bool:
        """Whether an optimizer goes on from where the run left it."""
        if self.saved and self.saved["state"]:
            return _fits(self.make(), self.saved)
        return bool(self.make().state)

    @cached_property
    def needs_closure(self) -> bool:
        """Whether a step calls back for the loss, as L-BFGS does."""
        closure = inspect.signature(self.make().step).parameters.get("closure")
        return closure is not None and closure.default is inspect.Parameter.empty

    def optimizer(self, learning_rate: float, *, batch_factor: float = 1.0) -> Optimizer:
        """As in the run, at another learning rate and batch size.

        Args:
            learning_rate: of the group with the largest one; the others keep their ratio to it.
            batch_factor: batch size over that of the run; moving averages of squared gradients forget
                after the same number of examples (1: they are left alone).
        """
        optimizer = self.make()
        if self.has_state and self.saved:
            optimizer.load_state_dict(copy.deepcopy(dict(self.saved)))
        rates = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = learning_rate * rate / max(rates)
            _rescale_averages(group, batch_factor)
        return optimizer


def describe_training(
    model: nn.Module,
    *,
    in_use: OptimizerInUse,
    in_file: Any,
    named: OptimizerSpec | None,
    saved: Mapping[str, Any] | None,
    clip_grad_norm: float | None,
    code: UserCode,
) -> Training:
    """From what was found for `describe_optimizer`; nothing of the user's is stepped or changed."""
    return Training(
        name=in_use.name or FALLBACK,
        known=in_use.name is not None,
        clip_grad_norm=clip_grad_norm,
        make=_maker(model, in_use, in_file, named, code),
        saved=saved,
    )


def _maker(
    model: nn.Module, in_use: OptimizerInUse, in_file: Any, named: OptimizerSpec | None, code: UserCode
) -> Callable[[], Optimizer]:
    if in_use.own is not None and isinstance(in_file, Optimizer):
        return lambda: _overridden(_like(in_file), named)
    if in_use.own is not None:
        return lambda: _overridden(build_optimizer(model, in_file, code), named)
    return lambda: _by_name(model, in_use)


def _by_name(model: nn.Module, in_use: OptimizerInUse) -> Optimizer:
    """One of torch's with what is known of its settings."""
    kind = optimizer_classes()[in_use.name or FALLBACK]
    return kind(list(model.parameters()), **{"lr": 1e-3, **accepted(kind, in_use.settings)})


def _like(instance: Optimizer) -> Optimizer:
    """A second optimizer over the same parameters, with a copy of the state."""
    groups = [{**group, "params": list(group["params"])} for group in instance.param_groups]
    made: Optimizer = type(instance)(groups, **copy.deepcopy(accepted(type(instance), instance.defaults)))
    made.load_state_dict(copy.deepcopy(instance.state_dict()))
    return made


def _overridden(optimizer: Optimizer, named: OptimizerSpec | None) -> Optimizer:
    """With what the YAML says of the same optimizer."""
    for group in optimizer.param_groups if named else ():
        group.update(named.settings if named else {})
    return optimizer


def _fits(optimizer: Optimizer, saved: Mapping[str, Any]) -> bool:
    """Whether the saved state can be given to such an optimizer."""
    try:
        optimizer.load_state_dict(copy.deepcopy(dict(saved)))
    except (ValueError, KeyError, RuntimeError):
        return False
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for value in optimizer.state[parameter].values():
                if isinstance(value, torch.Tensor) and value.ndim and value.shape != parameter.shape:
                    return False
    return True


def _rescale_averages(group: dict[str, Any], batch_factor: float) -> None:
    """beta_2^(B / B_0): the half-life in examples stays (Marek et al. 2025)."""
    if "betas" in group:
        beta_1, beta_2 = group["betas"]
        group["betas"] = beta_1, float(beta_2) ** batch_factor
    elif "alpha" in group and "centered" in group:
        group["alpha"] = float(group["alpha"]) ** batch_factor
