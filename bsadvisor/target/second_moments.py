"""What an adaptive optimizer has gathered: the factor it multiplies each coordinate's gradient with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

SECOND_MOMENTS = {
    "adam": "exp_avg_sq",
    "adamw": "exp_avg_sq",
    "nadam": "exp_avg_sq",
    "radam": "exp_avg_sq",
    "rmsprop": "square_avg",
    "adagrad": "sum",
}
"""Where each optimizer keeps the squared gradients that it divides by the root of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondMoments:
    """An optimizer's geometry, or why it is not known."""

    preconditioner: dict[str, Tensor] | None = None
    """By name of the trainable parameter: 1 / (sqrt(v) + eps), in float32 on its device."""
    state: Literal["loaded", "missing", "mismatch", "not_needed"] = "not_needed"
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """Of one parameter."""

    entries: Mapping[str, Any]
    group: Mapping[str, Any]
    """Settings of its parameter group."""


class _MismatchError(Exception):
    """In words, why saved state cannot be given to parameters."""


def find_second_moments(
    name: str | None, model: nn.Module, own: Optimizer | None, saved: Mapping[str, Any] | None
) -> SecondMoments:
    """From the checkpoint, or from the user's own optimizer where the file has filled it."""
    if name not in SECOND_MOMENTS:
        return SecondMoments()
    trainable = {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
    try:
        states = _saved_states(model, own, saved) if saved and saved["state"] else _own_states(own)
        if not states:
            return SecondMoments(state="missing")
        scales = _scales(name, trainable, states)
    except _MismatchError as mismatch:
        return SecondMoments(state="mismatch", problem=str(mismatch))
    return SecondMoments(preconditioner=_complete(scales, trainable), state="loaded")


def _own_states(own: Optimizer | None) -> dict[int, _State]:
    """State by id of the parameter."""
    return {
        id(parameter): _State(entries=own.state[parameter], group=group)
        for group in (own.param_groups if own else ())
        for parameter in group["params"]
        if own and own.state.get(parameter)
    }


def _saved_states(model: nn.Module, own: Optimizer | None, saved: Mapping[str, Any]) -> dict[int, _State]:
    """State by id of the parameter; a checkpoint numbers parameters in the order of their groups."""
    groups = saved["param_groups"]
    parameters = _groups_of(own) if own else [_parameters_for(model, groups)]
    sizes, wanted = [len(group["params"]) for group in groups], [len(group) for group in parameters]
    if sizes != wanted:
        raise _MismatchError(f"its groups hold {_sum(sizes)} parameters, those of the model {_sum(wanted)}")
    return {
        id(parameter): _State(entries=saved["state"].get(number, {}), group=group)
        for group, members in zip(groups, parameters, strict=True)
        for number, parameter in zip(group["params"], members, strict=True)
    }


def _groups_of(own: Optimizer) -> list[list[Tensor]]:
    return [list(group["params"]) for group in own.param_groups]


def _parameters_for(model: nn.Module, groups: list[Mapping[str, Any]]) -> list[Tensor]:
    """All parameters or the trainable ones, in the model's order: what most scripts hand over."""
    if len(groups) > 1:
        raise _MismatchError(f"it has {len(groups)} groups, whose order only the code that made them knows")
    every: list[Tensor] = list(model.parameters())
    trainable = [parameter for parameter in every if parameter.requires_grad]
    return trainable if len(trainable) == len(groups[0]["params"]) else every


def _sum(sizes: Iterable[int]) -> str:
    return " + ".join(map(str, sizes))


def _scales(
    name: str, trainable: Mapping[str, nn.Parameter], states: Mapping[int, _State]
) -> dict[str, Tensor]:
    key, scales = SECOND_MOMENTS[name], {}
    for parameter_name, parameter in trainable.items():
        state = states.get(id(parameter))
        if state is None or key not in state.entries:
            continue
        shape = state.entries[key].shape
        if shape != parameter.shape:
            raise _MismatchError(f"{parameter_name} is {tuple(parameter.shape)}, its state {tuple(shape)}")
        scales[parameter_name] = _scale(key, state).to(parameter.device)
    if not scales:
        raise _MismatchError(f"it holds no `{key}`, which {name} keeps")
    return scales


def _scale(key: str, state: _State) -> Tensor:
    """1 / (sqrt(v) + eps); NaN where v is zero, that is where no gradient has ever been."""
    entries, group = state.entries, state.group
    squares: Tensor = entries.get("max_exp_avg_sq", entries[key]).detach().float()
    if "betas" in group:  # the moving average starts at zero: undo its bias
        squares = squares / (1 - float(group["betas"][1]) ** max(float(entries.get("step", 1)), 1.0))
    if "grad_avg" in entries:  # centred RMSprop
        squares = squares - entries["grad_avg"].float().square()
    scale: Tensor = 1 / (squares.clamp(min=0).sqrt() + float(group.get("eps", 1e-8)))
    return torch.where(squares > 0, scale, math.nan)


def _complete(scales: dict[str, Tensor], trainable: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """What never had a gradient has no state yet, and 1 / eps is none: the median of the others stands in.

    That can be a whole parameter, or the rows of an embedding that no batch has used so far.
    """
    medians = torch.stack([scale.flatten().nanmedian() for scale in scales.values()])
    usual = float(medians.nanmedian())
    stand_in = usual if math.isfinite(usual) else 1.0
    return {
        name: scales[name].nan_to_num(nan=stand_in)
        if name in scales
        else torch.full_like(parameter, stand_in, dtype=torch.float32, requires_grad=False)
        for name, parameter in trainable.items()
    }
