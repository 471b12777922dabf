"""All runs of a small model at once: parameters stacked along a new first dimension, one pass for all."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bsadvisor.measure.branches import Branch, Branches, Ground, SequentialBranches
from bsadvisor.measure.epochs import Epochs
from bsadvisor.measure.vectorized import Vectorized, stacked, vectorized

ELEMENTWISE = ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta")
"""Optimizers of torch that treat every number by itself, with steps in proportion to the learning rate."""

MANY = 6
"""Fewer runs than this are faster one after the other."""


class StackedBranches:
    """Every run in one pass: `vmap` over parameters and batches, one optimizer over the stacked tensors.

    The optimizer takes its steps at the geometric mean of the learning rates; each run's share of the
    step is then stretched to its own, which is the same for the optimizers in `ELEMENTWISE`.

    Args:
        ground: of the branches.
        many: from `stacking`.
        branches: to run.
        batch_size: examples per step of each.

    Cost: per run, the parameters twice, their gradients and the optimizer's state.
    """

    def __init__(self, ground: Ground, many: Vectorized, branches: Sequence[Branch], batch_size: int) -> None:
        self._many = many
        self._ground, self._batch_size, self._branches = ground, batch_size, list(branches)
        self._step = 0
        self._orders = {branch.seed: Epochs(ground.examples, branch.seed) for branch in branches}
        self._names = list(ground.problem.parameters)
        self._parameters = [
            parameter.expand(len(branches), *parameter.shape).clone().requires_grad_()
            for parameter in ground.start.parameters
        ]
        self._rate = math.exp(sum(math.log(branch.learning_rate) for branch in branches) / len(branches))
        self._optimizer = self._stacked(ground.optimizer(self._rate, batch_size))

    def advance(self, steps: int) -> None:
        """So many steps of every run."""
        for _ in range(steps):
            _, gradients = self._many.gradients(
                self._by_name(), self._read(), stacked_parameters=True, stacked_batch=True
            )
            for name, parameter in zip(self._names, self._parameters, strict=True):
                parameter.grad = gradients[name] if name in self._many.reached else None
            if self._ground.trainer.clip_grad_norm is not None:
                self._clip(self._ground.trainer.clip_grad_norm)
            self._take_step()
            self._step += 1

    def losses(self) -> list[float]:
        """Of every run, on the examples of the evaluation."""

        def of_all(batch: Any) -> Tensor:
            return self._many.losses(self._by_name(), batch, stacked_parameters=True, stacked_batch=False)

        return [float(loss) for loss in self._ground.evaluated_by(of_all)]

    def keep(self, kept: Sequence[int]) -> None:
        """Only the runs at these places go on."""
        places = torch.tensor(list(kept), device=self._parameters[0].device)
        self._branches = [self._branches[place] for place in kept]
        for parameter in self._parameters:
            state = self._optimizer.state[parameter]
            for key, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[key] = value.index_select(0, places)
            parameter.data = parameter.data.index_select(0, places)
            parameter.grad = None

    def _stacked(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The same optimizer, groups and state over the stacked parameters."""
        originals = list(self._ground.problem.parameters.values())
        stacked = {id(one): many for one, many in zip(originals, self._parameters, strict=True)}
        groups = [
            {**group, "params": [stacked[id(one)] for one in group["params"] if id(one) in stacked]}
            for group in optimizer.param_groups
        ]
        made: torch.optim.Optimizer = type(optimizer)(groups)  # type: ignore[call-arg]
        for one in originals:
            for key, value in optimizer.state.get(one, {}).items():
                grown = isinstance(value, Tensor) and value.shape == one.shape
                runs = len(self._branches)
                made.state[stacked[id(one)]][key] = (
                    value.expand(runs, *value.shape).clone() if grown else copy.deepcopy(value)
                )
        return made

    def _read(self) -> Any:
        """The next batch of every run, stacked."""
        groups = {seed: order.batch(self._step, self._batch_size) for seed, order in self._orders.items()}
        fetched = zip(groups, self._ground.problem.data.fetch(list(groups.values())), strict=True)
        batches = dict(fetched)
        return stacked([batches[branch.seed] for branch in self._branches])

    def _by_name(self) -> dict[str, Tensor]:
        return dict(zip(self._names, self._parameters, strict=True))

    def _clip(self, most: float) -> None:
        """The gradient of each run to a norm of at most `most`."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        squares = [gradient.flatten(1).square().sum(1) for gradient in gradients]
        norms = torch.stack(squares).sum(0).sqrt()
        factors = (most / (norms + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(_per_run(factors, gradient))

    def _take_step(self) -> None:
        rates = [branch.learning_rate / self._rate for branch in self._branches]
        stretch = torch.tensor(rates, device=self._parameters[0].device)
        with torch.no_grad():
            before = [parameter.detach().clone() for parameter in self._parameters]
            self._optimizer.step()
            for parameter, old in zip(self._parameters, before, strict=True):
                parameter.copy_(torch.lerp(old, parameter, _per_run(stretch, parameter).to(old.dtype)))
                parameter.grad = None


def branches_for(
    ground: Ground, branches: Sequence[Branch], batch_size: int, many: Vectorized | None
) -> Branches:
    """All at once where that is known to be the same, pays, and the whole batch fits."""
    if many is not None and batch_size <= ground.micro_batch and len(branches) >= MANY:
        return StackedBranches(ground, many, branches, batch_size)
    return SequentialBranches(ground, branches, batch_size)


def stacking(ground: Ground) -> Vectorized | None:
    """What runs many branches at once; None where they would not be the same as one after the other."""
    problem = ground.problem
    optimizer = ground.optimizer(1e-3, ground.batch_in_use or 1)
    listed = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    elementwise = type(optimizer) in {getattr(torch.optim, name) for name in ELEMENTWISE}
    if not elementwise or not {id(p) for p in problem.parameters.values()} <= listed:
        return None
    pairs = [ground.examples[:4], ground.examples[4:8]]
    return vectorized(problem, list(problem.data.fetch(pairs)))


def _per_run(values: Tensor, like: Tensor) -> Tensor:
    """(R,) values shaped for (R, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))
