"""A loaded target: what the measuring rooms work on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bsadvisor.errors import TargetError
from bsadvisor.target.anchor import PairInUse
from bsadvisor.target.batches import move
from bsadvisor.target.data import DataSource
from bsadvisor.target.heldout import HeldOut
from bsadvisor.target.loss import Loss, counted_classes, label_counts
from bsadvisor.target.training import Training
from bsadvisor.target.user_code import UserCode
from bsadvisor.values import GeometryRule, TargetDescription, TargetFacts

_LOW_PRECISION = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where a batch is worked on, and in which number types."""

    device: torch.device
    cast: torch.dtype | None
    """For floating inputs; None: as they come."""
    mixed: torch.dtype | None
    """Of autocast."""

    def prepare(self, batch: Any) -> Any:
        """The batch on the device, in the type of the weights."""
        return move(batch, self.device, self.cast)

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision, where the YAML asks for it."""
        if self.mixed is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.mixed)

    def in_full_precision(self) -> Surroundings:
        """For weights that were widened to float32: no mixed precision, and inputs as wide."""
        cast = torch.float32 if self.cast in _LOW_PRECISION else self.cast
        return replace(self, cast=cast, mixed=None)


def surroundings_for(
    weights: torch.dtype, device: torch.device, *, dtype_given: bool, mixed: torch.dtype | None
) -> Surroundings:
    """Inputs follow the weights where these are not what data usually comes in."""
    cast = weights if dtype_given or weights in _LOW_PRECISION else None
    return Surroundings(device=device, cast=cast, mixed=mixed)


@dataclass(kw_only=True)
class Target:
    """A model in training mode, its loss and its numbered training examples, on one device."""

    model: nn.Module
    device: torch.device
    data: DataSource
    parameters: dict[str, nn.Parameter]
    """The trainable ones by name; those that share a tensor once."""
    preconditioner: dict[str, Tensor] | None
    """1 / (sqrt(v) + eps) per trainable parameter of an adaptive optimizer."""
    per_device_batch: int | None
    """Examples per step and device in use today."""
    description: TargetDescription
    facts: TargetFacts
    users_loss: Loss
    surroundings: Surroundings
    code: UserCode
    training: Training
    heldout: HeldOut | None = None
    """None: no held-out examples are known."""
    geometry_rule: GeometryRule | None = None
    """How the optimizer divides coordinates, where what it has gathered is not known."""
    relative_rates: dict[str, float] | None = None
    """Learning rate of each parameter over the main one, where its groups have different ones."""
    judged: PairInUse | None = None
    """The pair that `check` is asked about; the description's is then what it starts from."""

    def loss(self, batch: Any, *, full_precision: bool = False) -> Tensor:
        """The scalar training loss of a batch, with its graph."""
        around = self.surroundings.in_full_precision() if full_precision else self.surroundings
        batch = around.prepare(batch)
        remedy = "mend it or the data: it is called as loss(model, batch), with a batch as the data yields it"
        with self.code.run("the loss", remedy=remedy), around.autocast():
            value = self.users_loss.function(self.model, batch)
        return _scalar(value)

    def weight(self, batch: Any) -> int | None:
        """Counted (unmasked) labels, where the loss may average over them."""
        return label_counts(batch, self.users_loss.ignored)

    def labels(self, batch: Any) -> Tensor | None:
        """One integer class per example, if that is what the targets are."""
        return counted_classes(batch, self.users_loss.ignored)


def _scalar(value: Any) -> Tensor:
    """Judged by its shape alone: looking at the number would make the host wait for the device."""
    if not isinstance(value, Tensor):
        raise TargetError(
            f"the loss returned a {type(value).__name__}, not a tensor", "return a scalar tensor"
        )
    if value.numel() != 1:
        raise TargetError(
            f"the loss returned a tensor of shape {tuple(value.shape)}, not a scalar", "return loss.mean()"
        )
    return value.reshape(())
