"""Candidate saddles drawn by number; whether each is one is measured (truth.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from tests.benchmarks.saddles import data
from tests.benchmarks.saddles.data import Source
from tests.benchmarks.saddles.draws import Draw, draw
from tests.benchmarks.saddles.models import (
    MLP,
    Answerer,
    ConvNet,
    Recaller,
    SequenceLSTM,
    TiedAutoencoder,
)
from tests.benchmarks.saddles.problem import Case, Pair, Split, Step
from tests.benchmarks.saddles.recipes import (
    asleep,
    converged,
    descended,
    planted,
    shrunk,
    split,
    tied,
    trained,
)
from tests.benchmarks.tasks import CharTransformer


def saddle(number: int, into: Split) -> Case:
    """The candidate of this number: kinds take turns."""
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
    horizon: int = 10_000,
) -> Case:
    if pair.optimizer == "AdamW":  # whose state an AdamW checkpoint has
        recipe = (*recipe, trained(dice.whole(10, 25)))
    return dice.case("saddle", family, net, rows, recipe, pair, horizon)


def near_zero(dice: Draw) -> Case:
    """A classifier of two or three layers."""
    deep = dice.whole(0, 1)
    dim, classes = dice.whole(10, 30), dice.whole(4, 9)
    if dice.whole(0, 1):
        dim, classes = 64, 10
        rows: Source = partial(data.noisy_digits, noise=0.1, seed=dice.number)
    else:
        distance = dice.between(2.5, 4.5)
        rows = partial(data.mixture, classes=classes, dim=dim, distance=distance, seed=dice.number)
    hidden = [dice.whole(10, 30) for _ in range(1 + deep)]
    pair = dice.pair(dice.optimizer(), 0.1, 2e-4, decay=True)
    factor = dice.between(0.05, 0.2) if deep else dice.between(0.003, 0.05)
    net = partial(MLP, (dim, *hidden, classes), dice.activation())
    return _case(dice, "near zero", net, rows, (shrunk(factor),), pair)


def near_zero_teacher(dice: Draw) -> Case:
    """A regression of three or four layers."""
    dim, outputs = dice.whole(8, 16), dice.whole(2, 5)
    hidden = [dice.whole(10, 20) for _ in range(dice.whole(2, 3))]
    rows = partial(
        data.teacher, dim=dim, hidden=dice.whole(3, 7), noise=0.1, seed=dice.number, outputs=outputs
    )
    net = partial(MLP, (dim, *hidden, outputs), dice.activation())
    pair = dice.pair(dice.optimizer(), 0.1, 3e-4)
    return _case(dice, "near zero", net, rows, (shrunk(dice.between(0.1, 0.4)),), pair)


def factorisation(dice: Draw) -> Case:
    """A deep linear net, near zero or before its second mode."""
    dim = dice.whole(10, 18)
    first, second = dice.between(3.0, 6.0), dice.between(1.5, 2.5)
    rows = partial(
        data.linear_map, strengths=(first, second), dim=dim, noise=dice.between(0.05, 0.3), seed=dice.number
    )
    if dice.whole(0, 1):
        sizes = (dim, *(dice.whole(6, 12) for _ in range(2)), dim)
        recipe: tuple[Step, ...] = (shrunk(dice.between(0.2, 0.3)),)
    else:
        sizes = (dim, dice.whole(6, 10), dim)
        recipe = (shrunk(0.001), descended(4000, 0.02, until=(first**2 / 4 + second**2) / dim))
    pair = dice.pair(dice.optimizer(), 0.05, 2e-4)
    return _case(
        dice, "matrix factorisation", partial(MLP, sizes, nn.Identity, bias=False), rows, recipe, pair
    )


def autoencoder(dice: Draw) -> Case:
    """Of spiked data, near zero."""
    dim, hidden = dice.whole(16, 32), dice.whole(3, 9)
    spreads = dice.between(1.8, 2.6), dice.between(1.2, 1.7)
    rows = partial(data.spiked, spreads=spreads, dim=dim, seed=dice.number)
    activation = dice.dice.choice((nn.Identity, nn.Tanh, nn.Softsign))
    net = partial(TiedAutoencoder, dim, hidden, activation)
    pair = dice.pair(dice.optimizer(), 0.06, 2e-4)
    return _case(dice, "autoencoder", net, rows, (shrunk(dice.between(0.002, 0.02)),), pair)


def duplicated(dice: Draw) -> Case:
    """A converged net whose units are split in two or three."""
    dim = dice.whole(6, 12)
    if dice.whole(0, 1):
        outputs = dice.whole(1, 3)
        rows: Source = partial(
            data.teacher, dim=dim, hidden=dice.whole(4, 7), noise=0.05, seed=dice.number, outputs=outputs
        )
    else:
        outputs = dice.whole(4, 6)
        distance = dice.between(2.5, 3.5)
        rows = partial(data.mixture, classes=outputs, dim=dim, distance=distance, seed=dice.number)
    net = partial(MLP, (dim, dice.whole(2, 3), outputs), dice.activation())
    recipe = (converged(1000), split(dice.whole(2, 3), jitter=dice.dice.choice((0.0, 1e-3))))
    pair = dice.pair(dice.optimizer(), 0.03, 8e-4)
    return _case(dice, "duplicated units", net, rows, recipe, pair)


def equal(dice: Draw) -> Case:
    """All units of a layer with the same weights, but for a little noise."""
    dim, hidden = dice.whole(8, 18), dice.whole(8, 18)
    if dice.whole(0, 1):
        outputs = dice.whole(2, 4)
        rows: Source = partial(
            data.teacher, dim=dim, hidden=dice.whole(4, 6), noise=0.08, seed=dice.number, outputs=outputs
        )
    else:
        outputs = dice.whole(4, 7)
        rows = partial(data.mixture, classes=outputs, dim=dim, distance=3.0, seed=dice.number)
    net = partial(MLP, (dim, hidden, outputs), dice.activation())
    recipe = (tied(0.0), descended(600, 0.02), tied(1e-3))
    pair = dice.pair(dice.optimizer(), 0.03, 2e-4)
    return _case(dice, "equal units", net, rows, recipe, pair)


def parity(dice: Draw) -> Case:
    """Of two or three signs."""
    dim, order = dice.whole(5, 10), dice.dice.choice((2, 2, 3))
    regress = bool(dice.whole(0, 1))
    rows = partial(data.parity, dim=dim, order=order, seed=dice.number, regress=regress)
    net = partial(MLP, (dim, dice.whole(16, 28), 1 if regress else 2), dice.activation(smooth=False))
    pair = dice.pair(dice.optimizer(), 0.1 if regress else 0.2, 4e-4)
    return _case(dice, "parity", net, rows, (shrunk(dice.between(0.15, 0.5)),), pair)


def recall(dice: Draw) -> Case:
    """Attention that has not found out yet where to look."""
    keys, pairs = dice.whole(5, 8), dice.whole(2, 4)
    rows = partial(data.recall, keys=keys, pairs=pairs, seed=dice.number)
    pair = dice.pair(dice.optimizer(), 0.3, 4e-4)
    factor = dice.between(0.05, 0.3)
    return _case(
        dice, "attention", partial(Recaller, keys, 4 * dice.whole(3, 5)), rows, (shrunk(factor),), pair
    )


def transformer(dice: Draw) -> Case:
    """A small one with query and key asleep, or near zero."""
    if dice.whole(0, 1):
        keys, pairs = dice.whole(5, 6), dice.whole(2, 3)
        rows: Source = partial(data.recall, keys=keys, pairs=pairs, seed=dice.number, rows=2500)
        net: Callable[[], nn.Module] = partial(Answerer, keys**2 + keys, 16, 1, pairs + 1)
        pair = dice.pair(dice.dice.choice(("plain", "AdamW")), 0.006, 3e-4)
        return _case(dice, "transformer", net, rows, (asleep("in_proj", 100, 1e-2),), pair, horizon=4000)
    vocabulary, length = dice.whole(9, 16), dice.whole(6, 9)
    rows = partial(data.markov, vocabulary=vocabulary, length=length, seed=dice.number, sharpness=2.5)
    net = partial(CharTransformer, vocabulary, 16, 1, length)
    pair = dice.pair(dice.dice.choice(("plain", "AdamW")), 0.02, 1e-4)
    recipe = (shrunk(dice.between(0.01, 0.05), biases=1.0), descended(30, 0.02))
    return _case(dice, "transformer", net, rows, recipe, pair, horizon=3000)


def conv_net(dice: Draw) -> Case:
    """Near zero."""
    rows = partial(data.noisy_digits, noise=0.1, seed=dice.number)
    pair = dice.pair(dice.dice.choice(("plain", "momentum", "AdamW")), 0.3, 3e-4)
    net = partial(ConvNet, dice.whole(3, 6), activation=dice.activation())
    return _case(dice, "conv net", net, rows, (shrunk(dice.between(0.1, 0.3)),), pair, horizon=3000)


def lstm(dice: Draw) -> Case:
    """Near zero, after what its head can learn alone."""
    vocabulary = dice.whole(6, 11)
    rows = partial(
        data.markov, vocabulary=vocabulary, length=dice.whole(5, 8), seed=dice.number, sharpness=2.5
    )
    net = partial(SequenceLSTM, vocabulary, dice.whole(10, 16), vocabulary)
    pair = dice.pair(dice.dice.choice(("plain", "momentum")), 0.8, 1e-3)
    recipe = (shrunk(dice.between(0.05, 0.3)), descended(60, 0.05))
    return _case(dice, "LSTM", net, rows, recipe, pair, horizon=3000)


def planted_saddle(dice: Draw) -> Case:
    """Beside a net that has converged."""
    dim, outputs = dice.whole(6, 12), dice.whole(2, 4)
    if dice.whole(0, 1):
        rows: Source = partial(data.teacher, dim=dim, hidden=4, noise=0.5, seed=dice.number, outputs=outputs)
    else:
        rows = partial(data.mixture, classes=outputs, dim=dim, distance=2.0, seed=dice.number)
    net = partial(MLP, (dim, dice.whole(4, 8), outputs), dice.activation())
    recipe = (converged(), planted(dice.between(0.3, 0.6), dice.between(0.05, 0.6)))
    pair = dice.pair(dice.optimizer(), 0.007, 6e-4)
    return _case(dice, "planted", net, rows, recipe, pair)


KINDS = (
    near_zero,
    near_zero_teacher,
    factorisation,
    autoencoder,
    duplicated,
    equal,
    parity,
    recall,
    transformer,
    conv_net,
    lstm,
    planted_saddle,
)
