"""Small real tasks for the benchmarks: handwritten digits, and Shakespeare where it is at hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from bsadvisor.target.data import DataSource, make_source
from bsadvisor.target.user_code import UserCode

CONTEXT = 32


@dataclass(kw_only=True)
class Task:
    """A `measure.Problem` over (inputs, targets) rows with cross entropy."""

    name: str
    model: nn.Module
    inputs: Tensor
    targets: Tensor
    preconditioner: dict[str, Tensor] | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    per_device_batch: int | None = 32

    @cached_property
    def data(self) -> DataSource:
        rows = TensorDataset(self.inputs, self.targets)
        return make_source(rows, code=UserCode(notify=print), device=self.device)

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters.values())

    def loss(self, batch: Sequence[Tensor], *, full_precision: bool = False) -> Tensor:
        inputs, targets = (part.to(self.device, non_blocking=True) for part in batch)
        return nn.functional.cross_entropy(self.model(inputs).flatten(0, -2), targets.flatten())

    def weight(self, batch: Any) -> int | None:
        return None

    def labels(self, batch: Any) -> Tensor | None:
        return None


class CharTransformer(nn.Module):
    """A causal character model: tied to nothing, two layers."""

    def __init__(self, vocabulary: int, width: int = 48, layers: int = 2, context: int = CONTEXT) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(context, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        hidden = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            hidden = block(hidden, src_mask=mask, is_causal=True)
        logits: Tensor = self.head(hidden)
        return logits


def digits() -> tuple[Tensor, Tensor]:
    """All training digits: (N, 64) in 0 ... 1 and their classes."""
    file = resources.files("bsadvisor.examples") / "digits" / "digits.npz"
    with file.open("rb") as stream, np.load(stream) as arrays:
        inputs, targets = arrays["train_images"], arrays["train_labels"]
    return torch.from_numpy(inputs).float().flatten(1) / 16, torch.from_numpy(targets).long()


def shakespeare(sequences: int = 4000) -> tuple[Tensor, Tensor, int] | None:
    """Character sequences and their next characters; None where BSADVISOR_DATA does not hold the text."""
    file = Path(os.environ.get("BSADVISOR_DATA", "")) / "tinyshakespeare.txt"
    if not file.is_file():
        return None
    text = file.read_text(encoding="utf-8")
    vocabulary = sorted(set(text))
    numbers = {character: number for number, character in enumerate(vocabulary)}
    codes = torch.tensor([numbers[character] for character in text[: sequences * CONTEXT + 1]])
    return codes[:-1].view(-1, CONTEXT), codes[1:].view(-1, CONTEXT), len(vocabulary)


def trained(
    task: Task, steps: int, optimizer: Callable[[Any], torch.optim.Optimizer], batch: int = 32
) -> Task:
    """Train in place: an early or middle checkpoint of a real run."""
    generator = torch.Generator().manual_seed(0)
    stepper = optimizer(task.model.parameters())
    for _ in range(steps):
        picks = torch.randint(len(task.inputs), (batch,), generator=generator)
        stepper.zero_grad()
        task.loss((task.inputs[picks], task.targets[picks])).backward()
        stepper.step()
    for parameter in task.model.parameters():
        parameter.grad = None
    return task


def sgd(rate: float, momentum: float = 0.0) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=rate, momentum=momentum)


def adamw(rate: float) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.AdamW(parameters, lr=rate)


def small_tasks() -> Iterator[Task]:
    """Softmax regression, an MLP and a transformer, early and in the middle of training."""
    images, labels = digits()
    for steps in (20, 150):
        torch.manual_seed(0)
        softmax = Task(name=f"softmax, step {steps}", model=nn.Linear(64, 10), inputs=images, targets=labels)
        yield trained(softmax, steps, sgd(0.3))
    for steps in (60, 300):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
        mlp = Task(name=f"MLP, step {steps}", model=model, inputs=images, targets=labels)
        yield trained(mlp, steps, sgd(0.1, 0.9))
    text = shakespeare()
    if text is not None:
        for steps in (20, 200):
            torch.manual_seed(0)
            inputs, targets, vocabulary = text
            transformer = Task(
                name=f"transformer, step {steps}",
                model=CharTransformer(vocabulary),
                inputs=inputs,
                targets=targets,
            )
            yield trained(transformer, steps, adamw(1e-3))
