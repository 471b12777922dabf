"""The factor D that an adaptive optimizer multiplies one parameter's direction with, from what it keeps of it.

    Adam, AdamW, NAdam   1 / (sqrt(v / (1 - beta_2^t)) + eps)      LAMB too, but for its trust ratio
    RAdam                the same times its rectification r_t; 1 while that is not defined
    RMSprop              1 / (sqrt(v) + eps), centred: v less the square of the mean
    Adagrad              1 / (sqrt(sum) + eps), times the decay of its learning rate
    Adamax               1 / u, the largest recent |gradient|
    Adafactor            1 / sqrt(row x column / mean), times the relative step size

NaN where no gradient has ever been: an optimizer has no opinion there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bsadvisor.target.optimizer_families import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Of one parameter."""

    entries: Mapping[str, Any]
    group: Mapping[str, Any]
    """Settings of its parameter group."""

    @property
    def steps(self) -> float:
        """Taken; a state that does not count them is taken as settled."""
        return float(self.entries.get("step", self.group.get("step", math.inf)) or 0)

    def setting(self, name: str, default: float) -> float:
        """Of its group."""
        value = self.group.get(name)
        return default if value is None else float(value)

    def entry(self, name: str) -> Tensor:
        """In float32."""
        found: Tensor = self.entries[name].detach().float()
        return found


KEPT: dict[Kind, tuple[str, ...]] = {
    "adam": ("exp_avg_sq", "state2", "exp_avg_var"),
    "radam": ("exp_avg_sq",),
    "rmsprop": ("square_avg", "state2"),
    "adagrad": ("sum", "state1"),
    "adamax": ("exp_inf",),
    "adafactor": ("row_var", "variance", "exp_avg_sq_row", "exp_avg_sq"),
    "sign": ("exp_avg", "momentum_buffer", "state1"),
}
"""Where each kind keeps what D is made from, the usual name first."""


def kept_key(kind: Kind, state: State) -> str | None:
    """The entry that D is made from; None where there is none."""
    return next((key for key in KEPT.get(kind, ()) if key in state.entries), None)


def kept_shapes(key: str, state: State, parameter: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of the state, and what the parameter asks of it."""
    shape, wanted = tuple(state.entries[key].shape), tuple(parameter.shape)
    if key == "row_var":
        return shape, (*wanted[:-1], 1)
    return shape, wanted[:-1] if key == "exp_avg_sq_row" else wanted


def diagonal(kind: Kind, key: str, state: State, parameter: Tensor) -> Tensor:
    """D, in float32, shaped as the parameter.

    Args:
        kind: of optimizer, not `gradient` nor `sign`.
        key: of the state's entry, as `kept_key` found it.
        parameter: whose size some steps are relative to.
    """
    return _FORMULAS[kind](key, state, parameter)


def _adam(key: str, state: State, parameter: Tensor) -> Tensor:
    squares = state.entry("max_exp_avg_sq" if "max_exp_avg_sq" in state.entries else key)
    beta = float(state.group["betas"][1]) if "betas" in state.group else state.setting("beta2", 0.0)
    unbiased = 1 - beta ** max(state.steps, 1.0) if 0 < beta < 1 else 1.0
    return _inverse_root(squares / unbiased, state.setting("eps", 1e-8))


def _radam(key: str, state: State, parameter: Tensor) -> Tensor:
    squares, beta = state.entry(key), float(state.group["betas"][1])
    steps = max(state.steps, 1.0)
    rectification = _rectification(beta, steps)
    if rectification is None:
        return torch.where(squares > 0, 1.0, math.nan)
    unbiased = math.sqrt(1 - beta**steps)
    return rectification * unbiased * _inverse_root(squares, state.setting("eps", 1e-8))


def _rectification(beta: float, steps: float) -> float | None:
    """r_t of Liu et al. 2020, equation 5; None while the variance of v is not tractable."""
    most = 2 / (1 - beta) - 1
    if math.isinf(steps):
        return 1.0
    length = most - 2 * steps * beta**steps / (1 - beta**steps)
    if length <= 5:
        return None
    return math.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))


def _rmsprop(key: str, state: State, parameter: Tensor) -> Tensor:
    squares = state.entry(key)
    if "grad_avg" in state.entries:
        squares = squares - state.entry("grad_avg").square()
    return _inverse_root(squares, state.setting("eps", 1e-8))


def _adagrad(key: str, state: State, parameter: Tensor) -> Tensor:
    decay, steps = state.setting("lr_decay", 0.0), state.steps
    slowed = 1 + (steps - 1) * decay if decay and math.isfinite(steps) else 1.0
    return _inverse_root(state.entry(key), state.setting("eps", 1e-10)) / max(slowed, 1.0)


def _adamax(key: str, state: State, parameter: Tensor) -> Tensor:
    largest, epsilon = state.entry(key), state.setting("eps", 1e-8)
    return torch.where(largest > 2 * epsilon, 1 / largest, math.nan)  # eps is added to every |gradient|


def _adafactor(key: str, state: State, parameter: Tensor) -> Tensor:
    return _inverse_root(_factored(key, state, parameter), 0.0) * _relative_step(state, parameter)


def _factored(key: str, state: State, parameter: Tensor) -> Tensor:
    if key == "row_var":  # PyTorch's
        rows, least = state.entry(key), state.group["eps"][0] or torch.finfo(parameter.dtype).eps
        return rows @ state.entry("col_var") / rows.mean(dim=-2, keepdim=True).clamp(min=float(least))
    if key == "exp_avg_sq_row":  # that of transformers, and of fairseq before it
        rows = state.entry(key)
        share = rows / rows.mean(dim=-1, keepdim=True).clamp(min=1e-30)
        return share.unsqueeze(-1) * state.entry("exp_avg_sq_col").unsqueeze(-2)
    return state.entry(key)


def _relative_step(state: State, parameter: Tensor) -> float:
    """Of the learning rate: Adafactor's steps are relative to the size of what they change."""
    size = float(parameter.detach().float().square().mean().sqrt())
    if "beta2_decay" in state.group:  # PyTorch's
        rate, least = state.setting("lr", 1.0), float(state.group["eps"][1])
        slowed = min(1.0, 1 / (rate * math.sqrt(max(state.steps, 1.0)))) if rate else 1.0
        return max(least, size) * (slowed if math.isfinite(state.steps) else 1.0)
    if state.group.get("scale_parameter"):
        return max(float(state.group["eps"][1]), size)
    return 1.0


def _inverse_root(squares: Tensor, epsilon: float) -> Tensor:
    scale = 1 / (squares.clamp(min=0).sqrt() + epsilon)
    return torch.where(squares > 0, scale, math.nan)


_FORMULAS: dict[Kind, Callable[[str, State, Tensor], Tensor]] = {
    "adam": _adam,
    "radam": _radam,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "adamax": _adamax,
    "adafactor": _adafactor,
}
