"""A case for every number: what is drawn for it is drawn from its kind's ranges, and nothing is chosen by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from torch import nn

from tests.benchmarks.saddles.data import Source
from tests.benchmarks.saddles.problem import Case, Pair, Split, Step

SMOOTH = (nn.Tanh, nn.GELU, nn.SiLU, nn.Mish, nn.ELU, nn.Softsign)
ANY = (*SMOOTH, nn.ReLU, nn.LeakyReLU)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The dice of one number."""

    number: int
    split: Split
    dice: Random

    def whole(self, low: int, high: int) -> int:
        """Uniform, both ends included."""
        return self.dice.randint(low, high)

    def between(self, low: float, high: float) -> float:
        """Log-uniform, to two digits."""
        return float(f"{low * (high / low) ** self.dice.random():.1e}")

    def activation(self, *, smooth: bool = True) -> type[nn.Module]:
        """Of a hidden layer."""
        return self.dice.choice(SMOOTH if smooth else ANY)

    def optimizer(self) -> Literal["plain", "momentum", "AdamW"]:
        """Half of them plain, the others shared out."""
        return self.dice.choice(("plain", "plain", "momentum", "AdamW"))

    def pair(self, kind: str, rate: float, adaptive: float, *, decay: bool = False) -> Pair:
        """A pair near the rates given: of plain descent, whose rate momentum divides by ten, and of AdamW."""
        near = self.between(0.7, 1.4)
        batch = self.dice.choice((16, 24, 32, 48, 64, 96))
        weight_decay = self.dice.choice((0.0, 0.0, 0.001)) if decay else 0.0
        if kind == "AdamW":
            return Pair(batch_size=batch, learning_rate=adaptive * near, optimizer="AdamW")
        momentum = 0.9 if kind == "momentum" else 0.0
        return Pair(
            batch_size=batch,
            learning_rate=rate * near * (1 - momentum),
            momentum=momentum,
            weight_decay=weight_decay,
        )

    def case(
        self,
        intent: Literal["saddle", "ordinary"],
        family: str,
        net: Callable[[], nn.Module],
        rows: Source,
        recipe: tuple[Step, ...],
        pair: Pair,
        horizon: int,
    ) -> Case:
        """The case of this number."""
        return Case(
            name=f"{intent} {self.number}: {family}",
            family=family,
            intent=intent,
            split=self.split,
            seed=self.number,
            net=net,
            rows=rows,
            recipe=recipe,
            pair=pair,
            horizon=horizon,
        )


def draw(number: int, split: Split) -> Draw:
    """The same for the same number, always."""
    return Draw(number=number, split=split, dice=Random(number))
