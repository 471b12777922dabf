"""What really happens along a run: its checkpoints, and the loss on every held-out example."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from bsadvisor.target.data import make_source
from bsadvisor.target.heldout import HeldOut
from bsadvisor.target.user_code import UserCode
from tests.benchmarks.generalization.cases import Rows, Run
from tests.benchmarks.tasks import Task

AHEAD = 1.5
"""A checkpoint is healthy if the held-out loss is lower at so many times its steps."""

SURE = 2.0
"""Standard errors of the paired difference by which it is to be lower."""

NEAR_MINIMUM = 0.05
"""The held-out loss turns where it is above its minimum by less than this share of its whole fall."""


@dataclass(kw_only=True)
class HeldTask(Task):
    """Cross entropy, or squared error for targets that are no whole numbers; with held-out rows."""

    held: Rows

    def loss(self, batch: Sequence[Tensor], *, full_precision: bool = False) -> Tensor:
        return loss_of(self.model, batch)

    @property
    def heldout(self) -> HeldOut:
        rows = torch.utils.data.TensorDataset(*self.held)
        source = make_source(rows, code=UserCode(notify=print), device=self.device)
        return HeldOut(source=source, shared=None)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One step of a run: its weights as a problem, and the loss of each held-out example."""

    run: Run
    step: int
    task: HeldTask
    held_losses: Tensor
    healthy: bool | None = None
    """None: not asked."""


def loss_of(model: nn.Module, batch: Sequence[Tensor], reduction: str = "mean") -> Tensor:
    """Of a batch of (inputs, targets)."""
    inputs, targets = batch
    answers = model(inputs)
    if targets.is_floating_point():
        return mse_loss(answers, targets, reduction=reduction)
    return cross_entropy(answers.flatten(0, -2), targets.flatten(), reduction=reduction)


@torch.no_grad()
def losses_of(model: nn.Module, rows: Rows) -> Tensor:
    """Per example, in evaluation mode, in float64."""
    model.eval()
    losses = loss_of(model, rows, "none").double()
    model.train()
    return losses.reshape(len(rows[0]), -1).mean(1)


def checkpoints(run: Run) -> Iterator[Checkpoint]:
    """The run's checkpoints in order; those of a healthy run are looked at from farther on."""
    looks = {math.ceil(AHEAD * step) for step in run.steps} if run.kind == "healthy" else set()
    found: dict[int, tuple[nn.Module, Tensor]] = {}
    rows, held = run.rows(run.seed)
    for step, model in _training(run, rows, sorted({*run.steps, *looks})):
        found[step] = copy.deepcopy(model), losses_of(model, held)
    for step in run.steps:
        model, losses = found[step]
        later = found.get(math.ceil(AHEAD * step)) if looks else None
        task = HeldTask(
            name=f"{run.name}, seed {run.seed}, step {step}",
            model=model,
            inputs=rows[0],
            targets=rows[1],
            held=held,
            per_device_batch=run.batch_size,
        )
        healthy = None if later is None else falls(losses, later[1])
        yield Checkpoint(run=run, step=step, task=task, held_losses=losses, healthy=healthy)


def _training(run: Run, rows: Rows, stops: Sequence[int]) -> Iterator[tuple[int, nn.Module]]:
    """Shuffled epochs, as anybody trains; the same run for the same seed."""
    torch.manual_seed(run.seed)
    model = run.net()
    optimizer = run.optimizer(model.parameters())
    generator = torch.Generator().manual_seed(run.seed)
    order = torch.empty(0, dtype=torch.long)
    for step in range(1, stops[-1] + 1):
        if len(order) < run.batch_size:
            order = torch.cat([order, torch.randperm(len(rows[0]), generator=generator)])
        picks, order = order[: run.batch_size], order[run.batch_size :]
        optimizer.zero_grad()
        loss_of(model, (rows[0][picks], rows[1][picks])).backward()
        optimizer.step()
        if step in stops:
            optimizer.zero_grad()
            yield step, model


def falls(now: Tensor, later: Tensor) -> bool:
    """Whether the held-out loss surely falls between two checkpoints, example by example."""
    gained = now - later
    return bool(gained.mean() > SURE * gained.std() / math.sqrt(len(gained)))


def span_of_turn(found: Sequence[Checkpoint]) -> tuple[int, int]:
    """First and last step at which the held-out loss is near its minimum; one checkpoint more at either end.

    A run's noise may lift it in between.
    """
    losses = [float(one.held_losses.mean()) for one in found]
    lowest = min(losses)
    near = [at for at, loss in enumerate(losses) if loss - lowest <= NEAR_MINIMUM * (losses[0] - lowest)]
    return found[max(near[0] - 1, 0)].step, found[min(near[-1] + 1, len(found) - 1)].step
