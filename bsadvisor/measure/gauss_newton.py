"""Products with the Gauss-Newton matrix J'LJ: positive where the loss is convex in the model's output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bsadvisor.measure.hessian import Hessian, Products


class NoOutputError(Exception):
    """The loss does not depend on a tensor that the model returned."""


@dataclass(kw_only=True)
class GaussNewton(Hessian):
    """As `Hessian`, with the model's own curvature left out.

    J is the Jacobian of what the model returns, L the Hessian of the loss with respect to that.

    Source: Schraudolph 2002.
    Cost: about 5 forward and backward passes for one vector.
    """

    def multiply(self, batch: Any, number: int, vectors: Sequence[Tensor]) -> Products:
        """The gradient on a micro-batch, and its Gauss-Newton matrix times each vector.

        Raises:
            NoOutputError: the model returned nothing that the loss depends on.
        """
        with outputs_of(self.problem.model) as outputs:
            loss = self.loss_with_graph(batch, number)
        slopes = torch.autograd.grad(loss, outputs, create_graph=True, allow_unused=True) if outputs else ()
        reached = [(out, slope) for out, slope in zip(outputs, slopes, strict=True) if slope is not None]
        if not reached:
            raise NoOutputError
        used, bends = zip(*reached, strict=True)
        products = [self.flat(self._product(used, bends, vector)) for vector in vectors]
        gradient = torch.autograd.grad(loss, self.leaves, allow_unused=True)
        return Products(gradient=self.flat(gradient), products=products)

    def _product(
        self, outputs: Sequence[Tensor], slopes: Sequence[Tensor], vector: Tensor
    ) -> Sequence[Tensor | None]:
        bent = [slope for slope in slopes if slope.requires_grad]
        if not bent:
            return [None] * len(self.leaves)
        along = self._forward(outputs, vector)
        turned = torch.autograd.grad(
            slopes, outputs, grad_outputs=along, retain_graph=True, allow_unused=True
        )
        filled = [
            torch.zeros_like(out) if part is None else part for out, part in zip(outputs, turned, strict=True)
        ]
        return torch.autograd.grad(
            outputs, self.leaves, grad_outputs=filled, retain_graph=True, allow_unused=True
        )

    def _forward(self, outputs: Sequence[Tensor], vector: Tensor) -> list[Tensor]:
        """J v: the vector-Jacobian product is linear in its vector, and its derivative is J."""
        weights = [torch.zeros_like(out, requires_grad=True) for out in outputs]
        pulled = torch.autograd.grad(
            outputs, self.leaves, grad_outputs=weights, create_graph=True, allow_unused=True
        )
        pairs = [(part, v) for part, v in zip(pulled, self.split(vector), strict=True) if part is not None]
        found = torch.autograd.grad(
            [part for part, _ in pairs], weights, grad_outputs=[v for _, v in pairs], allow_unused=True
        )
        return [
            torch.zeros_like(out) if part is None else part for out, part in zip(outputs, found, strict=True)
        ]


@contextmanager
def outputs_of(model: torch.nn.Module) -> Iterator[list[Tensor]]:
    """Collect the differentiable tensors that the model returns while inside."""
    outputs: list[Tensor] = []
    handle = model.register_forward_hook(lambda module, inputs, output: outputs.extend(_tensors(output)))
    try:
        yield outputs
    finally:
        handle.remove()


def _tensors(output: Any) -> Iterator[Tensor]:
    """Not a scalar: that is a loss which the model computed itself, from another output."""
    if isinstance(output, Tensor):
        if output.requires_grad and output.ndim:
            yield output
    elif isinstance(output, Mapping):
        for part in output.values():
            yield from _tensors(part)
    elif isinstance(output, (list, tuple)):
        for part in output:
            yield from _tensors(part)
