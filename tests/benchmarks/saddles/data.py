"""Rows for the saddle cases: the package's digits, and synthetic data of a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.benchmarks.tasks import digits

Rows = tuple[Tensor, Tensor]
"""Inputs and targets; whole-number targets are classes or tokens, others are regressed on."""

Source = Callable[[], Rows]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved_digits(*, shift: int = 1) -> Rows:
    """2,874 rows: the digits, and the digits moved sideways, with zeros moving in."""
    images, labels = digits()
    moved = torch.zeros(len(images), 8, 8)
    if shift > 0:
        moved[:, :, shift:] = images.view(-1, 8, 8)[:, :, :-shift]
    else:
        moved[:, :, :shift] = images.view(-1, 8, 8)[:, :, -shift:]
    return _shuffled(torch.cat([images, moved.flatten(1)]), labels.repeat(2))


def noisy_digits(*, noise: float, seed: int) -> Rows:
    """2,874 rows: every digit twice, each time with noise of its own on the pixels."""
    images, labels = digits()
    rows = images.repeat(2, 1)
    return _shuffled(rows + noise * torch.randn(rows.shape, generator=_generator(seed)), labels.repeat(2))


def centred_digits(*, shift: int = 1) -> Rows:
    """2,874 digits less their mean, as inputs and as targets of an autoencoder."""
    images, _ = moved_digits(shift=shift)
    centred = images - images.mean(0)
    return centred, centred


def _shuffled(inputs: Tensor, targets: Tensor) -> Rows:
    order = torch.randperm(len(inputs), generator=_generator(1))
    return inputs[order], targets[order]


def mixture(*, classes: int, dim: int, distance: float, seed: int, rows: int = 3000) -> Rows:
    """One Gaussian of unit spread per class, means at random on a sphere."""
    generator = _generator(seed)
    means = torch.nn.functional.normalize(torch.randn(classes, dim, generator=generator), dim=1) * distance
    labels = torch.randint(classes, (rows,), generator=generator)
    return means[labels] + torch.randn(rows, dim, generator=generator), labels


def teacher(*, dim: int, hidden: int, noise: float, seed: int, rows: int = 3000, outputs: int = 1) -> Rows:
    """A random tanh net's answers, of unit variance, plus noise."""
    generator = _generator(seed)
    inputs = torch.randn(rows, dim, generator=generator)
    first = torch.randn(dim, hidden, generator=generator) * 1.5 / dim**0.5
    second = torch.randn(hidden, outputs, generator=generator)
    answers = (inputs @ first).tanh() @ second
    answers = (answers - answers.mean(0)) / answers.std(0)
    return inputs, answers + noise * torch.randn(rows, outputs, generator=generator)


def linear_map(*, strengths: Sequence[float], dim: int, noise: float, seed: int, rows: int = 3000) -> Rows:
    """y = A x + noise, where A has the given singular values."""
    generator = _generator(seed)
    inputs = torch.randn(rows, dim, generator=generator)
    rank = len(strengths)
    left, _ = torch.linalg.qr(torch.randn(dim, rank, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(dim, rank, generator=generator))
    targets = inputs @ left @ torch.diag(torch.tensor(strengths)) @ right.T
    return inputs, targets + noise * torch.randn(rows, dim, generator=generator)


def spiked(*, spreads: Sequence[float], dim: int, seed: int, rows: int = 3000) -> Rows:
    """Gaussian inputs with a few wide directions; the targets are the inputs."""
    generator = _generator(seed)
    wide, _ = torch.linalg.qr(torch.randn(dim, len(spreads), generator=generator))
    inputs = 0.2 * torch.randn(rows, dim, generator=generator)
    inputs += (
        torch.randn(rows, len(spreads), generator=generator) @ torch.diag(torch.tensor(spreads)) @ wide.T
    )
    return inputs, inputs


def parity(*, dim: int, order: int, seed: int, rows: int = 4000, regress: bool = False) -> Rows:
    """Signs; the target is the product of the first `order` of them."""
    signs = torch.randint(2, (rows, dim), generator=_generator(seed)).float() * 2 - 1
    product = signs[:, :order].prod(1)
    return signs, (product[:, None] if regress else (product > 0).long())


def recall(*, keys: int, pairs: int, seed: int, rows: int = 4000) -> Rows:
    """Associative recall: `pairs` tokens that stand for (key, value), then a key to answer with its value.

    A token is key * keys + value; the question is keys**2 + key; the answer a class 0 ... keys - 1.
    """
    generator = _generator(seed)
    asked = torch.rand(rows, keys, generator=generator).argsort(1)[:, :pairs]
    values = torch.randint(keys, (rows, pairs), generator=generator)
    place = torch.randint(pairs, (rows, 1), generator=generator)
    question = keys**2 + asked.gather(1, place)
    return torch.cat([asked * keys + values, question], 1), values.gather(1, place)[:, 0]


def markov(*, vocabulary: int, length: int, seed: int, rows: int = 2000, sharpness: float = 1.5) -> Rows:
    """Sequences of a random Markov chain, and their next tokens."""
    generator = _generator(seed)
    chances = torch.softmax(sharpness * torch.randn(vocabulary, vocabulary, generator=generator), 1)
    tokens = [torch.randint(vocabulary, (rows,), generator=generator)]
    for _ in range(length):
        tokens.append(torch.multinomial(chances[tokens[-1]], 1, generator=generator)[:, 0])
    sequences = torch.stack(tokens, 1)
    return sequences[:, :-1].contiguous(), sequences[:, 1:].contiguous()


def counted(*, vocabulary: int, length: int, classes: int, seed: int, rows: int = 2000) -> Rows:
    """Random token sequences; the class counts the large tokens."""
    tokens = torch.randint(vocabulary, (rows, length), generator=_generator(seed))
    return tokens, (tokens > vocabulary // 2).sum(1).clamp(max=classes - 1)
