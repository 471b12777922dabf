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
from bsadvisor.target.second_moments import find_second_moments
from bsadvisor.target.user_code import UserCode
from bsadvisor.values import Anchor, TargetDescription

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
    geometry_rule: None = None
    """The optimizer's geometry is not to be estimated from the data."""
    relative_rates: None = None

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


def describe(task: Task) -> TargetDescription:
    """What loading the same model from a file would have found, but for its optimizer."""
    return TargetDescription(
        model=task.name,
        parameters=task.num_parameters,
        trainable_parameters=task.num_parameters,
        checkpoint=None,
        checkpoint_sha256=None,
        example="example",
        tokens_per_example=None,
        anchor=Anchor(batch_size_from=None, learning_rate_from=None),
        dataset_size=len(task.inputs),
        optimizer=None,
        optimizer_details=None,
        batch_size=task.per_device_batch,
        learning_rate=None,
        device=str(task.device),
        dtype="float32",
    )


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
    task: Task,
    steps: int,
    optimizer: Callable[[Any], torch.optim.Optimizer],
    batch: int = 32,
    *,
    keep_geometry: bool = False,
) -> Task:
    """Train in place: an early or middle checkpoint of a real run, with its adaptive optimizer's D if asked."""
    generator = torch.Generator().manual_seed(0)
    stepper = optimizer(task.model.parameters())
    for _ in range(steps):
        picks = torch.randint(len(task.inputs), (batch,), generator=generator)
        stepper.zero_grad()
        task.loss((task.inputs[picks], task.targets[picks])).backward()
        stepper.step()
    for parameter in task.model.parameters():
        parameter.grad = None
    if keep_geometry:
        task.preconditioner = _geometry(task, stepper)
    return task


def _geometry(task: Task, optimizer: torch.optim.Optimizer) -> dict[str, Tensor] | None:
    """The frozen D; its mean stands in where no gradient came yet, for 1 / eps is no step that Adam ever takes."""
    name = type(optimizer).__name__.lower()
    scales = find_second_moments(name, task.model, optimizer, None).preconditioner
    if scales is None:
        return None
    return {name: _seen_only(scale, optimizer.param_groups[0]["eps"]) for name, scale in scales.items()}


def _seen_only(scale: Tensor, eps: float) -> Tensor:
    seen = scale * eps < 0.5
    return torch.where(seen, scale, scale[seen].mean())


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


OPTIMIZERS = {"SGD": sgd(0.05, 0.9), "AdamW": adamw(3e-3)}
"""Of `checkpoints`."""

LOCAL_CONTEXT = 16
LOCAL_SEQUENCES = 2000


def checkpoints() -> Iterator[Task]:
    """MLP, ConvNet and, where the text is at hand, transformer; SGD with momentum and AdamW; early and mid training.

    The data of a checkpoint is all the data there is: the truth about a step is taken over all of it.
    """
    for name, build, inputs, targets, stages in _models():
        for optimizer, make in OPTIMIZERS.items():
            for steps in stages:
                torch.manual_seed(0)
                task = Task(
                    name=f"{name}, {optimizer}, step {steps}", model=build(), inputs=inputs, targets=targets
                )
                yield trained(task, steps, make, keep_geometry=True)


def _models() -> Iterator[tuple[str, Callable[[], nn.Module], Tensor, Tensor, tuple[int, int]]]:
    images, labels = digits()
    yield "MLP", _mlp, images, labels, (15, 150)
    yield "ConvNet", _conv_net, images, labels, (15, 150)
    text = shakespeare(LOCAL_SEQUENCES)
    if text is not None:
        inputs, targets, vocabulary = text
        inputs, targets = inputs[:, :LOCAL_CONTEXT].contiguous(), targets[:, :LOCAL_CONTEXT].contiguous()
        yield "transformer", lambda: _transformer(vocabulary), inputs, targets, (15, 300)


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))


def _conv_net() -> nn.Module:
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)),
    )


def _transformer(vocabulary: int) -> nn.Module:
    return CharTransformer(vocabulary, width=32, context=LOCAL_CONTEXT)
