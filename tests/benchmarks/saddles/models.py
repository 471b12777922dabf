"""Small nets for the saddle cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from tests.benchmarks.tasks import CharTransformer


class MLP(nn.Sequential):
    """Linear layers with an activation between them, and dropout after it."""

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Callable[[], nn.Module] = nn.Tanh,
        *,
        bias: bool = True,
        norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes[:-1]):
            layers.append(nn.Linear(fan_in, fan_out, bias=bias))
            layers += [nn.LayerNorm(fan_out)] if norm else []
            layers.append(activation())
            layers += [nn.Dropout(dropout)] if dropout else []
        super().__init__(*layers, nn.Linear(sizes[-2], sizes[-1], bias=bias))


class ConvNet(nn.Sequential):
    """Two convolutions over 8 x 8 images and a linear head."""

    def __init__(
        self, channels: int, *, norm: bool = False, activation: Callable[[], nn.Module] = nn.ReLU
    ) -> None:
        super().__init__(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels) if norm else nn.Identity(),
            activation(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * channels) if norm else nn.Identity(),
            activation(),
            nn.Flatten(),
            nn.Linear(2 * channels * 16, 10),
        )


class SequenceLSTM(nn.Module):
    """Tokens to an LSTM, which says the next token at each place, or a class at the end."""

    def __init__(self, vocabulary: int, width: int, outputs: int, *, at_end: bool = False) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, outputs)
        self.at_end = at_end

    def forward(self, tokens: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.tokens(tokens))
        logits: Tensor = self.head(hidden[:, -1] if self.at_end else hidden)
        return logits


class Recaller(nn.Module):
    """One attention head from the last token to those before it, and a linear answer."""

    def __init__(self, keys: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(keys**2 + keys, width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, keys)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.tokens(tokens)
        context, question = hidden[:, :-1], hidden[:, -1:]
        scores = self.query(question) @ self.key(context).transpose(1, 2) / hidden.shape[-1] ** 0.5
        logits: Tensor = self.head((scores.softmax(-1) @ self.value(context))[:, 0])
        return logits


class Answerer(CharTransformer):
    """A transformer that answers at the last token only."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens)[:, -1]


class TiedAutoencoder(nn.Module):
    """x -> W' f(W x), with one W."""

    def __init__(self, dim: int, hidden: int, activation: Callable[[], nn.Module] = nn.Identity) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(hidden, dim) / dim**0.5)
        self.activation = activation()

    def forward(self, inputs: Tensor) -> Tensor:
        decoded: Tensor = self.activation(inputs @ self.weight.T) @ self.weight
        return decoded


class Planted(nn.Module):
    """A net beside two parameters x, y that add height (1 - x^2)^2 + height y^2 + tilt x to the loss.

    The tilt of an example is `noise` times its first input less the mean: gradient noise along x.
    """

    def __init__(self, net: nn.Module, *, height: float, noise: float, centre: Tensor) -> None:
        super().__init__()
        self.net = net
        self.x, self.y = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.height, self.noise = height, noise
        self.centre: Tensor
        self.register_buffer("centre", centre)

    def forward(self, inputs: Tensor) -> Tensor:
        answer: Tensor = self.net(inputs)
        return answer

    def extra(self, inputs: Tensor) -> Tensor:
        """The mean over the batch of what x and y add."""
        tilt = self.noise * (inputs[:, 0] - self.centre).mean()
        return self.height * ((1 - self.x**2) ** 2 + self.y**2) + tilt * self.x
