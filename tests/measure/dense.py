"""Slow and obviously right: whole Hessians and Gauss-Newton matrices, entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call

Loss = Callable[[Any, Tensor], Tensor]


def with_weights(model: nn.Module, flat: Tensor) -> Callable[..., Any]:
    """The model as a function, with its trainable weights taken from one vector."""
    named = [(name, part) for name, part in model.named_parameters() if part.requires_grad]
    parts = flat.split([part.numel() for _, part in named])
    weights = {name: new.view_as(old) for (name, old), new in zip(named, parts, strict=True)}
    return lambda *inputs: functional_call(model, weights, inputs)


def weights_of(model: nn.Module) -> Tensor:
    """All trainable weights in one vector."""
    return torch.cat([part.detach().reshape(-1) for part in model.parameters() if part.requires_grad])


def dense_hessian(model: nn.Module, loss: Loss, batch: Tensor) -> Tensor:
    """(P, P)."""
    matrix: Tensor = hessian(lambda flat: loss(with_weights(model, flat), batch), weights_of(model))
    return matrix


def dense_gauss_newton(
    model: nn.Module, outputs: Callable[[Any], Tensor], loss: Callable[[Tensor], Tensor]
) -> Any:
    """J'LJ of a loss of one flat vector of outputs, J one row at a time."""
    flat = weights_of(model).requires_grad_()
    found = outputs(with_weights(model, flat))
    rows = [torch.autograd.grad(value, flat, retain_graph=True)[0] for value in found]
    bend = hessian(loss, found.detach())
    jacobian = torch.stack(rows)
    return jacobian.T @ bend @ jacobian
