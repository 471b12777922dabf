"""From a request to a target that can be measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bsadvisor.errors import TargetError
from bsadvisor.random_state import random_state_kept, seed_everything
from bsadvisor.settings import TargetRequest
from bsadvisor.target.anchor import PairInUse, find_independent_pair, find_pair
from bsadvisor.target.batches import batch_length, tensors_in
from bsadvisor.target.checkpoint import Checkpoint, load_weights, read_checkpoint
from bsadvisor.target.checkpoint_files import sha256_of
from bsadvisor.target.data import DataSource, look_at, make_source, read_npz
from bsadvisor.target.device import DTYPES, find_device, find_dtype
from bsadvisor.target.geometry_rule import geometry_rule
from bsadvisor.target.heldout import load_heldout
from bsadvisor.target.loss import Loss, choose_loss, token_counts
from bsadvisor.target.names import (
    find_criterion,
    find_data,
    find_loss,
    find_model,
    find_named,
    find_optimizer,
)
from bsadvisor.target.optimizer import OptimizerInUse, describe_optimizer
from bsadvisor.target.paths import PythonName, shown
from bsadvisor.target.spec import TargetSpec, read_spec
from bsadvisor.target.target import Target, surroundings_for
from bsadvisor.target.training import describe_training
from bsadvisor.target.user_code import UserCode
from bsadvisor.values import Anchor, TargetDescription, TargetFacts

__all__ = ["Target", "load"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What was found, for the description."""

    spec: TargetSpec
    model: nn.Module
    parameters: dict[str, nn.Parameter]
    checkpoint: Checkpoint | None
    prefix: str | None
    data: DataSource
    first_batch: Any
    loss: Loss
    optimizer: OptimizerInUse
    pair: PairInUse


def load(request: TargetRequest, *, notify: Callable[[str], None], judging: bool = False) -> Target:
    """Build the target that a request describes; nothing of the user's is changed.

    Args:
        judging: the request's pair is to be judged, and so is not the one in use.

    Raises:
        UsageError: flags or YAML that cannot be understood.
        TargetError: a file, checkpoint, device or piece of the user's code that fails.
    """
    spec = read_spec(request)
    device = find_device(spec.device)
    dtype = find_dtype(spec.dtype) if spec.dtype else None
    with random_state_kept():
        seed_everything(0)
        return _load(spec, device, dtype, UserCode(notify=notify), judging=judging)


def _load(
    spec: TargetSpec, device: torch.device, dtype: torch.dtype | None, code: UserCode, *, judging: bool
) -> Target:
    model = find_model(code, spec.model)
    checkpoint = read_checkpoint(spec.checkpoint, trust=spec.trust_checkpoint) if spec.checkpoint else None
    prefix = load_weights(model, checkpoint) if checkpoint else None
    model = model.to(device=device, dtype=dtype).train()
    parameters = _trainable(model)
    surroundings = surroundings_for(
        _weights_dtype(parameters),
        device,
        dtype_given=dtype is not None,
        mixed=DTYPES[spec.autocast] if spec.autocast else None,
    )
    given = _given_data(spec, code)
    data = make_source(given, code=code, device=device)
    first_batch = look_at(data, what="the data")
    with surroundings.autocast():
        loss = _loss(spec, model, surroundings.prepare(first_batch), code)
    in_file = find_optimizer(code, spec.model)
    saved = checkpoint.optimizer_state if checkpoint else None
    optimizer = describe_optimizer(model, named=spec.optimizer, in_file=in_file, saved=saved, code=code)
    training = describe_training(
        model,
        in_use=optimizer,
        named=spec.optimizer,
        in_file=in_file,
        saved=saved,
        clip_grad_norm=spec.clip_grad_norm,
        code=code,
    )
    judged = find_pair(spec, data, optimizer, code)
    parts = _Parts(
        spec=spec,
        model=model,
        parameters=parameters,
        checkpoint=checkpoint,
        prefix=prefix,
        data=data,
        first_batch=first_batch,
        loss=loss,
        optimizer=optimizer,
        pair=find_independent_pair(spec, data, optimizer, code) if judging else judged,
    )
    return Target(
        model=model,
        device=device,
        data=data,
        parameters=parameters,
        preconditioner=optimizer.moments.preconditioner,
        geometry_rule=geometry_rule(optimizer.moments, optimizer.settings),
        relative_rates=optimizer.moments.relative_rates,
        per_device_batch=_per_device_batch(parts),
        description=_describe(parts, device),
        facts=_facts(parts),
        users_loss=loss,
        surroundings=surroundings,
        code=code,
        training=training,
        heldout=load_heldout(spec, code, device, training=given, first_batch=first_batch),
        judged=judged if judging else None,
    )


# --- the parts ----------------------------------------------------------------------------------


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """What training changes; names that share a tensor are listed once."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        every = sum(1 for _ in model.parameters())
        raise TargetError(
            f"all {every} parameters of the model are frozen" if every else "the model has no parameters",
            "let training's parameters require a gradient: parameter.requires_grad_(True)",
        )
    unmeasurable = next((name for name, p in parameters.items() if p.is_complex()), None)
    if unmeasurable:
        raise TargetError(
            f"{unmeasurable} is complex: only real parameters can be measured",
            "keep its real and imaginary parts as two parameters, as torch.view_as_real gives them",
        )
    return parameters


def _weights_dtype(parameters: dict[str, nn.Parameter]) -> torch.dtype:
    return next(iter(parameters.values())).dtype


def _given_data(spec: TargetSpec, code: UserCode) -> Any:
    """As the user keeps it."""
    return read_npz(spec.npz) if spec.npz else find_data(code, spec.model, named=spec.data)


def _loss(spec: TargetSpec, model: nn.Module, batch: Any, code: UserCode) -> Loss:
    """As asked for by flag or YAML, in the file, or by what a first batch shows."""
    if isinstance(spec.loss, PythonName):
        criterion = find_criterion(code, spec.loss)
        return choose_loss(
            find_named(code, spec.loss), str(spec.loss), model, batch, code, criterion=criterion
        )
    if spec.loss is not None:
        return choose_loss(spec.loss, spec.loss, model, batch, code)
    found = find_loss(code, spec.model)
    criterion = find_criterion(code, spec.model)
    return choose_loss(
        found, f"the loss in {shown(spec.model.file)}", model, batch, code, criterion=criterion
    )


# --- their description --------------------------------------------------------------------------


def _describe(parts: _Parts, device: torch.device) -> TargetDescription:
    checkpoint, optimizer, pair = parts.checkpoint, parts.optimizer, parts.pair
    batch_size, rate = pair.batch_size, pair.learning_rate
    tokens = token_counts(parts.first_batch, parts.loss.ignored)
    return TargetDescription(
        model=str(parts.spec.model),
        parameters=sum(parameter.numel() for parameter in parts.model.parameters()),
        trainable_parameters=sum(parameter.numel() for parameter in parts.parameters.values()),
        checkpoint=shown(checkpoint.path) if checkpoint else None,
        checkpoint_sha256=checkpoint.sha256 if checkpoint else None,
        example=parts.spec.example or _example_word(parts.first_batch, tokens),
        tokens_per_example=None if tokens is None else tokens / batch_length(parts.first_batch),
        anchor=Anchor(
            batch_size_from=batch_size.by if batch_size else None,
            learning_rate_from=rate.by if rate else None,
        ),
        dataset_size=parts.data.size,
        optimizer=optimizer.name,
        optimizer_details=optimizer.details,
        batch_size=int(batch_size.value) if batch_size else None,
        learning_rate=rate.value if rate else None,
        device=str(device),
        dtype=str(_weights_dtype(parts.parameters)).removeprefix("torch."),
        data_file=shown(parts.spec.npz) if parts.spec.npz else None,
        data_sha256=sha256_of(parts.spec.npz, [parts.spec.npz]) if parts.spec.npz else None,
    )


def _facts(parts: _Parts) -> TargetFacts:
    return TargetFacts(
        checkpoint_wrapper=parts.checkpoint.wrapper if parts.checkpoint else None,
        checkpoint_prefix=parts.prefix,
        optimizer_state=parts.optimizer.moments.state,
        optimizer_state_problem=parts.optimizer.moments.problem,
        learning_rate_now=parts.pair.learning_rate_now,
        batch_size_assumed=parts.pair.batch_size_assumed,
        unread=parts.pair.unread,
        num_devices=parts.spec.num_devices,
        clip_grad_norm=parts.spec.clip_grad_norm,
        loader_shuffles=parts.data.shuffles,
        sampler=parts.data.sampler,
        frozen_parameters=tuple(name for name, p in parts.model.named_parameters() if not p.requires_grad),
        tied_parameters=_tied(parts.model),
        loss_from=parts.loss.found,
    )


def _per_device_batch(parts: _Parts) -> int | None:
    if parts.pair.batch_size is None:
        return None
    return max(1, int(parts.pair.batch_size.value) // (parts.spec.num_devices or 1))


def _example_word(batch: Any, tokens: int | None) -> str:
    """What one example is called, by the look of a batch."""
    first = next(tensors_in(batch), None)
    if first is not None and first.ndim == 4 and first.is_floating_point():
        return "image"
    return "example" if tokens is None else "sequence"


def _tied(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Names that share one tensor."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return tuple(tuple(group) for group in names.values() if len(group) > 1)
