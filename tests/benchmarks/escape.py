"""Steps to leave a saddle: the predicted median against 1,000 simulated runs.

    python -m tests.benchmarks.escape [--write]

The loss along the direction is g x - a x^2 / 2 (+ c x^4 / 4), one example's gradient has variance s^2,
and a run that starts at 0 has escaped once it is `DISTANCE` away from g / a. On the quartic saddle that
is half of the way to the minimum at sqrt(a / c). The batch sizes are those at which `DISTANCE` is so
many times sqrt(D), the spread that noise alone causes: `REACHES`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from bsadvisor.theory.escape import Pair, Saddle, escape_steps, noise_seed
from bsadvisor.theory.noise_scale import Array
from bsadvisor.theory.stability import Scheme

RESULTS = Path(__file__).parent / "results" / "escape.json"

CHAINS = 1000
DESCENT, NOISE, DISTANCE = 0.5, 1.0, 1.0
MINIMUM = {"quadratic": math.inf, "quartic": 2 * DISTANCE}
OFFSETS, RATES, REACHES = (0.0, 0.02, 0.1, 0.3), (0.02, 0.3), (2.0, 3.0, 10.0, 100.0)
RULES: tuple[tuple[Scheme, float], ...] = (
    ("gradient_descent", 0.0),
    ("heavy_ball", 0.5),
    ("heavy_ball", 0.9),
    ("nesterov", 0.5),
    ("nesterov", 0.9),
    ("ema", 0.5),
    ("ema", 0.9),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One rule on one kind of saddle, at two learning rates with four slopes each."""

    saddle: str
    scheme: str
    momentum: float
    reach: float
    batch_sizes: list[float]
    measured: list[float]
    predicted: list[float]

    @property
    def errors(self) -> Array:
        """Relative; 0 within one step, the resolution of a median of whole numbers."""
        measured, predicted = np.array(self.measured), np.array(self.predicted)
        return np.where(np.abs(predicted - measured) <= 1, 0.0, predicted / measured - 1)


def median_passage(saddle: Saddle, pair: Pair, *, cubic: float, seed: int) -> float:
    """Step by which half of the simulated runs have been `DISTANCE` away from g / a."""
    rng, center = np.random.default_rng(seed), saddle.slope / saddle.descent
    beta = 0.0 if pair.scheme == "gradient_descent" else pair.momentum
    weight = 1 - beta if pair.scheme == "ema" else 1.0
    noise = math.sqrt(saddle.noise / pair.batch_size)
    x, buffer, escaped, steps = np.zeros(CHAINS), np.zeros(CHAINS), np.zeros(CHAINS, dtype=bool), 0
    while 2 * escaped.sum() < CHAINS:
        gradient = saddle.slope - saddle.descent * x + cubic * x**3 + noise * rng.normal(size=CHAINS)
        buffer = beta * buffer + weight * gradient
        x = x - pair.learning_rate * (gradient + beta * buffer if pair.scheme == "nesterov" else buffer)
        escaped |= np.abs(x - center) >= DISTANCE
        steps += 1
    return float(steps)


def settings(scheme: Scheme, momentum: float, reach: float) -> list[tuple[Saddle, Pair]]:
    """Learning rates and slopes, each with the batch size that gives this reach."""
    found = []
    for rate, offset in itertools.product(RATES, OFFSETS):
        saddle = Saddle(slope=offset * DESCENT, descent=DESCENT, noise=NOISE)
        one = Pair(batch_size=1, learning_rate=rate, momentum=momentum, scheme=scheme)
        batch_size = noise_seed(saddle, one) * (reach / DISTANCE) ** 2
        found.append(
            (saddle, Pair(batch_size=batch_size, learning_rate=rate, momentum=momentum, scheme=scheme))
        )
    return found


def judge(kind: str, scheme: Scheme, momentum: float, reach: float) -> Row:
    """Simulated and predicted medians of one rule."""
    pairs = settings(scheme, momentum, reach)
    cubic = DESCENT / MINIMUM[kind] ** 2
    return Row(
        saddle=kind,
        scheme=scheme,
        momentum=momentum,
        reach=reach,
        batch_sizes=[round(pair.batch_size, 2) for _, pair in pairs],
        measured=[median_passage(*pair, cubic=cubic, seed=seed) for seed, pair in enumerate(pairs)],
        predicted=[escape_steps(*pair, DISTANCE, minimum=MINIMUM[kind]) for pair in pairs],
    )


def main() -> None:
    """Print a line per rule, kind of saddle and reach."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="store the rows beside this file")
    arguments = parser.parse_args()
    rows = [judge(kind, *rule, reach) for kind in MINIMUM for rule in RULES for reach in REACHES]
    print("saddle     scheme            momentum  reach  median |error|  worst error  within 15 %")
    for row in rows:
        size = np.abs(row.errors)
        print(
            f"{row.saddle:10} {row.scheme:17} {row.momentum:8} {row.reach:6.0f} {np.median(size):15.3f}"
            f" {row.errors[size.argmax()]:12.3f} {(size <= 0.15).mean():12.2f}"
        )
    if arguments.write:
        stored = {
            "torch": torch.__version__,
            "numpy": np.__version__,
            "device": f"cpu, {platform.machine()}",
            "chains": CHAINS,
            "rows": [asdict(row) for row in rows],
        }
        RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
