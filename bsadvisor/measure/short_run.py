"""A few steps of training with the pair in use, taken back afterwards: does the run leave by itself?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsadvisor.measure.escape_direction import CERTIFICATE, one_sided
from bsadvisor.measure.hessian import Hessian, double_backward_allowed
from bsadvisor.measure.preserve import in_full_precision, parameters_kept, preserved
from bsadvisor.measure.problem import Problem
from bsadvisor.measure.sampler import Sampler
from bsadvisor.random_state import seed_everything
from bsadvisor.theory.stability import Scheme
from bsadvisor.values import ShortRun

EPSILON = 1e-8
"""Beside the root of second moments that begin at zero; in a checkpoint's D the optimizer's own is contained."""

Losses = np.ndarray[Any, np.dtype[np.float64]]
"""One per micro-batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What the optimizer in use does, and how often."""

    scheme: Scheme
    learning_rate: float
    momentum: float
    second_beta: float | None
    """Of an adaptive optimizer's moving average of squared gradients; None: its preconditioner stays."""
    taken: int
    """Steps that this average has gathered: a young one follows new gradients faster."""
    number: int
    micro_batches: int
    """Per step."""
    micro_batch: int
    """Examples."""
    weight_decay: float = 0.0
    decoupled: bool = False
    """Whether the decay shrinks the weights beside the update, as AdamW's does, and not within the gradient."""
    relative_rates: Mapping[str, float] | None = None
    """Of each parameter's group, against the learning rate; None: all have the same. Contained in D."""


def short_run(
    problem: Problem,
    sampler: Sampler,
    steps: Steps,
    *,
    kick: Tensor,
    divide_by_examples: bool,
    evaluated: int,
    first_evaluated: int = 0,
    seed: int,
    should_stop: Callable[[], bool],
) -> ShortRun | None:
    """The fall of the loss over some steps from the checkpoint, and from beside it.

    Both see the same batches, but those of a stream. Everything is as before afterwards. Momentum starts
    at zero, and an adaptive optimizer's second moments at those of its checkpoint, or at none.

    Args:
        kick: (P,) change of the parameters that the second run starts with.
        evaluated: micro-batches on which the loss is compared before and after.
        first_evaluated: example of the gradient's that they begin with: those before it chose the kick.

    Returns:
        None where `should_stop` said so, or where the data ended.

    Cost: two forward and backward passes over every example of the run; four copies of the parameters.
    """
    hessian = Hessian(problem=problem, seed=seed, divide_by=steps.micro_batch if divide_by_examples else 1)
    held = sampler.curvature(first_evaluated, evaluated, steps.micro_batch)
    after: list[Losses] = []
    with (
        preserved(problem.model),
        in_full_precision(problem.model),
        double_backward_allowed(problem.model),
        parameters_kept(hessian.leaves) as origin,
    ):
        seed_everything(seed)
        before = _losses(hessian, held)
        for start in (torch.zeros_like(kick), kick):
            with torch.no_grad():
                for leaf, home, change in zip(hessian.leaves, origin, hessian.split(start), strict=True):
                    leaf.copy_(home + change)
            batches = sampler.random(steps.number * steps.micro_batches, steps.micro_batch, seed)
            if not _train(hessian, batches, steps, should_stop):
                return None
            after.append(_losses(hessian, held))
    stayed, kicked = after
    return ShortRun(
        steps=steps.number,
        loss_drop=one_sided(before - stayed, CERTIFICATE),
        kicked_loss_drop=one_sided(before - kicked, CERTIFICATE),
        gain=one_sided(stayed - kicked, CERTIFICATE),
    )


def _train(hessian: Hessian, batches: Iterator[Any], steps: Steps, should_stop: Callable[[], bool]) -> bool:
    """Whether all steps were taken."""
    update = _Update(steps, hessian)
    for step in range(steps.number):
        total = torch.zeros_like(update.momentum)
        for part in range(steps.micro_batches):
            batch = None if should_stop() else next(batches, None)
            if batch is None:
                return False
            total += hessian.gradient(batch, step * steps.micro_batches + part)
        total /= steps.micro_batches
        if not steps.decoupled:
            _add_weights(total, hessian, steps.weight_decay)
        change = update(total)
        if steps.decoupled:
            _add_weights(change, hessian, -steps.learning_rate * steps.weight_decay)
        with torch.no_grad():
            for leaf, moved_by in zip(hessian.leaves, hessian.split(change), strict=True):
                leaf.add_(moved_by)
    return True


@torch.no_grad()
def _add_weights(total: Tensor, hessian: Hessian, times: float) -> None:
    """To a (P,) total in place."""
    if times:
        for part, leaf in zip(hessian.split(total), hessian.leaves, strict=True):
            part.add_(leaf, alpha=times)


class _Update:
    """The optimizer's change of the parameters, from its gradients."""

    def __init__(self, steps: Steps, hessian: Hessian) -> None:
        self._steps = steps
        self._taken = 0
        self._root: Tensor | None = None
        """1 / D: the root of the second moments, freed of the bias of their start at zero."""
        self._epsilon = 0.0
        self.momentum = hessian.like.new_zeros(hessian.num_parameters)
        self._rates: Tensor | float = 1.0
        if steps.relative_rates is not None:
            rates = {
                name: torch.full_like(parameter, steps.relative_rates[name])
                for name, parameter in hessian.problem.parameters.items()
            }
            self._rates = _joined(rates, hessian)
        diagonal = hessian.problem.preconditioner
        if diagonal is None and steps.second_beta is not None:  # an adaptive optimizer that begins afresh
            self._root, self._epsilon = hessian.like.new_zeros(hessian.num_parameters), EPSILON
        if diagonal is not None:
            self._root = self._rates / _joined(diagonal, hessian)

    def __call__(self, gradient: Tensor) -> Tensor:
        self._taken += 1
        beta, scheme = self._steps.momentum, self._steps.scheme
        if self._root is not None and self._steps.second_beta is not None:
            second, age = self._steps.second_beta, self._steps.taken + self._taken
            share = (1 - second) / (1 - second**age)  # of the newest gradient
            self._root = torch.lerp(self._root.square(), gradient.square(), share).sqrt()
        weight = 1 - beta if scheme == "ema" else 1.0
        self.momentum = beta * self.momentum + weight * gradient
        direction = self.momentum
        if scheme == "gradient_descent":
            direction = gradient
        elif scheme == "nesterov":
            direction = gradient + beta * self.momentum
        elif scheme == "ema":
            direction = self.momentum / (1 - beta**self._taken)
        scaled = direction if self._root is None else direction / (self._root + self._epsilon)
        return -self._steps.learning_rate * self._rates * scaled


def _joined(parts: Mapping[str, Tensor], hessian: Hessian) -> Tensor:
    """(P,) of one tensor per parameter."""
    return torch.cat(
        [parts[name].detach().to(hessian.like.dtype).reshape(-1) for name in hessian.problem.parameters]
    )


def _losses(hessian: Hessian, batches: Sequence[Any]) -> Losses:
    return np.array([float(hessian.loss(batch, number)) for number, batch in enumerate(batches)])
