"""A few steps of training with the pair in use, taken back afterwards: does the run leave by itself?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from bsadvisor.values import Estimate, ShortRun

EPSILON = 1e-8
"""Beside the root of second moments that begin at zero; in a checkpoint's D the optimizer's own is contained."""

LASTING_LOOKS = 3
"""A gain lasts that is there at so many looks in a row."""

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
    look_every: int = 10
    """Steps between two looks at the loss."""
    growth: float = 1.0
    """Of the learning rate, from each step to the next."""
    highest_rate: float = math.inf
    weight_decay: float = 0.0
    decoupled: bool = False
    """Whether the decay shrinks the weights beside the update, as AdamW's does, and not within the gradient."""
    relative_rates: Mapping[str, float] | None = None
    """Of each parameter's group, against the learning rate; None: all have the same. Contained in D."""

    def rate(self, step: int) -> float:
        """Of the `step`-th step, from 0 on."""
        return min(self.learning_rate * self.growth**step, max(self.highest_rate, self.learning_rate))


def short_run(
    problem: Problem,
    sampler: Sampler,
    steps: Steps,
    *,
    kick: Tensor,
    held: Sequence[Any],
    held_examples: int,
    divide_by_examples: bool,
    seed: int,
    has_left: Callable[[Estimate], bool],
    should_stop: Callable[[], bool],
) -> tuple[ShortRun, ...]:
    """The fall of the loss on the way from the checkpoint, and from beside it, at every look.

    Both see the same batches, but those of a stream. Everything is as before afterwards. Momentum starts
    at zero, and an adaptive optimizer's second moments at those of its checkpoint, or at none.

    Args:
        kick: (P,) change of the parameters that the second run starts with.
        held: micro-batches on which the loss is compared before and after; where they do not hold all
            examples, those that chose the kick are not among them.
        held_examples: of each of these.
        has_left: told the fall of the loss at every look of the first run; ends it, and the second one
            where the first ended.
        should_stop: ends either run.

    Returns:
        What is known after so many steps, as far as both went: nothing where `should_stop` said so, or the
        data ended, before the first look of the second.

    Cost: two forward and backward passes over every example of the run, two forward passes over `held` at
        every look; four copies of the parameters.
    """
    hessian = Hessian(problem=problem, seed=seed, divide_by=steps.micro_batch if divide_by_examples else 1)
    judge = replace(hessian, divide_by=held_examples if divide_by_examples else 1)
    with (
        preserved(problem.model),
        in_full_precision(problem.model),
        double_backward_allowed(problem.model),
        parameters_kept(hessian.leaves) as origin,
    ):
        seed_everything(seed)
        before = _losses(judge, held)

        def looks(start: Tensor | None, enough: Callable[[list[Losses]], bool]) -> list[Losses]:
            _move(hessian, origin, start)
            batches = sampler.random(steps.number * steps.micro_batches, steps.micro_batch, seed)
            found: list[Losses] = []
            for _ in _train(hessian, batches, steps, should_stop):
                found.append(_losses(judge, held))
                if enough(found):
                    break
            return found

        stayed = looks(None, lambda found: has_left(one_sided(before - found[-1], CERTIFICATE)))
        kicked = looks(kick, lambda found: len(found) == len(stayed)) if stayed else []
    return _compared(before, stayed, kicked, steps.look_every)


def _compared(
    before: Losses, stayed: Sequence[Losses], kicked: Sequence[Losses], every: int
) -> tuple[ShortRun, ...]:
    falls = [one_sided(before - losses, CERTIFICATE) for losses in stayed]
    gains = [one_sided(ours - theirs, CERTIFICATE) for ours, theirs in zip(stayed, kicked, strict=False)]
    return tuple(
        ShortRun(
            steps=every * count,
            loss_drop=falls[count - 1],
            kicked_loss_drop=one_sided(before - kicked[count - 1], CERTIFICATE),
            gain=gains[count - 1],
            widest_drop=max(falls[:count], key=_size),
            lasting_gain=min(gains[max(count - LASTING_LOOKS, 0) : count], key=_value),
        )
        for count in range(1, len(gains) + 1)
    )


def _size(fall: Estimate) -> float:
    return math.inf if fall.value is None else abs(fall.value)


def _value(gain: Estimate) -> float:
    return -math.inf if gain.value is None else gain.value


@torch.no_grad()
def _move(hessian: Hessian, origin: Sequence[Tensor], kick: Tensor | None) -> None:
    """To the origin, or beside it."""
    for leaf, home in zip(hessian.leaves, origin, strict=True):
        leaf.copy_(home)
    if kick is not None:
        for leaf, change in zip(hessian.leaves, hessian.split(kick), strict=True):
            leaf.add_(change)


def _train(
    hessian: Hessian, batches: Iterator[Any], steps: Steps, should_stop: Callable[[], bool]
) -> Iterator[None]:
    """An item whenever it is time for a look; ends where all steps were taken, or the data ended."""
    update = _Update(steps, hessian)
    for step in range(steps.number):
        total = torch.zeros_like(update.momentum)
        for part in range(steps.micro_batches):
            batch = None if should_stop() else next(batches, None)
            if batch is None:
                return
            total += hessian.gradient(batch, step * steps.micro_batches + part)
        total /= steps.micro_batches
        if not steps.decoupled:
            _add_weights(total, hessian, steps.weight_decay)
        change = update(total)
        if steps.decoupled:
            _add_weights(change, hessian, -steps.rate(step) * steps.weight_decay)
        with torch.no_grad():
            for leaf, moved_by in zip(hessian.leaves, hessian.split(change), strict=True):
                leaf.add_(moved_by)
        if (step + 1) % steps.look_every == 0:
            yield


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
        return -self._steps.rate(self._taken - 1) * self._rates * scaled


def _joined(parts: Mapping[str, Tensor], hessian: Hessian) -> Tensor:
    """(P,) of one tensor per parameter."""
    return torch.cat(
        [parts[name].detach().to(hessian.like.dtype).reshape(-1) for name in hessian.problem.parameters]
    )


def _losses(hessian: Hessian, batches: Sequence[Any]) -> Losses:
    return np.array([float(hessian.loss(batch, number)) for number, batch in enumerate(batches)])
