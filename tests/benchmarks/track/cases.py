"""Runs with the pairs of the accuracy cases, and a fifth of their rows held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bsadvisor.theory.scaling import half_life_beta
from tests.benchmarks.accuracy import cases as accuracy
from tests.benchmarks.accuracy.cases import Case, Rows, loss_of

STEPS = 1000
"""Of the run whose checkpoints are tracked."""

SAVED_AT = (20, 50, *range(100, STEPS + 1, 100))

TEST = (
    "mlp-mnist-sgd-mid",
    "mlp-mnist-momentum-early",
    "softmax-mnist-adamw-mid",
    "softmax-noisy-digits-momentum-early",
)
"""Not used while the first rule was made; known since, so used while the next one was."""

FRESH = (
    "convnet-mnist-adamw",
    "transformer-wikipedia-adamw-mid",
    "convnet-mnist-nesterov-early",
    "transformer-shakespeare-adamw-early",
    "mlp-mnist-adamw-mid",
    "transformer-wikipedia-adamw-early",
    "lstm-shakespeare-adamw-mid",
    "mlp-noisy-digits-momentum-early",
    "convnet-mnist-sgd-early",
)
"""Each named before it was run, to judge what was made on others: four, and with the same rule five more."""

OWN = (
    Case(
        name="convnet-mnist-adamw",
        split="fresh",
        model=accuracy.conv_net(14, 8),
        data=accuracy.mnist,
        optimizer="adamw",
        learning_rate=1e-2,
        steps=STEPS,
    ),
)
"""Beside those of the accuracy study."""

EVALUATED_AT = (*(share / 25 for share in range(1, 25)), 0.97, 0.98, 0.99, 1.0)
"""Shares of the run's examples; the last four together are its final loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """From an example on."""

    from_example: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The held-out loss after so many steps."""

    steps: int
    loss: float


def case_named(name: str) -> Case:
    """Of either study."""
    return next((case for case in OWN if case.name == name), None) or accuracy.case_named(name)


def rows(case: Case) -> tuple[Rows, Rows]:
    """For training and held out."""
    inputs, targets = case.data()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
    held = len(order) // 5
    return (inputs[order[held:]], targets[order[held:]]), (inputs[order[:held]], targets[order[:held]])


def train(
    name: str, schedule: Sequence[Stage], seed: int, *, examples: int, folder: Path | None = None
) -> list[Seen]:
    """The held-out losses of one run; checkpoints are saved in the folder."""
    case = case_named(name)
    (inputs, targets), heldout = rows(case)
    torch.manual_seed(seed)
    model = case.model()
    optimizer = case.make_optimizer(model.parameters())
    batches = _Batches(len(inputs), seed)
    seen: list[Seen] = []
    used = step = 0
    while used < examples:
        stage = [stage for stage in schedule if stage.from_example <= used][-1]
        _set(optimizer, stage, case.batch_size)
        picks = batches.next(stage.batch_size)
        optimizer.zero_grad()
        loss_of(model, (inputs[picks], targets[picks])).backward()
        optimizer.step()
        used, step = used + stage.batch_size, step + 1
        while len(seen) < len(EVALUATED_AT) and used >= EVALUATED_AT[len(seen)] * examples:
            seen.append(Seen(steps=step, loss=evaluate(model, heldout)))
        if folder is not None and step in SAVED_AT:
            saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save(saved, folder / f"step-{step}.pt")
    return seen


@torch.no_grad()
def evaluate(model: nn.Module, heldout: Rows) -> float:
    """Over all held-out rows."""
    return loss_of(model, heldout).item()


class _Batches:
    """Epoch after epoch in random order, in batches of any size."""

    def __init__(self, size: int, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(1000 + seed)
        self.size = size
        self.rest = torch.empty(0, dtype=torch.long)

    def next(self, batch_size: int) -> Tensor:
        if len(self.rest) < batch_size:
            self.rest = torch.randperm(self.size, generator=self.generator)
        picks, self.rest = self.rest[:batch_size], self.rest[batch_size:]
        return picks


def _set(optimizer: torch.optim.Optimizer, stage: Stage, base: int) -> None:
    """The stage's learning rate, and an average of squared gradients over as many examples as before."""
    for group in optimizer.param_groups:
        group["lr"] = stage.learning_rate
        if "betas" in group:
            group["betas"] = (group["betas"][0], half_life_beta(0.999, stage.batch_size, base))
