"""Training runs that branch off at the checkpoint, advance side by side, and are taken back.

`Ground` is what branches of one trial share; `SequentialBranches` runs them one after the other with the
user's own model, and is the reference for `StackedBranches`.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bsadvisor.measure.epochs import Epochs, Numbers
from bsadvisor.measure.preserve import buffers_kept, parameters_kept, preserved
from bsadvisor.measure.problem import Problem
from bsadvisor.random_state import seed_everything

STEPS_AT_ONCE = 16
"""Of one branch before the next one's turn; their batches are read once for all branches of a seed."""


class Trainer(Protocol):
    """Makes optimizers over the parameters of the problem's model."""

    clip_grad_norm: float | None

    def optimizer(self, learning_rate: float, *, batch_factor: float = 1.0) -> Optimizer:
        """As in the run, with the state of the checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One training run."""

    learning_rate: float
    seed: int
    """Of the order of the data, and of dropout masks."""


class Branches(Protocol):
    """Runs of one batch size, in lockstep."""

    def advance(self, steps: int) -> None:
        """So many steps of every run."""

    def losses(self) -> list[float]:
        """Of every run, on the examples of the evaluation."""

    def keep(self, kept: Sequence[int]) -> None:
        """Only the runs at these places go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A copy of everything that a step changes in a model."""

    parameters: list[Tensor]
    buffers: list[Tensor]

    @classmethod
    def of(cls, problem: Problem) -> Weights:
        """As they are now."""
        return cls(
            parameters=[parameter.detach().clone() for parameter in problem.parameters.values()],
            buffers=[buffer.detach().clone() for buffer in problem.model.buffers()],
        )

    def enter(self, problem: Problem) -> None:
        """Put them into the model."""
        with torch.no_grad():
            _copy(self.parameters, problem.parameters.values())
            _copy(self.buffers, problem.model.buffers())

    def leave(self, problem: Problem) -> None:
        """Take over what the model has become."""
        with torch.no_grad():
            _copy(problem.parameters.values(), self.parameters)
            _copy(problem.model.buffers(), self.buffers)


@dataclass(kw_only=True)
class Ground:
    """What the branches of one trial share.

    Args:
        problem: at the checkpoint; inside `opened` its model is changed at will.
        trainer: of the optimizer in use.
        batch_in_use: examples per step that the optimizer's averages were tuned for; None: they are kept.
        examples: numbers of those that are trained on.
        evaluation: batches on which the loss is judged.
        evaluated: examples in them.
        micro_batch: the most examples that go through the model at once.
        token_mean: whether the loss is a mean over counted labels, and not over examples.
        seed: of the evaluation.
    """

    problem: Problem
    trainer: Trainer
    batch_in_use: int | None
    examples: Sequence[int]
    evaluation: Sequence[Any]
    evaluated: int
    micro_batch: int
    token_mean: bool
    seed: int
    home: Weights | None = None
    """Where branches start; set while `opened`."""
    warmed: dict[str, Any] | None = None
    """State of the optimizer after a warm-up, where the checkpoint had none."""

    @property
    def start(self) -> Weights:
        """Where branches start."""
        assert self.home is not None, "branches run while the ground is opened"
        return self.home

    def optimizer(self, learning_rate: float, batch_size: int) -> Optimizer:
        """As in the run, at another learning rate and batch size."""
        factor = batch_size / self.batch_in_use if self.batch_in_use else 1.0
        optimizer = self.trainer.optimizer(learning_rate, batch_factor=factor)
        if self.warmed is not None:
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": copy.deepcopy(self.warmed["state"]), "param_groups": groups})
        return optimizer

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Branches may run inside; the model, its buffers and all random numbers are afterwards as before."""
        model = self.problem.model
        with preserved(model), parameters_kept(list(self.problem.parameters.values())):
            self.home = Weights.of(self.problem)
            yield

    def warm_up(self, steps: int, learning_rate: float, batch_size: int) -> None:
        """Let an optimizer without state gather some, and let the branches start from where that leads."""
        branches = SequentialBranches(self, [Branch(learning_rate=learning_rate, seed=self.seed)], batch_size)
        branches.advance(steps)
        self.home = branches.runs[0].weights
        self.warmed = branches.runs[0].optimizer.state_dict()

    def start_loss(self) -> float:
        """Where branches start."""
        self.start.enter(self.problem)
        return self.loss()

    def loss(self) -> float:
        """Of the model as it stands, in training mode, on the examples of the evaluation.

        The same random numbers are drawn every time, and buffers are left alone.
        """
        with torch.no_grad(), buffers_kept(self.problem.model):
            seed_everything(self.seed)
            return float(self.evaluated_by(self.problem.loss))

    def evaluated_by(self, loss: Callable[[Any], Tensor]) -> Tensor:
        """The mean of a loss, or of several at once, over the examples of the evaluation."""
        each = self.evaluated // len(self.evaluation)
        weights = [self.weight(batch, each) for batch in self.evaluation]
        losses = [loss(batch).detach().double().cpu() for batch in self.evaluation]
        nothing = torch.zeros((), dtype=torch.float64)
        return sum((w * one for w, one in zip(weights, losses, strict=True)), nothing) / sum(weights)

    def weight(self, batch: Any, examples: int) -> float:
        """Of the mean loss of a micro-batch of so many examples in the mean over several."""
        if self.token_mean:
            return float(self.problem.weight(batch) or 0)
        return float(examples)

    def groups(self, batch: Numbers) -> list[Numbers]:
        """The batch in micro-batches that fit, as equal as can be."""
        parts = math.ceil(len(batch) / self.micro_batch)
        ends = [len(batch) * part // parts for part in range(parts + 1)]
        return [batch[first:end] for first, end in itertools.pairwise(ends)]


@dataclass(kw_only=True)
class Run:
    """A branch on its way: everything that a step changes."""

    branch: Branch
    optimizer: Optimizer
    weights: Weights


class SequentialBranches:
    """One run after the other through the user's model, a few steps each.

    Cost: per run, a copy of the parameters, the buffers and the optimizer's state.
    """

    def __init__(self, ground: Ground, branches: Sequence[Branch], batch_size: int) -> None:
        self._ground = ground
        self._batch_size = batch_size
        self._step = 0
        self._orders = {branch.seed: Epochs(ground.examples, branch.seed) for branch in branches}
        self.runs = [
            Run(
                branch=branch,
                optimizer=ground.optimizer(branch.learning_rate, batch_size),
                weights=copy.deepcopy(ground.start),
            )
            for branch in branches
        ]

    def advance(self, steps: int) -> None:
        """So many steps of every run."""
        while steps > 0:
            now = min(steps, STEPS_AT_ONCE)
            for seed in dict.fromkeys(run.branch.seed for run in self.runs):
                batches = self._read(seed, now)
                for run in self.runs:
                    if run.branch.seed == seed:
                        self._train(run, batches)
            self._step += now
            steps -= now

    def losses(self) -> list[float]:
        """Of every run."""
        found = []
        for run in self.runs:
            run.weights.enter(self._ground.problem)
            found.append(self._ground.loss())
        return found

    def keep(self, kept: Sequence[int]) -> None:
        """Only the runs at these places go on."""
        self.runs = [self.runs[place] for place in kept]

    def _read(self, seed: int, steps: int) -> list[list[tuple[Any, float]]]:
        """The micro-batches of each step, with their weights."""
        order = self._orders[seed]
        groups = [
            self._ground.groups(order.batch(self._step + step, self._batch_size)) for step in range(steps)
        ]
        batches = self._ground.problem.data.fetch([part for step in groups for part in step])
        return [
            [
                (batch, self._ground.weight(batch, len(part)))
                for part, batch in zip(step, batches, strict=False)
            ]
            for step in groups
        ]

    def _train(self, run: Run, batches: Sequence[Sequence[tuple[Any, float]]]) -> None:
        run.weights.enter(self._ground.problem)
        seed_everything((run.branch.seed * 1_000_003 + self._step) % 2**32)
        for batch in batches:
            self._take_step(run.optimizer, batch)
        run.weights.leave(self._ground.problem)

    def _take_step(self, optimizer: Optimizer, batch: Sequence[tuple[Any, float]]) -> None:
        """One optimizer step; gradients of micro-batches add up."""
        problem, ground = self._ground.problem, self._ground
        total = sum(weight for _, weight in batch)
        for part, weight in batch:
            loss = problem.loss(part)
            (loss * (weight / total) if len(batch) > 1 else loss).backward()
        if ground.trainer.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(list(problem.parameters.values()), ground.trainer.clip_grad_norm)
        optimizer.step()
        for parameter in problem.parameters.values():
            parameter.grad = None


def _copy(source: Iterable[Tensor], into: Iterable[Tensor]) -> None:
    for tensor, target in zip(source, into, strict=True):
        target.copy_(tensor)
