"""Training runs whose checkpoints are judged: named before any threshold was set.

`design` runs served to find the rule, `test` runs only to count errors. No net is in both.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from tests.benchmarks.tasks import CharTransformer, adamw, sgd

Rows = tuple[Tensor, Tensor]
Split = Literal["design", "test"]

TURN_STEPS = (10, 20, 40, 60, 80, 120, 160, 240, 320, 480, 640, 960, 1400)
"""Of the checkpoints of a run that comes to memorize its labels."""

VOCABULARY, CONTEXT = 12, 16


@dataclass(frozen=True, kw_only=True)
class Run:
    """How to come to some checkpoints of one run."""

    name: str
    kind: Literal["noisy", "healthy"]
    split: Split
    seed: int
    rows: Callable[[int], tuple[Rows, Rows]]
    """Training and held-out rows for a seed."""
    net: Callable[[], nn.Module]
    optimizer: Callable[[object], torch.optim.Optimizer]
    batch_size: int = 32
    steps: tuple[int, ...]


# --- the data -----------------------------------------------------------------------------------


def digits(train: int, noise: float = 0.0) -> Callable[[int], tuple[Rows, Rows]]:
    """Handwritten digits; a share of all labels, of held-out ones too, is drawn anew from the ten."""

    def rows(seed: int) -> tuple[Rows, Rows]:
        file = resources.files("bsadvisor.examples") / "digits" / "digits.npz"
        with file.open("rb") as stream, np.load(stream) as arrays:
            images, labels = (
                torch.from_numpy(np.concatenate([arrays[f"train_{part}"], arrays[f"heldout_{part}"]]))
                for part in ("images", "labels")
            )
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(images), generator=generator)
        images, labels = images[order].flatten(1).float() / 16, labels[order].long()
        redrawn = torch.rand(len(labels), generator=generator) < noise
        anything = torch.randint(10, (len(labels),), generator=generator)
        labels = torch.where(redrawn, anything, labels)
        return (images[:train], labels[:train]), (images[train:], labels[train:])

    return rows


def blobs(train: int) -> Callable[[int], tuple[Rows, Rows]]:
    """Six Gaussian clouds in 20 dimensions that overlap."""

    def rows(seed: int) -> tuple[Rows, Rows]:
        generator = torch.Generator().manual_seed(seed)
        centers = 0.8 * torch.randn(6, 20, generator=generator)
        labels = torch.randint(6, (train + 1000,), generator=generator)
        inputs = centers[labels] + torch.randn(len(labels), 20, generator=generator)
        return (inputs[:train], labels[:train]), (inputs[train:], labels[train:])

    return rows


def teacher(train: int) -> Callable[[int], tuple[Rows, Rows]]:
    """Regression on a small random network, with noise."""

    def rows(seed: int) -> tuple[Rows, Rows]:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(train + 1000, 16, generator=generator)
        weights = torch.randn(16, 4, generator=generator) / 2
        targets = torch.tanh(inputs @ weights).sum(1, keepdim=True)
        targets = targets + 0.3 * torch.randn(len(targets), 1, generator=generator)
        return (inputs[:train], targets[:train]), (inputs[train:], targets[train:])

    return rows


def chains(train: int) -> Callable[[int], tuple[Rows, Rows]]:
    """Sequences of a Markov chain of second order: each token depends on the two before."""

    def rows(seed: int) -> tuple[Rows, Rows]:
        generator = torch.Generator().manual_seed(seed)
        logits = 1.5 * torch.randn(VOCABULARY, VOCABULARY, VOCABULARY, generator=generator)
        count = train + 600
        tokens = [torch.randint(VOCABULARY, (count,), generator=generator) for _ in range(2)]
        while len(tokens) <= CONTEXT:
            after = logits[tokens[-2], tokens[-1]].softmax(1)
            tokens.append(torch.multinomial(after, 1, generator=generator).squeeze(1))
        text = torch.stack(tokens, dim=1)
        inputs, targets = text[:, :-1].contiguous(), text[:, 1:].contiguous()
        return (inputs[:train], targets[:train]), (inputs[train:], targets[train:])

    return rows


# --- the nets -----------------------------------------------------------------------------------


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU, dropout: float = 0.0) -> Callable[[], nn.Module]:
    """From the first width to the last."""

    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths[:-1]):
            layers += [nn.Linear(before, after), activation()]
            layers += [nn.Dropout(dropout)] if dropout else []
        return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))

    return build


def conv(channels: int, *, batch_norm: bool = False) -> Callable[[], nn.Module]:
    """Two convolutions over digits."""

    def build() -> nn.Module:
        norm = (nn.BatchNorm2d(channels),) if batch_norm else ()
        return nn.Sequential(
            *(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, channels, 3, padding=1), *norm, nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(32 * channels, 10)),
        )

    return build


class Residual(nn.Module):
    """Two residual blocks with LayerNorm."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(2)
        )
        self.last = nn.Linear(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        answers: Tensor = self.last(hidden)
        return answers


class Bigrams(nn.Module):
    """The next token from the last two, through one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 * VOCABULARY, 64), nn.ReLU(), nn.Linear(64, VOCABULARY))

    def forward(self, tokens: Tensor) -> Tensor:
        now = one_hot(tokens, VOCABULARY).float()
        before = torch.cat([torch.zeros_like(now[:, :1]), now[:, :-1]], dim=1)
        answers: Tensor = self.net(torch.cat([before, now], dim=2))
        return answers


def transformer() -> nn.Module:
    return CharTransformer(VOCABULARY, width=32, layers=1, context=CONTEXT)


# --- the list -----------------------------------------------------------------------------------


def runs(split: Split) -> Iterator[Run]:
    """All runs of a split."""
    yield from _design() if split == "design" else _test()


def _design() -> Iterator[Run]:
    for seed in range(100, 105):
        for name, net, optimizer in (
            ("mlp 256, SGD", mlp(64, 256, 10), sgd(0.3)),
            ("mlp 96-96-96, momentum", mlp(64, 96, 96, 96, 10), sgd(0.05, 0.9)),
            ("mlp 128-128, SGD", mlp(64, 128, 128, 10), sgd(0.3)),
            ("mlp 64, AdamW", mlp(64, 64, 10, activation=nn.Tanh), adamw(2e-3)),
        ):
            yield Run(
                name=name, kind="noisy", split="design", seed=seed, rows=digits(600, 0.3),
                net=net, optimizer=optimizer, steps=TURN_STEPS,
            )  # fmt: skip
    for seed in (100, 101):
        for name, rows, net, optimizer, steps in (
            ("softmax, SGD", digits(1000), mlp(64, 10), sgd(0.3), (20, 100, 500)),
            ("mlp 128, SGD", digits(600), mlp(64, 128, 10), sgd(0.1), (30, 150, 600)),
            ("mlp 128, AdamW", digits(1000), mlp(64, 128, 10), adamw(1e-3), (30, 100, 300)),
            ("conv 6, momentum", digits(1000), conv(6), sgd(0.03, 0.9), (20, 60, 200)),
            ("bigrams, AdamW", chains(800), Bigrams, adamw(3e-3), (20, 100, 300)),
            ("regression 64, SGD", teacher(800), mlp(16, 64, 1), sgd(0.03), (20, 100, 400)),
        ):
            yield Run(
                name=name, kind="healthy", split="design", seed=seed, rows=rows,
                net=net, optimizer=optimizer, steps=steps,
            )  # fmt: skip


def _test() -> Iterator[Run]:
    for seed in range(5):
        for name, net, optimizer in (
            ("mlp 160-80 tanh, SGD", mlp(64, 160, 80, 10, activation=nn.Tanh), sgd(0.2)),
            ("conv 8, AdamW", conv(8), adamw(2e-3)),
        ):
            yield Run(
                name=name, kind="noisy", split="test", seed=seed, rows=digits(600, 0.3),
                net=net, optimizer=optimizer, steps=TURN_STEPS,
            )  # fmt: skip
    for seed in (0, 1):
        for name, rows, net, optimizer, steps in (
            (
                "mlp tanh 96-96, SGD",
                digits(600),
                mlp(64, 96, 96, 10, activation=nn.Tanh),
                sgd(0.1),
                (30, 120, 500),
            ),
            (
                "mlp 200 with dropout, AdamW",
                digits(600),
                mlp(64, 200, 10, dropout=0.3),
                adamw(1e-3),
                (30, 120, 500),
            ),
            (
                "conv 8 with BatchNorm, momentum",
                digits(1000),
                conv(8, batch_norm=True),
                sgd(0.02, 0.9),
                (15, 40, 120),
            ),
            ("residual 48, AdamW", digits(1000), lambda: Residual(64, 48, 10), adamw(5e-4), (20, 60, 160)),
            ("transformer, AdamW", chains(1200), transformer, adamw(3e-3), (20, 100, 300)),
            (
                "regression 48-48, AdamW",
                teacher(1200),
                mlp(16, 48, 48, 1, activation=nn.GELU),
                adamw(2e-3),
                (20, 60, 150),
            ),
            ("clouds, momentum", blobs(800), mlp(20, 40, 6), sgd(0.02, 0.9), (10, 30, 80)),
        ):
            yield Run(
                name=name, kind="healthy", split="test", seed=seed, rows=rows,
                net=net, optimizer=optimizer, steps=steps,
            )  # fmt: skip
