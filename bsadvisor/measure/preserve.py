"""The user's things are as before: buffers, gradients, training flags and random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from bsadvisor.random_state import random_state_kept


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Restore everything that measuring disturbs, also when it fails."""
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    modes = {module: module.training for module in model.modules()}
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        with random_state_kept():
            for parameter, _ in gradients:
                parameter.grad = None
            yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for module, mode in modes.items():
            module.training = mode
        restore_buffers(model, buffers)


def restore_buffers(model: nn.Module, buffers: dict[str, torch.Tensor]) -> None:
    """Write saved buffers back in place (BatchNorm's running statistics)."""
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name in buffers:
                buffer.copy_(buffers[name])
