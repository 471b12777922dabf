"""The checkpoints: real runs on real data, stopped early or in the middle.

`design` cases were used while the method was made; `test` cases were not, until they were judged once.
`sealed` cases came after that, and the two that had no truth yet moved there; `fresh` ones after these, then
`unseen` ones, before trials were judged by targets that are set anew, `kept` ones before the runs of a trial were
made cheaper, `late` ones before its batch sizes were set further apart, `last` ones before a batch size was recommended only if
its learning rates were compared, and `untouched` ones before the one that is gets a lower rate where it is late.
Texts and MNIST are read from the folder that `BSADVISOR_DATA` names; without it only the digits remain.
"""

from __future__ import annotations

import gzip
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from tests.benchmarks.tasks import CharTransformer, digits

Parameters = Iterable[nn.Parameter]
Rows = tuple[Tensor, Tensor]
Split = Literal["design", "test", "sealed", "fresh", "unseen", "kept", "late", "last", "untouched"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A run that was stopped: what `target.py` hands to the tool."""

    name: str
    split: Split
    model: Callable[[], nn.Module]
    data: Callable[[], Rows]
    optimizer: Literal["sgd", "momentum", "nesterov", "adamw"]
    learning_rate: float
    steps: int
    """Taken before the checkpoint."""
    horizon: int = 150
    """Steps ahead, with the run's own pair, whose loss is the target."""
    batch_size: int = 32

    def make_optimizer(self, parameters: Parameters, rate: float | None = None) -> torch.optim.Optimizer:
        rate = self.learning_rate if rate is None else rate
        match self.optimizer:
            case "adamw":
                return torch.optim.AdamW(parameters, lr=rate)
            case "sgd":
                return torch.optim.SGD(parameters, lr=rate)
            case kind:
                return torch.optim.SGD(parameters, lr=rate, momentum=0.9, nesterov=kind == "nesterov")


def loss_of(model: nn.Module, batch: Any) -> Tensor:
    """Cross entropy, of each character where there are many."""
    inputs, targets = batch
    return nn.functional.cross_entropy(model(inputs).flatten(0, -2), targets.flatten())


def available() -> Iterator[Case]:
    """Those whose data is here."""
    for case in CASES:
        try:
            case.data()
        except FileNotFoundError:
            continue
        yield case


def case_named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def checkpoint(case: Case) -> dict[str, Any]:
    """Weights and optimizer state after `steps` steps with the case's own pair."""
    torch.manual_seed(0)
    model = case.model()
    optimizer = case.make_optimizer(model.parameters())
    inputs, targets = case.data()
    generator = torch.Generator().manual_seed(1)
    for _ in range(case.steps):
        picks = torch.randint(len(inputs), (case.batch_size,), generator=generator)
        optimizer.zero_grad()
        loss_of(model, (inputs[picks], targets[picks])).backward()
        optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def dataset(case: Case) -> TensorDataset:
    return TensorDataset(*case.data())


# --- data ---------------------------------------------------------------------------------------


def _folder() -> Path:
    return Path(os.environ.get("BSADVISOR_DATA", "/nowhere"))


def mnist() -> Rows:
    """10,000 images, pooled to 14 x 14."""
    with gzip.open(_folder() / "t10k-images-idx3-ubyte.gz") as file:
        pixels = torch.frombuffer(bytearray(file.read()[16:]), dtype=torch.uint8)
    with gzip.open(_folder() / "t10k-labels-idx1-ubyte.gz") as file:
        labels = torch.frombuffer(bytearray(file.read()[8:]), dtype=torch.uint8)
    images = pixels.view(-1, 1, 28, 28).float() / 255
    return nn.functional.avg_pool2d(images, 2).flatten(1), labels.long()


def _noisy_digits() -> Rows:
    """One label in five is drawn at random."""
    images, labels = digits()
    generator = torch.Generator().manual_seed(5)
    wrong = torch.rand(len(labels), generator=generator) < 0.2
    return images, torch.where(wrong, torch.randint(10, labels.shape, generator=generator), labels)


def _text(name: str, sequences: int, context: int, start: int = 0) -> Callable[[], Rows]:
    """Characters and the next ones, the rarest taken for one."""

    def read() -> Rows:
        text = (_folder() / name).read_text(encoding="utf-8")
        common = "".join(sorted({c for c in text if c.isascii()}))[:95]
        numbers = {character: number for number, character in enumerate(common, start=1)}
        part = text[start : start + sequences * context + 1]
        codes = torch.tensor([numbers.get(character, 0) for character in part])
        return codes[:-1].view(-1, context), codes[1:].view(-1, context)

    return read


# --- models -------------------------------------------------------------------------------------


def _softmax(pixels: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(pixels, 10)


def _mlp(*widths: int, activation: type[nn.Module] = nn.ReLU) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), activation()]
        return nn.Sequential(*layers[:-1])

    return build


def conv_net(side: int, channels: int) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return nn.Sequential(
            *(nn.Unflatten(1, (1, side, side)), nn.Conv2d(1, channels, 3, padding=1), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(2 * channels * (side // 4) ** 2, 10)),
        )

    return build


class RowLSTM(nn.Module):
    """Reads an image row by row."""

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.side = side
        self.lstm = nn.LSTM(side, width, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        states, _ = self.lstm(images.unflatten(1, (self.side, self.side)))
        logits: Tensor = self.head(states[:, -1])
        return logits


class CharLSTM(nn.Module):
    """Predicts each next character."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(96, 16)
        self.lstm = nn.LSTM(16, width, batch_first=True)
        self.head = nn.Linear(width, 96)

    def forward(self, characters: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(characters))
        logits: Tensor = self.head(states)
        return logits


def _transformer(width: int, layers: int, context: int) -> Callable[[], nn.Module]:
    return lambda: CharTransformer(96, width=width, layers=layers, context=context)


SHAKESPEARE = "tinyshakespeare.txt"
WIKIPEDIA = "wikitext2-valid.txt"

CASES = (
    Case(
        name="softmax-digits-sgd-early",
        split="design",
        model=_softmax(64),
        data=digits,
        optimizer="sgd",
        learning_rate=1.5,
        steps=30,
        horizon=200,
    ),
    Case(
        name="mlp-digits-adamw-mid",
        split="design",
        model=_mlp(64, 32, 10, activation=nn.Tanh),
        data=digits,
        optimizer="adamw",
        learning_rate=1e-2,
        steps=60,
        horizon=150,
    ),
    Case(
        name="convnet-digits-momentum-early",
        split="design",
        model=conv_net(8, 8),
        data=digits,
        optimizer="momentum",
        learning_rate=0.05,
        steps=80,
        horizon=120,
    ),
    Case(
        name="transformer-shakespeare-adamw-early",
        split="design",
        model=_transformer(32, 1, 16),
        data=_text(SHAKESPEARE, 4000, 16),
        optimizer="adamw",
        learning_rate=6e-3,
        steps=60,
        horizon=150,
    ),
    Case(
        name="softmax-mnist-sgd-early",
        split="test",
        model=_softmax(196),
        data=mnist,
        optimizer="sgd",
        learning_rate=0.7,
        steps=50,
        horizon=200,
    ),
    Case(
        name="mlp-digits-momentum-mid",
        split="test",
        model=_mlp(64, 64, 10),
        data=digits,
        optimizer="momentum",
        learning_rate=0.1,
        steps=80,
        horizon=200,
    ),
    Case(
        name="mlp-mnist-adamw-early",
        split="test",
        model=_mlp(196, 48, 10),
        data=mnist,
        optimizer="adamw",
        learning_rate=5e-3,
        steps=60,
        horizon=200,
    ),
    Case(
        name="mlp-noisy-digits-sgd-mid",
        split="test",
        model=_mlp(64, 48, 48, 10),
        data=_noisy_digits,
        optimizer="sgd",
        learning_rate=0.4,
        steps=150,
        horizon=250,
        batch_size=16,
    ),
    Case(
        name="convnet-digits-adamw-mid",
        split="test",
        model=conv_net(8, 12),
        data=digits,
        optimizer="adamw",
        learning_rate=1e-2,
        steps=60,
        horizon=150,
    ),
    Case(
        name="convnet-mnist-nesterov-early",
        split="sealed",
        model=conv_net(14, 6),
        data=mnist,
        optimizer="nesterov",
        learning_rate=0.04,
        steps=40,
        horizon=150,
    ),
    Case(
        name="lstm-digits-adamw-early",
        split="test",
        model=lambda: RowLSTM(8, 32),
        data=digits,
        optimizer="adamw",
        learning_rate=1e-2,
        steps=60,
        horizon=150,
    ),
    Case(
        name="lstm-wikipedia-adamw-early",
        split="test",
        model=lambda: CharLSTM(48),
        data=_text(WIKIPEDIA, 4000, 16),
        optimizer="adamw",
        learning_rate=1e-2,
        steps=80,
        horizon=150,
        batch_size=16,
    ),
    Case(
        name="transformer-wikipedia-adamw-mid",
        split="test",
        model=_transformer(32, 1, 16),
        data=_text(WIKIPEDIA, 4000, 16, start=200_000),
        optimizer="adamw",
        learning_rate=6e-3,
        steps=200,
        horizon=150,
    ),
    Case(
        name="transformer-shakespeare-momentum-mid",
        split="sealed",
        model=_transformer(24, 1, 16),
        data=_text(SHAKESPEARE, 4000, 16, start=300_000),
        optimizer="momentum",
        learning_rate=0.3,
        steps=200,
        horizon=200,
    ),
    Case(
        name="softmax-mnist-adamw-mid",
        split="sealed",
        model=_softmax(196),
        data=mnist,
        optimizer="adamw",
        learning_rate=1e-2,
        steps=60,
        horizon=150,
        batch_size=64,
    ),
    Case(
        name="softmax-noisy-digits-momentum-early",
        split="sealed",
        model=_softmax(64),
        data=_noisy_digits,
        optimizer="momentum",
        learning_rate=0.15,
        steps=25,
        horizon=150,
        batch_size=16,
    ),
    Case(
        name="mlp-mnist-sgd-mid",
        split="sealed",
        model=_mlp(196, 32, 10, activation=nn.Tanh),
        data=mnist,
        optimizer="sgd",
        learning_rate=0.4,
        steps=200,
        horizon=200,
    ),
    Case(
        name="mlp-mnist-momentum-early",
        split="sealed",
        model=_mlp(196, 64, 32, 10),
        data=mnist,
        optimizer="momentum",
        learning_rate=0.05,
        steps=60,
        horizon=150,
        batch_size=64,
    ),
    Case(
        name="mlp-digits-nesterov-early",
        split="sealed",
        model=_mlp(64, 40, 10, activation=nn.Tanh),
        data=digits,
        optimizer="nesterov",
        learning_rate=0.1,
        steps=40,
        horizon=150,
    ),
    Case(
        name="mlp-noisy-digits-adamw-mid",
        split="sealed",
        model=_mlp(64, 32, 10),
        data=_noisy_digits,
        optimizer="adamw",
        learning_rate=5e-3,
        steps=120,
        horizon=200,
    ),
    Case(
        name="convnet-digits-sgd-mid",
        split="sealed",
        model=conv_net(8, 6),
        data=digits,
        optimizer="sgd",
        learning_rate=0.3,
        steps=150,
        horizon=150,
    ),
    Case(
        name="lstm-digits-momentum-mid",
        split="sealed",
        model=lambda: RowLSTM(8, 24),
        data=digits,
        optimizer="momentum",
        learning_rate=0.2,
        steps=120,
        horizon=120,
    ),
    Case(
        name="lstm-shakespeare-adamw-mid",
        split="sealed",
        model=lambda: CharLSTM(32),
        data=_text(SHAKESPEARE, 4000, 16, start=600_000),
        optimizer="adamw",
        learning_rate=1e-2,
        steps=200,
        horizon=150,
    ),
    Case(
        name="transformer-wikipedia-adamw-early",
        split="sealed",
        model=_transformer(24, 1, 16),
        data=_text(WIKIPEDIA, 4000, 16, start=500_000),
        optimizer="adamw",
        learning_rate=8e-3,
        steps=80,
        horizon=120,
        batch_size=16,
    ),
    Case(
        name="softmax-digits-adamw-early",
        split="fresh",
        model=_softmax(64),
        data=digits,
        optimizer="adamw",
        learning_rate=1e-2,
        steps=40,
        horizon=150,
    ),
    Case(
        name="softmax-mnist-momentum-mid",
        split="fresh",
        model=_softmax(196),
        data=mnist,
        optimizer="momentum",
        learning_rate=0.05,
        steps=150,
        horizon=150,
    ),
    Case(
        name="mlp-digits-sgd-early",
        split="fresh",
        model=_mlp(64, 32, 10, activation=nn.Tanh),
        data=digits,
        optimizer="sgd",
        learning_rate=0.5,
        steps=40,
        horizon=150,
    ),
    Case(
        name="mlp-digits-adamw-early",
        split="fresh",
        model=_mlp(64, 48, 48, 10),
        data=digits,
        optimizer="adamw",
        learning_rate=3e-3,
        steps=50,
        horizon=150,
        batch_size=16,
    ),
    Case(
        name="mlp-mnist-adamw-mid",
        split="fresh",
        model=_mlp(196, 32, 10),
        data=mnist,
        optimizer="adamw",
        learning_rate=1e-3,
        steps=150,
        horizon=150,
        batch_size=64,
    ),
    Case(
        name="mlp-noisy-digits-momentum-early",
        split="fresh",
        model=_mlp(64, 32, 10),
        data=_noisy_digits,
        optimizer="momentum",
        learning_rate=0.03,
        steps=60,
        horizon=200,
        batch_size=16,
    ),
    Case(
        name="convnet-digits-nesterov-mid",
        split="fresh",
        model=conv_net(8, 6),
        data=digits,
        optimizer="nesterov",
        learning_rate=0.02,
        steps=150,
        horizon=150,
    ),
    Case(
        name="convnet-mnist-sgd-early",
        split="fresh",
        model=conv_net(14, 4),
        data=mnist,
        optimizer="sgd",
        learning_rate=0.2,
        steps=60,
        horizon=150,
    ),
    Case(
        name="softmax-noisy-digits-sgd-mid",
        split="unseen",
        model=_softmax(64),
        data=_noisy_digits,
        optimizer="sgd",
        learning_rate=0.8,
        steps=120,
        horizon=150,
        batch_size=16,
    ),
    Case(
        name="softmax-mnist-nesterov-early",
        split="unseen",
        model=_softmax(196),
        data=mnist,
        optimizer="nesterov",
        learning_rate=0.1,
        steps=30,
        horizon=150,
    ),
    Case(
        name="mlp-mnist-nesterov-mid",
        split="unseen",
        model=_mlp(196, 40, 10),
        data=mnist,
        optimizer="nesterov",
        learning_rate=0.03,
        steps=150,
        horizon=200,
    ),
    Case(
        name="mlp-noisy-digits-adamw-early",
        split="unseen",
        model=_mlp(64, 40, 10, activation=nn.Tanh),
        data=_noisy_digits,
        optimizer="adamw",
        learning_rate=8e-3,
        steps=40,
        horizon=150,
    ),
    Case(
        name="mlp-digits-sgd-mid",
        split="unseen",
        model=_mlp(64, 24, 24, 10),
        data=digits,
        optimizer="sgd",
        learning_rate=0.1,
        steps=150,
        horizon=150,
        batch_size=16,
    ),
    Case(
        name="convnet-digits-adamw-early",
        split="unseen",
        model=conv_net(8, 6),
        data=digits,
        optimizer="adamw",
        learning_rate=5e-3,
        steps=50,
        horizon=150,
    ),
    Case(
        name="lstm-digits-nesterov-early",
        split="unseen",
        model=lambda: RowLSTM(8, 20),
        data=digits,
        optimizer="nesterov",
        learning_rate=0.1,
        steps=60,
        horizon=120,
    ),
    Case(
        name="transformer-wikipedia-adamw-late",
        split="unseen",
        model=_transformer(24, 1, 16),
        data=_text(WIKIPEDIA, 4000, 16, start=700_000),
        optimizer="adamw",
        learning_rate=5e-3,
        steps=300,
        horizon=150,
    ),
    Case(
        name="softmax-noisy-digits-adamw-mid",
        split="kept",
        model=_softmax(64),
        data=_noisy_digits,
        optimizer="adamw",
        learning_rate=0.02,
        steps=60,
        horizon=150,
    ),
    Case(
        name="softmax-mnist-sgd-mid",
        split="kept",
        model=_softmax(196),
        data=mnist,
        optimizer="sgd",
        learning_rate=0.5,
        steps=400,
        horizon=200,
    ),
    Case(
        name="mlp-digits-nesterov-mid",
        split="kept",
        model=_mlp(64, 24, 24, 10),
        data=digits,
        optimizer="nesterov",
        learning_rate=0.02,
        steps=100,
        horizon=150,
    ),
    Case(
        name="mlp-mnist-sgd-early",
        split="kept",
        model=_mlp(196, 40, 10),
        data=mnist,
        optimizer="sgd",
        learning_rate=0.3,
        steps=40,
        horizon=150,
        batch_size=16,
    ),
    Case(
        name="mlp-noisy-digits-momentum-mid",
        split="kept",
        model=_mlp(64, 64, 10, activation=nn.Tanh),
        data=_noisy_digits,
        optimizer="momentum",
        learning_rate=0.05,
        steps=150,
        horizon=150,
    ),
    Case(
        name="mlp-mnist-adamw-late",
        split="kept",
        model=_mlp(196, 32, 10),
        data=mnist,
        optimizer="adamw",
        learning_rate=2e-3,
        steps=400,
        horizon=150,
    ),
    Case(
        name="convnet-digits-momentum-mid",
        split="kept",
        model=conv_net(8, 6),
        data=digits,
        optimizer="momentum",
        learning_rate=0.05,
        steps=60,
        horizon=150,
        batch_size=16,
    ),
    Case(
        name="lstm-digits-adamw-mid",
        split="kept",
        model=lambda: RowLSTM(8, 24),
        data=digits,
        optimizer="adamw",
        learning_rate=8e-3,
        steps=120,
        horizon=150,
    ),
    Case(
        name="softmax-digits-momentum-mid",
        split="late",
        model=_softmax(64),
        data=digits,
        optimizer="momentum",
        learning_rate=0.1,
        steps=150,
        horizon=150,
    ),
    Case(
        name="softmax-mnist-adamw-early",
        split="late",
        model=_softmax(196),
        data=mnist,
        optimizer="adamw",
        learning_rate=3e-3,
        steps=60,
        horizon=150,
    ),
    Case(
        name="mlp-digits-momentum-early",
        split="late",
        model=_mlp(64, 40, 10, activation=nn.Tanh),
        data=digits,
        optimizer="momentum",
        learning_rate=0.05,
        steps=30,
        horizon=150,
        batch_size=16,
    ),
    Case(
        name="mlp-mnist-nesterov-early",
        split="late",
        model=_mlp(196, 48, 10),
        data=mnist,
        optimizer="nesterov",
        learning_rate=0.03,
        steps=50,
        horizon=150,
    ),
    Case(
        name="mlp-noisy-digits-sgd-early",
        split="late",
        model=_mlp(64, 48, 10),
        data=_noisy_digits,
        optimizer="sgd",
        learning_rate=0.3,
        steps=60,
        horizon=150,
    ),
    Case(
        name="mlp-mnist-momentum-mid",
        split="late",
        model=_mlp(196, 32, 32, 10),
        data=mnist,
        optimizer="momentum",
        learning_rate=0.02,
        steps=250,
        horizon=150,
        batch_size=64,
    ),
    Case(
        name="convnet-digits-sgd-early",
        split="late",
        model=conv_net(8, 8),
        data=digits,
        optimizer="sgd",
        learning_rate=0.2,
        steps=40,
        horizon=150,
    ),
    Case(
        name="lstm-digits-momentum-early",
        split="late",
        model=lambda: RowLSTM(8, 32),
        data=digits,
        optimizer="momentum",
        learning_rate=0.1,
        steps=60,
        horizon=150,
    ),
    Case(
        name="softmax-digits-nesterov-early",
        split="last",
        model=_softmax(64),
        data=digits,
        optimizer="nesterov",
        learning_rate=0.05,
        steps=40,
        horizon=150,
    ),
    Case(
        name="softmax-mnist-momentum-early",
        split="last",
        model=_softmax(196),
        data=mnist,
        optimizer="momentum",
        learning_rate=0.1,
        steps=40,
        horizon=150,
        batch_size=16,
    ),
    Case(
        name="softmax-noisy-digits-nesterov-mid",
        split="last",
        model=_softmax(64),
        data=_noisy_digits,
        optimizer="nesterov",
        learning_rate=0.05,
        steps=100,
        horizon=150,
    ),
    Case(
        name="mlp-digits-adamw-late",
        split="last",
        model=_mlp(64, 32, 10),
        data=digits,
        optimizer="adamw",
        learning_rate=2e-3,
        steps=200,
        horizon=150,
    ),
    Case(
        name="mlp-noisy-digits-nesterov-early",
        split="last",
        model=_mlp(64, 48, 10, activation=nn.Tanh),
        data=_noisy_digits,
        optimizer="nesterov",
        learning_rate=0.05,
        steps=50,
        horizon=150,
    ),
    Case(
        name="mlp-mnist-sgd-late",
        split="last",
        model=_mlp(196, 40, 10),
        data=mnist,
        optimizer="sgd",
        learning_rate=0.2,
        steps=500,
        horizon=150,
        batch_size=64,
    ),
    Case(
        name="mlp-mnist-momentum-late",
        split="last",
        model=_mlp(196, 32, 10),
        data=mnist,
        optimizer="momentum",
        learning_rate=0.03,
        steps=400,
        horizon=150,
        batch_size=16,
    ),
    Case(
        name="lstm-digits-adamw-late",
        split="last",
        model=lambda: RowLSTM(8, 24),
        data=digits,
        optimizer="adamw",
        learning_rate=5e-3,
        steps=250,
        horizon=150,
    ),
    Case(
        name="convnet-digits-nesterov-early",
        split="last",
        model=conv_net(8, 6),
        data=digits,
        optimizer="nesterov",
        learning_rate=0.03,
        steps=60,
        horizon=150,
    ),
    Case(
        name="transformer-shakespeare-adamw-mid",
        split="last",
        model=_transformer(24, 1, 16),
        data=_text(SHAKESPEARE, 4000, 16, start=800_000),
        optimizer="adamw",
        learning_rate=5e-3,
        steps=200,
        horizon=150,
    ),
    Case(
        name="softmax-digits-sgd-mid",
        split="untouched",
        model=_softmax(64),
        data=digits,
        optimizer="sgd",
        learning_rate=1.0,
        steps=120,
        horizon=150,
    ),
    Case(
        name="softmax-noisy-digits-adamw-early",
        split="untouched",
        model=_softmax(64),
        data=_noisy_digits,
        optimizer="adamw",
        learning_rate=1e-2,
        steps=30,
        horizon=150,
        batch_size=16,
    ),
    Case(
        name="mlp-digits-momentum-late",
        split="untouched",
        model=_mlp(64, 32, 10, activation=nn.Tanh),
        data=digits,
        optimizer="momentum",
        learning_rate=0.03,
        steps=150,
        horizon=150,
    ),
    Case(
        name="softmax-mnist-nesterov-mid",
        split="untouched",
        model=_softmax(196),
        data=mnist,
        optimizer="nesterov",
        learning_rate=0.05,
        steps=150,
        horizon=150,
        batch_size=64,
    ),
    Case(
        name="mlp-noisy-digits-sgd-late",
        split="untouched",
        model=_mlp(64, 32, 10),
        data=_noisy_digits,
        optimizer="sgd",
        learning_rate=0.2,
        steps=300,
        horizon=150,
    ),
    Case(
        name="mlp-mnist-nesterov-late",
        split="untouched",
        model=_mlp(196, 40, 10),
        data=mnist,
        optimizer="nesterov",
        learning_rate=0.02,
        steps=350,
        horizon=150,
    ),
    Case(
        name="convnet-digits-adamw-late",
        split="untouched",
        model=conv_net(8, 6),
        data=digits,
        optimizer="adamw",
        learning_rate=3e-3,
        steps=200,
        horizon=150,
    ),
)
