"""A saddle case: a problem in the state to be judged, and the optimizer and pair that trains it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from bsadvisor.random_state import random_state_kept, seed_everything
from tests.benchmarks.saddles.data import Source
from tests.benchmarks.saddles.models import Planted
from tests.benchmarks.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The batch size, learning rate and optimizer in use."""

    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    optimizer: Literal["SGD", "AdamW"] = "SGD"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0

    def stepper(self, model: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimizer."""
        parameters, rate, decay = model.parameters(), self.learning_rate, self.weight_decay
        if self.optimizer == "AdamW":
            return torch.optim.AdamW(parameters, lr=rate, betas=self.betas, weight_decay=decay)
        return torch.optim.SGD(parameters, lr=rate, momentum=self.momentum, weight_decay=decay)


@dataclass(kw_only=True)
class SaddleTask(Task):
    """Cross entropy on whole-number targets, else squared error; with the optimizer's saved state."""

    pair: Pair
    optimizer_state: dict[str, Any] | None = None
    heldout: None = None

    def loss(self, batch: Sequence[Tensor], *, full_precision: bool = False) -> Tensor:
        return self.loss_of(self.model, batch)

    def loss_of(self, model: nn.Module, batch: Sequence[Tensor]) -> Tensor:
        """The loss of another model of the same make."""
        inputs, targets = batch
        answers = model(inputs)
        if targets.is_floating_point():
            loss = mse_loss(answers, targets)
        else:
            loss = cross_entropy(answers.flatten(0, -2), targets.flatten())
        return loss + model.extra(inputs) if isinstance(model, Planted) else loss


Split = Literal["design", "test", "fresh", "drawn", "sealed"]

Step = Callable[[SaddleTask], SaddleTask]
"""Of a recipe: brings a task closer to the state to be judged."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """How to come to one checkpoint, by name and seed."""

    name: str
    family: str
    intent: Literal["saddle", "ordinary"]
    split: Split = "design"
    seed: int
    net: Callable[[], nn.Module]
    rows: Source
    recipe: tuple[Step, ...] = ()
    pair: Pair
    horizon: int = 10_000
    """Steps that an escape may take."""

    def build(self) -> SaddleTask:
        """The same checkpoint every time; random generators are left as they were."""
        with random_state_kept():
            seed_everything(self.seed)
            inputs, targets = self.rows()
            task = SaddleTask(
                name=self.name, model=self.net(), inputs=inputs, targets=targets, pair=self.pair
            )
            for step in self.recipe:
                task = step(task)
        return task


def training(task: SaddleTask, model: nn.Module, stepper: torch.optim.Optimizer, seed: int) -> Iterator[None]:
    """One optimizer step of the task's pair per item, on examples drawn with replacement."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        picks = torch.randint(len(task.inputs), (task.pair.batch_size,), generator=generator)
        stepper.zero_grad()
        task.loss_of(model, (task.inputs[picks], task.targets[picks])).backward()
        stepper.step()
        yield
