"""The user's things are as before: buffers, gradients, training flags and random state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bsadvisor.random_state import random_state_kept


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Restore everything that measuring disturbs, also when it fails."""
    modes = {module: module.training for module in model.modules()}
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        with buffers_kept(model), random_state_kept():
            for parameter, _ in gradients:
                parameter.grad = None
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """The buffers are afterwards as they are now: the same tensors (BatchNorm's statistics) with the same values."""
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, value in buffers:
                if getattr(module, name, None) is not buffer:  # a forward pass that assigns a new one
                    setattr(module, name, buffer)
                buffer.copy_(value)


@contextmanager
def in_full_precision(model: nn.Module) -> Iterator[None]:
    """Weights and buffers of 16 bits are held in float32 while inside; they come back bit for bit."""
    narrow = [
        (tensor, tensor.data)
        for tensor in (*model.parameters(), *model.buffers())
        if tensor.dtype in (torch.bfloat16, torch.float16)
    ]
    try:
        for tensor, data in narrow:
            tensor.data = data.float()
        yield
    finally:
        for tensor, data in narrow:
            tensor.data = data


@contextmanager
def parameters_kept(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Hand out a copy of the parameters as they are, and as they are again afterwards, bit for bit."""
    origin = [parameter.detach().clone() for parameter in parameters]
    try:
        yield origin
    finally:
        with torch.no_grad():
            torch._foreach_copy_(list(parameters), origin)


@contextmanager
def moved(
    parameters: Sequence[Tensor], direction: Sequence[Tensor], scale: Sequence[Tensor] | None = None
) -> Iterator[Callable[[float], None]]:
    """Hand out `move(x)`: parameters become their origin plus x times (scale times) the direction.

    They come back bit for bit. Cost: one copy of the parameters; the scaled direction is never formed.
    """
    with parameters_kept(parameters) as origin:

        def move(distance: float) -> None:
            with torch.no_grad():
                for index, parameter in enumerate(parameters):
                    parameter.copy_(origin[index])
                    step = direction[index].to(parameter.dtype)
                    if scale is None:
                        parameter.add_(step, alpha=distance)
                    else:
                        parameter.addcmul_(scale[index].to(parameter.dtype), step, value=distance)

        yield move
