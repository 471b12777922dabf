"""What an optimizer multiplies each coordinate's direction with: its gathered second moments and its rates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bsadvisor.target.diagonals import KEPT, State, diagonal, kept_key, kept_shapes
from bsadvisor.target.optimizer_families import Kind, kind_of

Groups = Sequence[Mapping[str, Any]]

LEAST_RATE = 1e-6
"""Of a group at learning rate zero, relative to the main one: D must be positive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondMoments:
    """An optimizer's geometry, or why it is not known."""

    preconditioner: dict[str, Tensor] | None = None
    """By name of the trainable parameter: D, in float32 on its device, for steps of the main learning rate."""
    state: Literal["loaded", "missing", "mismatch", "not_needed"] = "not_needed"
    problem: str | None = None
    kind: Kind | None = None
    """Of optimizer, by its name or by what it keeps."""
    relative_rates: dict[str, float] | None = None
    """Learning rate of each trainable parameter over the main one, where groups have different ones."""


class _MismatchError(Exception):
    """In words, why saved state cannot be given to parameters."""


def find_second_moments(
    name: str | None, model: nn.Module, own: Optimizer | None, saved: Mapping[str, Any] | None
) -> SecondMoments:
    """From the checkpoint, or from the user's own optimizer where the file has filled it."""
    kind = kind_of(name, state_keys(own, saved))
    trainable = {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
    rates: dict[str, float] | None = None
    try:
        rates = _relative_rates(trainable, model, own, saved)
        found = SecondMoments(kind=kind)
        if kind is not None and kind != "gradient":
            found = _scales(kind, name or "it", trainable, _with_state(model, own, saved))
    except _MismatchError as mismatch:
        found = SecondMoments(state="mismatch", problem=str(mismatch), kind=kind)
    return _with_rates(found, rates, trainable)


def state_keys(own: Optimizer | None, saved: Mapping[str, Any] | None) -> list[str]:
    """What the optimizer keeps for the first of its parameters that has something."""
    states = [*(saved["state"].values() if saved else ()), *(own.state.values() if own else ())]
    first = next((state for state in states if isinstance(state, Mapping) and state), {})
    return [str(key) for key, value in first.items() if value is not None]


# --- which state and which group belongs to which parameter --------------------------------------


def _with_state(model: nn.Module, own: Optimizer | None, saved: Mapping[str, Any] | None) -> dict[int, State]:
    """State by id of the parameter, of those that have one."""
    everything = _saved_states(model, own, saved) if saved and saved["state"] else _own_states(own)
    return {number: state for number, state in everything.items() if state.entries}


def _own_states(own: Optimizer | None) -> dict[int, State]:
    return {
        id(parameter): State(entries=own.state.get(parameter, {}) if own else {}, group=group)
        for group in (own.param_groups if own else ())
        for parameter in group["params"]
    }


def _saved_states(model: nn.Module, own: Optimizer | None, saved: Mapping[str, Any]) -> dict[int, State]:
    """State by id of the parameter; a checkpoint numbers parameters in the order of their groups."""
    groups = saved["param_groups"]
    parameters = _groups_of(own) if own else [_parameters_for(model, groups)]
    sizes, wanted = [len(group["params"]) for group in groups], [len(group) for group in parameters]
    if sizes != wanted:
        raise _MismatchError(f"its groups hold {_sum(sizes)} parameters, those of the model {_sum(wanted)}")
    return {
        id(parameter): State(entries=_present(saved["state"].get(number, {})), group=group)
        for group, members in zip(groups, parameters, strict=True)
        for number, parameter in zip(group["params"], members, strict=True)
    }


def _present(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if value is not None}


def _groups_of(own: Optimizer) -> list[list[Tensor]]:
    return [list(group["params"]) for group in own.param_groups]


def _parameters_for(model: nn.Module, groups: Groups) -> list[Tensor]:
    """All parameters or the trainable ones, in the model's order: what most scripts hand over."""
    if len(groups) > 1:
        raise _MismatchError(f"it has {len(groups)} groups, whose order only the code that made them knows")
    every: list[Tensor] = list(model.parameters())
    trainable = [parameter for parameter in every if parameter.requires_grad]
    return trainable if len(trainable) == len(groups[0]["params"]) else every


def _sum(sizes: Iterable[int]) -> str:
    return " + ".join(map(str, sizes))


# --- learning rates ------------------------------------------------------------------------------


def rate_of(group: Mapping[str, Any]) -> float:
    """Its learning rate as it was set: before a schedule."""
    return float(group.get("initial_lr", group["lr"]))


def _relative_rates(
    trainable: Mapping[str, nn.Parameter],
    model: nn.Module,
    own: Optimizer | None,
    saved: Mapping[str, Any] | None,
) -> dict[str, float] | None:
    """None where all groups have the same."""
    groups: Groups = saved["param_groups"] if saved else own.param_groups if own else ()
    rates = [rate_of(group) for group in groups if group.get("lr") is not None]
    if len(set(rates)) < 2:
        return None
    states = _saved_states(model, own, saved) if saved else _own_states(own)
    main = max(rates)
    return {
        name: max(rate_of(states[id(parameter)].group) / main, LEAST_RATE) if id(parameter) in states else 1.0
        for name, parameter in trainable.items()
    }


def _with_rates(
    found: SecondMoments, rates: dict[str, float] | None, trainable: Mapping[str, nn.Parameter]
) -> SecondMoments:
    """The rates enter D where the rest of it is known, which is 1 where nothing is divided by."""
    scales = found.preconditioner
    if rates is not None and scales is None and found.kind in ("gradient", None):
        scales = {name: _ones(parameter) for name, parameter in trainable.items()}
    if rates is not None and scales is not None:
        scales = {name: scale * rates[name] for name, scale in scales.items()}
    return SecondMoments(
        preconditioner=scales,
        state=found.state,
        problem=found.problem,
        kind=found.kind,
        relative_rates=rates,
    )


def _ones(parameter: Tensor) -> Tensor:
    return torch.ones_like(parameter, dtype=torch.float32, requires_grad=False)


# --- second moments ------------------------------------------------------------------------------


def _scales(
    kind: Kind, name: str, trainable: Mapping[str, nn.Parameter], states: Mapping[int, State]
) -> SecondMoments:
    if not states:
        return SecondMoments(state="not_needed" if kind == "sign" else "missing", kind=kind)
    kept = {}
    for parameter_name, parameter in trainable.items():
        state = states.get(id(parameter))
        key = kept_key(kind, state) if state else None
        if state is None or key is None:
            continue
        if not state.entries[key].is_floating_point():
            raise _MismatchError(f"its `{key}` is quantised, which is not read here")
        shape, wanted = kept_shapes(key, state, parameter)
        if shape != wanted:
            raise _MismatchError(f"{parameter_name} is {tuple(parameter.shape)}, its state {shape}")
        kept[parameter_name] = key, state
    if kind == "sign":
        return SecondMoments(kind=kind)
    if not kept:
        raise _MismatchError(f"it holds no `{KEPT[kind][0]}`, which {name} keeps")
    scales = {
        parameter_name: diagonal(kind, key, state, trainable[parameter_name]).to(
            trainable[parameter_name].device
        )
        for parameter_name, (key, state) in kept.items()
    }
    if all(bool(scale.isnan().all()) for scale in scales.values()):  # made, but never stepped
        return SecondMoments(state="missing", kind=kind)
    return SecondMoments(preconditioner=_complete(scales, trainable), state="loaded", kind=kind)


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
