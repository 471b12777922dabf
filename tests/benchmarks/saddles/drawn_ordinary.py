"""Ordinary checkpoints drawn by number: runs at every age, noisy ones among them, optima and plateaus."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from tests.benchmarks.saddles import data
from tests.benchmarks.saddles.data import Source
from tests.benchmarks.saddles.draws import Draw, draw
from tests.benchmarks.saddles.models import MLP, ConvNet, Recaller, SequenceLSTM, TiedAutoencoder
from tests.benchmarks.saddles.problem import Case, Pair, Split, Step
from tests.benchmarks.saddles.recipes import converged, descended, saturated, trained
from tests.benchmarks.tasks import CharTransformer


def ordinary(number: int, into: Split) -> Case:
    """The checkpoint of this number: kinds take turns."""
    dice = draw(number, into)
    return KINDS[number % len(KINDS)](dice)


def _case(
    dice: Draw,
    family: str,
    net: Callable[[], nn.Module],
    rows: Source,
    recipe: tuple[Step, ...],
    pair: Pair,
    *,
    horizon: int = 4000,
) -> Case:
    return dice.case("ordinary", family, net, rows, recipe, pair, horizon)


def _classes(dice: Draw, distance: float) -> tuple[int, int, Source]:
    """Inputs, classes and rows."""
    if dice.whole(0, 1):
        return 64, 10, partial(data.noisy_digits, noise=dice.between(0.1, 0.4), seed=dice.number)
    dim, classes = dice.whole(10, 24), dice.whole(4, 9)
    rows = partial(data.mixture, classes=classes, dim=dim, distance=distance, seed=dice.number)
    return dim, classes, rows


def _answers(dice: Draw, noise: float) -> tuple[int, int, Source]:
    dim, outputs = dice.whole(6, 14), dice.whole(1, 3)
    rows = partial(
        data.teacher, dim=dim, hidden=dice.whole(3, 7), noise=noise, seed=dice.number, outputs=outputs
    )
    return dim, outputs, rows


def classifier(dice: Draw) -> Case:
    """At any age."""
    dim, classes, rows = _classes(dice, dice.between(2.0, 4.0))
    hidden = [dice.whole(16, 36) for _ in range(dice.whole(1, 3))]
    norm, dropout = dice.whole(0, 3) == 0, 0.2 * (dice.whole(0, 3) == 0)
    net = partial(MLP, (dim, *hidden, classes), dice.activation(smooth=False), norm=norm, dropout=dropout)
    pair = dice.pair(dice.optimizer(), 0.2, 0.003, decay=True)
    return _case(dice, "MLP", net, rows, (trained(int(dice.between(1, 4000))),), pair)


def noisy_classifier(dice: Draw) -> Case:
    """Late, of classes that overlap, with a rate so large that the loss fluctuates."""
    dim, classes, rows = _classes(dice, dice.between(1.0, 2.0))
    net = partial(MLP, (dim, dice.whole(16, 36), classes), dice.activation(smooth=False))
    pair = dice.pair(dice.optimizer(), 0.4, 0.006)
    return _case(dice, "noisy MLP", net, rows, (trained(int(dice.between(500, 4000))),), pair)


def regression(dice: Draw) -> Case:
    """At any age."""
    dim, outputs, rows = _answers(dice, dice.between(0.1, 0.5))
    hidden = [dice.whole(14, 28) for _ in range(dice.whole(1, 2))]
    net = partial(MLP, (dim, *hidden, outputs), dice.activation(smooth=False))
    pair = dice.pair(dice.optimizer(), 0.05, 0.003)
    return _case(dice, "regression", net, rows, (trained(int(dice.between(1, 5000))),), pair)


def noisy_regression(dice: Draw) -> Case:
    """Late, of answers that are half noise, with a large rate."""
    dim, outputs, rows = _answers(dice, dice.between(0.6, 1.5))
    net = partial(MLP, (dim, dice.whole(14, 28), outputs), dice.activation(smooth=False))
    pair = dice.pair(dice.optimizer(), 0.1, 0.006)
    return _case(dice, "noisy regression", net, rows, (trained(int(dice.between(500, 4000))),), pair)


def conv_net(dice: Draw) -> Case:
    """At any age."""
    rows = partial(data.noisy_digits, noise=dice.between(0.1, 0.6), seed=dice.number)
    net = partial(
        ConvNet, dice.whole(4, 7), norm=bool(dice.whole(0, 1)), activation=dice.activation(smooth=False)
    )
    pair = dice.pair(dice.optimizer(), 0.15, 0.002)
    return _case(dice, "conv net", net, rows, (trained(int(dice.between(1, 1000))),), pair, horizon=1000)


def transformer(dice: Draw) -> Case:
    """At any age."""
    vocabulary, length = dice.whole(9, 16), dice.whole(6, 9)
    rows = partial(data.markov, vocabulary=vocabulary, length=length, seed=dice.number)
    net = partial(CharTransformer, vocabulary, 16, dice.whole(1, 2), length)
    pair = dice.pair(dice.dice.choice(("momentum", "AdamW")), 0.2, 0.003)
    return _case(dice, "transformer", net, rows, (trained(int(dice.between(1, 600))),), pair, horizon=1000)


def recall(dice: Draw) -> Case:
    """Attention that has found out where to look, or fits its rows; the loss fluctuates."""
    keys, pairs = dice.whole(5, 8), dice.whole(2, 4)
    rows = partial(data.recall, keys=keys, pairs=pairs, seed=dice.number)
    net = partial(Recaller, keys, 4 * dice.whole(3, 5))
    pair = dice.pair(dice.dice.choice(("plain", "momentum", "AdamW")), 0.6, 0.01)
    return _case(dice, "attention", net, rows, (trained(int(dice.between(400, 3000))),), pair)


def lstm(dice: Draw) -> Case:
    """At any age."""
    vocabulary = dice.whole(6, 11)
    rows = partial(data.markov, vocabulary=vocabulary, length=dice.whole(5, 8), seed=dice.number)
    net = partial(SequenceLSTM, vocabulary, dice.whole(10, 16), vocabulary)
    pair = dice.pair(dice.dice.choice(("momentum", "AdamW")), 1.0, 0.01)
    return _case(dice, "LSTM", net, rows, (trained(int(dice.between(1, 1000))),), pair, horizon=1000)


def parity(dice: Draw) -> Case:
    """After the fact, or of so many signs that the rows can only be learnt by heart."""
    dim, order = dice.whole(7, 12), dice.dice.choice((2, 2, 5))
    rows = partial(data.parity, dim=dim, order=order, seed=dice.number)
    net = partial(MLP, (dim, dice.whole(20, 30), 2), dice.activation(smooth=False))
    pair = dice.pair(dice.optimizer(), 0.6, 0.01)
    return _case(dice, "parity", net, rows, (trained(int(dice.between(1000, 4000))),), pair)


def convex_optimum(dice: Draw) -> Case:
    """Of a softmax or linear regression."""
    if dice.whole(0, 1):
        dim, classes = dice.whole(8, 20), dice.whole(3, 8)
        rows: Source = partial(
            data.mixture, classes=classes, dim=dim, distance=dice.between(1.0, 2.2), seed=dice.number
        )
        pair = dice.pair(dice.optimizer(), 0.1, 0.002)
        return _case(dice, "optimum", partial(nn.Linear, dim, classes), rows, (converged(),), pair)
    dim = dice.whole(8, 20)
    noise = dice.between(0.3, 1.0)
    rows = partial(data.linear_map, strengths=(2.0, 1.0), dim=dim, noise=noise, seed=dice.number)
    pair = dice.pair(dice.optimizer(), 0.05, 0.002)
    return _case(dice, "optimum", partial(nn.Linear, dim, dim), rows, (converged(),), pair)


def narrow_optimum(dice: Draw) -> Case:
    """Of a small net."""
    if dice.whole(0, 1):
        dim, outputs, rows = _answers(dice, dice.between(0.1, 0.6))
    else:
        dim, outputs = dice.whole(6, 10), dice.whole(3, 5)
        rows = partial(
            data.mixture, classes=outputs, dim=dim, distance=dice.between(1.5, 2.5), seed=dice.number
        )
    net = partial(MLP, (dim, dice.whole(3, 6), outputs), dice.activation())
    pair = dice.pair(dice.optimizer(), 0.02, 0.001)
    return _case(dice, "optimum", net, rows, (converged(3000),), pair)


def plateau(dice: Draw) -> Case:
    """Units that no example reaches any more."""
    activation, shift = dice.dice.choice(((nn.ReLU, -35.0), (nn.Tanh, 60.0), (nn.Sigmoid, 60.0)))
    if dice.whole(0, 1):
        dim, outputs, rows = _answers(dice, dice.between(0.1, 0.6))
    else:
        dim, outputs = dice.whole(8, 14), dice.whole(3, 6)
        rows = partial(
            data.mixture, classes=outputs, dim=dim, distance=dice.between(1.5, 3.0), seed=dice.number
        )
    net = partial(MLP, (dim, dice.whole(10, 20), outputs), activation)
    pair = dice.pair(dice.optimizer(), 0.1, 0.002)
    return _case(dice, "plateau", net, rows, (saturated(shift), descended(500, 0.05)), pair)


def autoencoder(dice: Draw) -> Case:
    """Late."""
    dim = dice.whole(14, 26)
    spreads = dice.between(1.5, 2.5), dice.between(1.0, 1.4)
    rows = partial(data.spiked, spreads=spreads, dim=dim, seed=dice.number)
    activation = dice.dice.choice((nn.Identity, nn.Tanh))
    net = partial(TiedAutoencoder, dim, dice.whole(4, 8), activation)
    pair = dice.pair(dice.optimizer(), 0.06, 0.002)
    return _case(dice, "autoencoder", net, rows, (trained(int(dice.between(500, 4000))),), pair)


def deep_linear(dice: Draw) -> Case:
    """After all its modes."""
    dim = dice.whole(8, 14)
    noise = dice.between(0.2, 0.6)
    rows = partial(data.linear_map, strengths=(3.0, 2.0), dim=dim, noise=noise, seed=dice.number)
    net = partial(MLP, (dim, dice.whole(6, 12), dim), nn.Identity, bias=False)
    pair = dice.pair(dice.optimizer(), 0.05, 0.003)
    return _case(dice, "matrix factorisation", net, rows, (trained(int(dice.between(500, 4000))),), pair)


KINDS = (
    classifier,
    noisy_classifier,
    regression,
    noisy_regression,
    conv_net,
    transformer,
    recall,
    lstm,
    parity,
    convex_optimum,
    narrow_optimum,
    plateau,
    autoencoder,
    deep_linear,
)
