"""All runs of a small model at once: parameters stacked along a new first dimension, one pass for all."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map

from bsadvisor.measure.branches import Branch, Branches, Ground, SequentialBranches
from bsadvisor.measure.epochs import Epochs
from bsadvisor.measure.problem import Problem

ELEMENTWISE = ("SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta")
"""Optimizers of torch that treat every number by itself, with steps in proportion to the learning rate."""

MOST_PARAMETERS = 200_000
"""Above this the passes themselves take longer than their overhead."""

MOST_PARAMETERS_ON_DEVICE = 2_000_000

MANY = 6
"""Fewer runs than this are faster one after the other."""

TOLERANCE = 1e-4


class StackedBranches:
    """Every run in one pass: `vmap` over parameters and batches, one optimizer over the stacked tensors.

    The optimizer takes its steps at the geometric mean of the learning rates; each run's share of the
    step is then stretched to its own, which is the same for the optimizers in `ELEMENTWISE`.

    Args:
        ground: whose target `can_stack`.
        branches: to run.
        batch_size: examples per step of each.

    Cost: per run, the parameters twice, their gradients and the optimizer's state.
    """

    def __init__(self, ground: Ground, branches: Sequence[Branch], batch_size: int) -> None:
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
            losses = self._losses(self._read(), in_dims=0)
            losses.sum().backward()
            if self._ground.trainer.clip_grad_norm is not None:
                self._clip(self._ground.trainer.clip_grad_norm)
            self._take_step()
            self._step += 1

    def losses(self) -> list[float]:
        """Of every run, on the examples of the evaluation."""
        ground, weights = self._ground, 0.0
        total = torch.zeros(len(self._branches), dtype=torch.float64)
        with torch.no_grad():
            for batch in ground.evaluation:
                weight = ground.weight(batch)
                total += weight * self._losses(batch, in_dims=None).double().cpu()
                weights += weight
        return [float(loss) / weights for loss in total]

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
        parts = [batches[branch.seed] for branch in self._branches]
        return tree_map(lambda *tensors: torch.stack(tensors), *parts)

    def _losses(self, batch: Any, *, in_dims: int | None) -> Tensor:
        parameters = {f"model.{name}": p for name, p in zip(self._names, self._parameters, strict=True)}
        return stacked_losses(self._ground.problem, parameters, batch, batch_dims=in_dims)

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


def branches_for(ground: Ground, branches: Sequence[Branch], batch_size: int, *, stack: bool) -> Branches:
    """Stacked where that was found to give the same and the whole batch fits."""
    if stack and batch_size <= ground.micro_batch and len(branches) >= MANY:
        return StackedBranches(ground, branches, batch_size)
    return SequentialBranches(ground, branches, batch_size)


def can_stack(ground: Ground) -> bool:
    """Whether stacked runs are the same as sequential ones: tried on one small batch.

    Models with buffers, with random numbers in their forward pass, or with operations that `vmap` does not
    know are run sequentially; so are large ones.
    """
    problem = ground.problem
    most = MOST_PARAMETERS if problem.device.type == "cpu" else MOST_PARAMETERS_ON_DEVICE
    if sum(parameter.numel() for parameter in problem.parameters.values()) > most:
        return False
    optimizer = ground.optimizer(1e-3, ground.batch_in_use or 1)
    listed = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if type(optimizer) not in {getattr(torch.optim, name) for name in ELEMENTWISE}:
        return False
    if any(True for _ in problem.model.buffers()) or ground.reduction == "sum":
        return False
    return {id(p) for p in problem.parameters.values()} <= listed and _agree(problem, ground)


def _agree(problem: Problem, ground: Ground) -> bool:
    """Losses and gradients of two stacked copies against the model's own."""
    batch = next(problem.data.fetch([ground.examples[:4]]))
    before = torch.get_rng_state()
    own = problem.loss(batch)
    gradients = torch.autograd.grad(own, list(problem.parameters.values()), allow_unused=True)
    names = [f"model.{name}" for name in problem.parameters]
    copies = [p.detach().expand(2, *p.shape).clone().requires_grad_() for p in problem.parameters.values()]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # `vmap` warns where it falls back to a slow loop
            losses = stacked_losses(problem, dict(zip(names, copies, strict=True)), batch, batch_dims=None)
        found = torch.autograd.grad(losses.sum(), copies, allow_unused=True)
    except Exception:  # whatever the user's code or torch says of tensors that it cannot work with
        return False
    if not torch.equal(before, torch.get_rng_state()):
        return False
    return torch.allclose(losses, own.expand(2), rtol=TOLERANCE) and all(
        (one is None) == (many is None)
        and (one is None or many is None or torch.allclose(many, one.expand_as(many), TOLERANCE, 1e-6))
        for one, many in zip(gradients, found, strict=True)
    )


def stacked_losses(
    problem: Problem, parameters: dict[str, Tensor], batch: Any, *, batch_dims: int | None
) -> Tensor:
    """(R,) losses of R sets of parameters, each on its own batch (0) or all on the same one (None)."""
    module = _LossModule(problem)

    def one(own: dict[str, Tensor], part: Any) -> Tensor:
        loss: Tensor = functional_call(module, own, (part,))
        return loss

    losses: Tensor = vmap(one, in_dims=(0, batch_dims))(parameters, batch)
    return losses


class _LossModule(nn.Module):
    """The user's loss as a module whose parameters can be swapped."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.model = problem.model
        self._problem = [problem]  # in a list, so that it is no submodule

    def forward(self, batch: Any) -> Tensor:
        return self._problem[0].loss(batch)


def _per_run(values: Tensor, like: Tensor) -> Tensor:
    """(R,) values shaped for (R, ...)."""
    return values.view(-1, *[1] * (like.ndim - 1))
