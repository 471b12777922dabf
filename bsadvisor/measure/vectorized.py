"""Losses and gradients of many micro-batches, or at many parameters, in one call.

    fast = vectorized(problem, batches)             None where the target cannot be, or it does not pay
    fast.gradients(parameters, stacked(batches), stacked_parameters=False, stacked_batch=True)

Calling torch takes longer than the arithmetic of a small model. The user's own loss runs, under
`torch.func.vmap`: what this cannot do, or does in another way, is found out on examples beforehand.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

from bsadvisor.errors import is_out_of_memory
from bsadvisor.measure.gradients import gradients_of
from bsadvisor.measure.preserve import preserved
from bsadvisor.measure.problem import Problem

MAX_WORK = 2**18
"""Parameters, and numbers kept for the backward pass of one micro-batch: above, arithmetic takes the time."""

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Relative differences of losses and gradients that are rounding. Other types round too much to compare."""

CHECKED = 2
"""Micro-batches on which both ways are compared."""


class Vectorized:
    """The loss of a target that was found to be the same in one call as in many: see `vectorized`.

    `parameters` are those of the target, by name; stacked ones have a new first dimension R, and so has
    every tensor of a stacked batch. What is not stacked is shared. Nothing here has a graph.

    Args:
        problem: the target; its buffers and frozen parameters are shared.
        full_precision: as the loss of a `Problem` takes it.
        reached: names of the parameters on which the loss depends; the others have gradients of zero.

    Cost: a millisecond, and R gradients and R graphs in memory at a time.
    """

    def __init__(self, problem: Problem, *, full_precision: bool, reached: frozenset[str]) -> None:
        self.reached = reached
        self._module = _Loss(problem, full_precision)

    def losses(
        self, parameters: Mapping[str, Tensor], batch: Any, *, stacked_parameters: bool, stacked_batch: bool
    ) -> Tensor:
        """(R,) losses."""
        over = (0 if stacked_parameters else None, 0 if stacked_batch else None)
        with torch.no_grad():
            found: Tensor = vmap(self._loss, in_dims=over)(_detached(parameters), batch)
        return found

    def gradients(
        self, parameters: Mapping[str, Tensor], batch: Any, *, stacked_parameters: bool, stacked_batch: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(R,) losses and, by name, their gradients (R, ...)."""
        over = (0 if stacked_parameters else None, 0 if stacked_batch else None)
        gradients, losses = vmap(grad_and_value(self._loss), in_dims=over)(_detached(parameters), batch)
        return losses, gradients

    def _loss(self, parameters: Mapping[str, Tensor], batch: Any) -> Tensor:
        inside = {f"model.{name}": parameter for name, parameter in parameters.items()}
        found: Tensor = functional_call(self._module, inside, (batch,))
        return found


def vectorized(
    problem: Problem, batches: Sequence[Any], *, full_precision: bool = False
) -> Vectorized | None:
    """One call for many losses, where it gives the same and pays.

    Args:
        problem: model in the state to be measured, which it is in again afterwards.
        batches: two of those to come.

    Returns:
        None where one call differs from many by more than rounding, where the loss draws random
        numbers or leaves a trace in the model, where batches do not stack, and for large models.

    Cost: two gradients one by one and both in one call.
    """
    first = list(batches[:CHECKED])
    together = stacked(first) if len(first) == CHECKED and _may_be(problem) else None
    if together is None:
        return None
    with preserved(problem.model):
        before = _traces(problem)
        plain = [_Plain(problem, batch, full_precision) for batch in first]
        if _traces(problem) != before or not all(one.fits for one in plain):
            return None
        fast = Vectorized(problem, full_precision=full_precision, reached=plain[0].reached)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # torch warns where it falls back to a loop
                found = fast.gradients(
                    problem.parameters, together, stacked_parameters=False, stacked_batch=True
                )
        except Exception as error:  # whatever the user's code raises when it meets a batch of batches
            if is_out_of_memory(error):
                raise
            return None
        left_alone = _traces(problem) == before
    return fast if left_alone and all(one.agrees(*found, row) for row, one in enumerate(plain)) else None


def stacked(batches: Sequence[Any]) -> Any | None:
    """The batches as one, with a new first dimension; None where they hold more than tensors of one shape."""
    (first, form), *others = [tree_flatten(batch) for batch in batches]
    if not first or any(other_form != form for _, other_form in others):
        return None
    columns = list(zip(first, *(leaves for leaves, _ in others), strict=True))
    if not all(_alike(column) for column in columns):
        return None
    return tree_unflatten([torch.stack(column) for column in columns], form)


def _alike(column: Sequence[Any]) -> bool:
    return all(
        type(one) is Tensor and (one.shape, one.dtype) == (column[0].shape, column[0].dtype) for one in column
    )


class _Loss(nn.Module):
    """Holds the model under a name, so that its parameters can be swapped while the user's loss runs."""

    def __init__(self, problem: Problem, full_precision: bool) -> None:
        super().__init__()
        self.model = problem.model
        self._problem = problem
        self._full_precision = full_precision

    def forward(self, batch: Any) -> Tensor:
        return self._problem.loss(batch, full_precision=self._full_precision)


class _Plain:
    """One micro-batch's loss and gradients the plain way."""

    def __init__(self, problem: Problem, batch: Any, full_precision: bool) -> None:
        self._work = sum(parameter.numel() for parameter in problem.parameters.values())
        with torch.autograd.graph.saved_tensors_hooks(self._count, lambda kept: kept):
            loss = problem.loss(batch, full_precision=full_precision)
        self._loss = loss.detach()
        self._gradients = gradients_of(loss, problem.parameters)

    @property
    def fits(self) -> bool:
        """Whether it is small, and its gradients can be stacked."""
        dense = all(gradient is None or not gradient.is_sparse for gradient in self._gradients.values())
        return dense and self._work <= MAX_WORK

    @property
    def reached(self) -> frozenset[str]:
        return frozenset(name for name, gradient in self._gradients.items() if gradient is not None)

    def agrees(self, losses: Tensor, gradients: Mapping[str, Tensor], row: int) -> bool:
        """Whether one row of many is this."""
        pairs = [(losses[row], self._loss)]
        for name, gradient in self._gradients.items():
            own = torch.zeros_like(gradients[name][row]) if gradient is None else gradient
            pairs.append((gradients[name][row], own))
        return all(_close(found, own) for found, own in pairs)

    def _count(self, kept: Tensor) -> Tensor:
        self._work += kept.numel()
        return kept.detach()


def _close(found: Tensor, own: Tensor) -> bool:
    if found.dtype != own.dtype or found.shape != own.shape:
        return False
    return bool((found - own).norm() <= TOLERANCE.get(own.dtype, 0.0) * own.norm())


def _may_be(problem: Problem) -> bool:
    """What can be told without a trial; compiled code may be wrong under vmap, or compile at length."""
    parameters = problem.parameters.values()
    compiled = any(
        hasattr(module, "_orig_mod")
        or getattr(module, "_compiled_call_impl", None)
        or isinstance(module, torch.jit.ScriptModule)
        for module in problem.model.modules()
    )
    size = sum(parameter.numel() for parameter in parameters)
    return not compiled and size <= MAX_WORK and all(one.dtype in TOLERANCE for one in parameters)


def _detached(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in parameters.items()}


def _traces(problem: Problem) -> list[Any]:
    """What a loss that remembers anything, or draws random numbers, leaves changed."""
    held = [
        _mark(value)
        for module in problem.model.modules()
        for value in (module.training, *vars(module).values(), *module._buffers.values())
    ]
    numpy_state: Any = np.random.get_state()
    generators = [torch.get_rng_state()]
    if problem.device.type == "cuda":
        generators.append(torch.cuda.get_rng_state(problem.device))
    drawn = [one.numpy().tobytes() for one in generators]
    return [held, drawn, random.getstate(), numpy_state[1].tobytes(), numpy_state[2:]]


def _mark(value: Any) -> Any:
    """Changes with a value, be it in place; of a container only its length is looked at."""
    if isinstance(value, Tensor):
        return id(value), value._version
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return id(value), len(value) if isinstance(value, Sized) else None
