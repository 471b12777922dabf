"""Weights and optimizer state from a file, whatever wraps them; nothing is executed unless trusted."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bsadvisor.errors import CheckpointError
from bsadvisor.target.checkpoint_files import sha256_of, tensor_files
from bsadvisor.target.paths import shown, typed

WRAPPERS = ("model_state_dict", "state_dict", "model", "model_state", "module", "weights", "net", "network")
"""Keys that weights are usually under, tried before any other."""

OPTIMIZERS = ("optimizer_state_dict", "optimizer", "optimizer_state", "optimizer_states", "optim", "opt")

STEPS = ("global_step", "step", "steps", "iteration", "iter", "iter_num")
"""Keys under which training loops count their optimizer steps."""

PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DistributedDataParallel, torch.compile and Lightning put before every name."""

NAMED = 3
"""At most so many names in an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint holds."""

    path: Path
    sha256: str
    weights: Mapping[str, Any]
    wrapper: str | None
    """Key under which the weights were."""
    optimizer_state: Mapping[str, Any] | None
    step: int | None
    """That the training loop had counted."""


def read_checkpoint(path: Path, *, trust: bool) -> Checkpoint:
    """Read a file of torch.save, a safetensors file, or a directory or index of its shards."""
    files = tensor_files(path)
    if all(file.suffix == ".safetensors" for file in files):
        content: Any = {name: tensor for file in files for name, tensor in _read_safetensors(file).items()}
    else:
        content = _read_pickle(path, trust=trust)
    wrapper, weights = _find_weights(content, path)
    return Checkpoint(
        path=path,
        sha256=sha256_of(path, files),
        weights=weights,
        wrapper=wrapper,
        optimizer_state=_find_optimizer_state(content),
        step=_find_step(content),
    )


def load_weights(model: nn.Module, checkpoint: Checkpoint) -> str | None:
    """Load the weights strictly; returns the prefix that was taken off their names."""
    wanted = model.state_dict()
    own, prefix = "", ""
    if not wanted.keys() & checkpoint.weights.keys():
        own, prefix = _common_prefix(wanted), _common_prefix(checkpoint.weights)
    weights = {own + name.removeprefix(prefix): value for name, value in checkpoint.weights.items()}
    weights = _with_tied(model, weights)
    _refuse_misfit(wanted, weights, checkpoint)
    model.load_state_dict(weights, strict=True)
    _refuse_not_finite(model, checkpoint)
    return prefix or None


# --- reading ------------------------------------------------------------------------------------


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def _read_pickle(path: Path, *, trust: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=not trust, mmap=_can_be_mapped(path))
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)|class ([\w.]+)|function ([\w.]+)", str(error))
        if code is None:
            raise _damaged(path, error) from None
        raise CheckpointError(
            f"{shown(path)} needs code to be read: {next(filter(None, code.groups()))}",
            f"if you trust the file, let it run that code: --checkpoint {typed(path)} --trust-checkpoint",
        ) from None
    except Exception as error:  # a trusted pickle may raise anything, a damaged one nearly
        raise _damaged(path, error) from None


def _can_be_mapped(path: Path) -> bool:
    """Whether the file is in the zip format of torch.save, which can be read without copying it."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _damaged(path: Path, error: Exception) -> CheckpointError:
    lines = str(error).strip().splitlines()
    reason = type(error).__name__ + (f": {lines[0]}" if lines else "")
    return CheckpointError(
        f"{shown(path)} cannot be read as a checkpoint: {reason}",
        "it may be cut short: copy it again, or use another checkpoint of the run",
    )


# --- finding ------------------------------------------------------------------------------------


def _find_weights(content: Any, path: Path) -> tuple[str | None, Mapping[str, Any]]:
    for key, value in _nested(content):
        if _are_weights(value):
            return key, value
    raise CheckpointError(
        f"{shown(path)} holds no weights by name",
        "save them with torch.save({'model': model.state_dict()}, ...)",
    )


def _nested(content: Any, key: str | None = None, depth: int = 2) -> Iterator[tuple[str | None, Any]]:
    """The content and what it wraps, the usual wrappers first."""
    yield key, content
    if isinstance(content, nn.Module):
        yield key, content.state_dict()
    if not isinstance(content, Mapping) or depth == 0:
        return
    for name in [*(name for name in WRAPPERS if name in content), *content]:
        inner = f"{key}.{name}" if key else str(name)
        yield from _nested(content[name], inner, depth - 1)


def _are_weights(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and any(isinstance(entry, Tensor) for entry in value.values())
        and all(
            isinstance(name, str) and (isinstance(entry, Tensor) or name.endswith("_extra_state"))
            for name, entry in value.items()
        )
    )


def _find_optimizer_state(content: Any) -> Mapping[str, Any] | None:
    if not isinstance(content, Mapping):
        return None
    for name in OPTIMIZERS:
        found = content.get(name)
        if isinstance(found, (list, tuple)) and found:
            found = found[0]
        if isinstance(found, Mapping) and "state" in found and found.get("param_groups"):
            return found
    return None


def _find_step(content: Any) -> int | None:
    if not isinstance(content, Mapping):
        return None
    counts = (content[name] for name in STEPS if name in content)
    whole = (int(count) for count in counts if _is_count(count))
    return next((count for count in whole if count >= 0), None)


def _is_count(value: Any) -> bool:
    """A whole number, also as a tensor of one element."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_floating_point() and value.dtype != torch.bool
    return isinstance(value, int) and not isinstance(value, bool)


# --- fitting ------------------------------------------------------------------------------------


def _common_prefix(names: Iterable[str]) -> str:
    """The known prefixes, also stacked, that every name starts with."""
    names, prefix = list(names), ""
    while found := next((p for p in PREFIXES if all(name.startswith(prefix + p) for name in names)), None):
        prefix += found
    return prefix


def _with_tied(model: nn.Module, weights: dict[str, Any]) -> dict[str, Any]:
    """Safetensors keeps one name of tensors that share memory; give the others their weights too."""
    saved_as = {
        id(parameter): weights[name]
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name in weights
    }
    tied = {
        name: saved_as[id(parameter)]
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if id(parameter) in saved_as
    }
    return {**tied, **weights}


def _refuse_misfit(wanted: Mapping[str, Any], weights: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    problems = [
        *(f"{name} is missing in it" for name in wanted if name not in weights),
        *(f"{name} is not in the model" for name in weights if name not in wanted),
        *(
            f"{name} is {_shape(weights[name])} in it and {_shape(value)} in the model"
            for name, value in wanted.items()
            if name in weights and _shape(value) != _shape(weights[name])
        ),
    ]
    if problems:
        more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise CheckpointError(
            f"{shown(checkpoint.path)} does not fit the model: {'; '.join(problems[:NAMED])}{more}",
            "build the model with the sizes of that run, or give the checkpoint of this model",
        )


def _refuse_not_finite(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Of parameters only: a buffer may well hold infinity, such as an attention mask."""
    bad = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise CheckpointError(
            f"{shown(checkpoint.path)} holds NaN or infinity in {bad[0]}{more}",
            "the run had diverged by then: give an earlier checkpoint of it",
        )


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
