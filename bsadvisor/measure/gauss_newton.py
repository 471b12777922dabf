"""Products with the Gauss-Newton matrix J'LJ: positive where the loss is convex in the model's output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from bsadvisor.measure.hessian import Hessian, Products
from bsadvisor.measure.preserve import buffers_kept


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
        with buffers_kept(self.problem.model):
            with outputs_of(self.problem.model) as outputs:
                loss = self.loss_with_graph(batch, number)
            slopes = _directly([loss], outputs, create_graph=True)
            reached = [(out, slope) for out, slope in zip(outputs, slopes, strict=True) if slope is not None]
            if not reached:
                raise NoOutputError
            used, bends = zip(*reached, strict=True)
            # Flat at once, so that no parts live on beside it.
            products = [
                self._flat_scaled(self._product(used, bends, self.displacement(vector))) for vector in vectors
            ]
            gradient = self._flat_scaled(torch.autograd.grad(loss, self.leaves, allow_unused=True))
        return Products(gradient=gradient, products=products)

    def _product(
        self, outputs: Sequence[Tensor], slopes: Sequence[Tensor], vector: Tensor
    ) -> Sequence[Tensor | None]:
        along = self._forward(outputs, vector)
        bent = [(slope, part) for slope, part in zip(slopes, along, strict=True) if slope.requires_grad]
        if not bent:
            return [None] * len(self.leaves)
        turned = _directly([slope for slope, _ in bent], outputs, weights=[part for _, part in bent])
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


def _directly(
    values: Sequence[Tensor],
    outputs: Sequence[Tensor],
    *,
    weights: Sequence[Tensor] | None = None,
    create_graph: bool = False,
) -> list[Tensor | None]:
    """Derivatives with respect to each output while the others are held, also where one is made of another.

    A model may return its hidden states beside what it computed from them: a plain derivative with
    respect to the former would count the latter twice.
    """
    found: list[Tensor | None] = [None] * len(outputs)

    def catch(index: int) -> Callable[[Tensor], Tensor]:
        def hook(slope: Tensor) -> Tensor:
            found[index] = slope
            return torch.zeros_like(slope)

        return hook

    hooks = [output.register_hook(catch(index)) for index, output in enumerate(outputs)]
    try:
        if outputs:
            torch.autograd.grad(
                values,
                outputs,
                grad_outputs=weights,
                create_graph=create_graph,
                retain_graph=True,
                allow_unused=True,
            )
    finally:
        for handle in hooks:
            handle.remove()
    return found


@contextmanager
def outputs_of(model: torch.nn.Module) -> Iterator[list[Tensor]]:
    """Collect the differentiable tensors that the model returns while inside, each once."""
    outputs: list[Tensor] = []

    def collect(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        for part in _tensors(output):
            if all(part is not known for known in outputs):
                outputs.append(part)

    handle = model.register_forward_hook(collect)
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
        yield from chain.from_iterable(map(_tensors, output.values()))
    elif isinstance(output, (list, tuple)):
        yield from chain.from_iterable(map(_tensors, output))
    elif is_dataclass(output):
        yield from chain.from_iterable(_tensors(getattr(output, part.name)) for part in fields(output))
