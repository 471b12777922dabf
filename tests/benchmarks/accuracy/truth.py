"""Brute force: steps to the target at 8 batch sizes and 7 or more learning rates, with 3 seeds each.

The three best learning rates of each batch size are run with four more seeds, so that the best of them is
not the luckiest.

A training loop of its own, which shares nothing with the tool's: `python -m tests.benchmarks.accuracy.truth`
runs the cases that are not in the stored results yet (NAME ... for some of them).

Examples are drawn in shuffled epochs. AdamW's beta_2 forgets after the same number of examples at every
batch size. Steps to target: the loss over the first 2,048 images or 512 texts, measured at steps a factor 1.05 apart,
made monotone by isotonic regression, and read off at the target between two of these, once the mean over the last
steps is below it. Results without a `window` are older: they count the first dip of a single look.

The target is the loss that the run's own pair reaches at the horizon. Where its batch size gets there in less
than half of the steps with the best learning rate, that one sets the target anew, as a trial does that is
given none: a loss a few steps away says nothing about training.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor

from tests.benchmarks.accuracy.cases import Case, available, case_named, checkpoint, loss_of

RESULTS = Path(__file__).parents[1] / "results" / "accuracy-truth.json"

DOUBLINGS = range(-3, 5)
"""Of the batch size in use: 8 batch sizes."""
RATIO = 1.5
RATES = 7
SEEDS = (100, 101, 102)
MORE_SEEDS = (103, 104, 105, 106)
SPACING = 1.05
EVALUATED = {False: 2048, True: 512}
"""Images, sequences of characters."""
CAP = 2.0
"""A run is given up at so many times the steps of the best learning rate so far."""
MOST_TARGETS = 4
BEYOND = 1.1
"""The target is the mean loss over the steps that are within this factor of the horizon."""
WINDOW = 0.3
"""A run goes on until the mean loss over the last ones of its steps, so large a share, is below the target. Where
the loss wavers, the first dip below it comes at two thirds of the steps at which the mean over many runs is there."""


@dataclass(kw_only=True)
class Bench:
    """A case, ready to be run from its checkpoint again and again."""

    case: Case
    inputs: Tensor
    targets: Tensor
    saved: dict[str, Any]
    judged: tuple[Tensor, Tensor] | None = None
    """Examples on which the loss is measured; None: the first of the case."""
    examples: int = field(default=0)

    def steps_to(self, goal: float, batch_size: int, rate: float, seed: int, cap: float) -> float:
        """Steps until the loss is down at `goal`; infinite where it is not after `cap` steps."""
        seen: list[tuple[int, float]] = []
        for step, loss in self.losses(batch_size, rate, seed, int(cap)):
            if not math.isfinite(loss) or loss > 30:
                return math.inf
            seen.append((step, math.log(loss)))
            recent = [log for s, log in seen if s > step * (1 - WINDOW)]
            if recent and np.mean(recent) < math.log(goal) and len(seen) > 2:
                return crossing(seen, math.log(goal))
        return math.inf

    def losses(self, batch_size: int, rate: float, seed: int, cap: int) -> Iterator[tuple[int, float]]:
        """(step, loss) along one run."""
        model = self.case.model()
        model.load_state_dict(self.saved["model"])
        optimizer = self.case.make_optimizer(model.parameters())
        optimizer.load_state_dict(deepcopy(self.saved["optimizer"]))  # it would share its tensors
        for group in optimizer.param_groups:
            group["lr"] = rate
            if "betas" in group:
                beta_1, beta_2 = group["betas"]
                group["betas"] = beta_1, beta_2 ** (batch_size / self.case.batch_size)
        batches = self._batches(batch_size, seed)
        yield 0, self._loss(model)
        next_look = 1.0
        for step in range(1, cap + 1):
            picks = next(batches)
            optimizer.zero_grad()
            loss_of(model, (self.inputs[picks], self.targets[picks])).backward()
            optimizer.step()
            self.examples += batch_size
            if step >= next_look or step == cap:
                next_look = max(step + 1, step * SPACING)
                yield step, self._loss(model)

    def _batches(self, batch_size: int, seed: int) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        waiting = torch.empty(0, dtype=torch.long)
        while True:
            while len(waiting) < batch_size:
                waiting = torch.cat([waiting, torch.randperm(len(self.inputs), generator=generator)])
            yield waiting[:batch_size]
            waiting = waiting[batch_size:]

    @torch.no_grad()
    def _loss(self, model: torch.nn.Module) -> float:
        some = slice(EVALUATED[self.targets.ndim > 1])
        return float(loss_of(model, self.judged or (self.inputs[some], self.targets[some])))


def crossing(seen: list[tuple[int, float]], goal: float) -> float:
    """Where the monotone fit through (step, log loss) passes the goal, in steps."""
    steps = np.array([step for step, _ in seen], dtype=float)
    fit = isotonic_regression([log for _, log in seen], increasing=False).x
    below = int(np.argmax(fit <= goal))
    if below == 0:
        return math.inf if fit[0] > goal else 0.0
    share = (fit[below - 1] - goal) / (fit[below - 1] - fit[below])
    return float(steps[below - 1] + share * (steps[below] - steps[below - 1]))


def brute_force(name: str) -> dict[str, Any]:
    """Everything there is to know of one case."""
    torch.set_num_threads(1)
    began, case = time.perf_counter(), case_named(name)
    inputs, targets = case.data()
    bench = Bench(case=case, inputs=inputs, targets=targets, saved=checkpoint(case))
    start = next(bench.losses(case.batch_size, case.learning_rate, 0, 1))[1]
    pace_setter, goal, home = _home(bench)
    grid = {case.batch_size: home}
    best, own = _best(home)
    for doubling in sorted(DOUBLINGS, key=lambda d: (d < 0, abs(d))):
        batch_size = max(1, int(case.batch_size * 2**doubling))
        if doubling == -1:
            best, own = _best(grid[case.batch_size])
        if doubling:
            centre = best * (2**0.5 if doubling > 0 else 2**-0.5)
            guess = own * (1.0 if doubling > 0 else 2.2)
            grid[batch_size] = _line(bench, goal, batch_size, centre, guess)
        spent = bench.examples
        _run_best_again(bench, goal, batch_size, grid[batch_size])
        bench.examples = spent
        best, own = _best(grid[batch_size])
        print(f"{name}: B = {batch_size}: {own:.0f} steps at {best:.2g}", flush=True)
    return {
        "name": name,
        "window": WINDOW,
        "target_loss": goal,
        "pace_setter": pace_setter,
        "examples": bench.examples,
        "start_loss": start,
        "seconds": time.perf_counter() - began,
        "grid": [
            {
                "batch_size": size,
                "learning_rate": rate,
                "steps": [None if math.isinf(s) else s for s in steps],
            }
            for size, line in sorted(grid.items())
            for rate, steps in sorted(line.items())
        ],
    }


def _home(bench: Bench) -> tuple[float, float, dict[float, list[float]]]:
    """Who sets the target, the target, and steps to it with the batch size in use."""
    case = bench.case
    pace_setter = case.learning_rate
    for _ in range(MOST_TARGETS):
        goal = target_of(bench, pace_setter)
        line = _line(bench, goal, case.batch_size, pace_setter, 1.5 * case.horizon)
        best, steps = _best(line)
        if steps >= case.horizon / 2:
            break
        pace_setter = best
    return pace_setter, goal, line


def target_of(bench: Bench, rate: float) -> float:
    """Loss that the batch size in use reaches at the horizon with a learning rate, over the seeds."""
    case = bench.case
    logs = []
    for seed in SEEDS:
        run = bench.losses(case.batch_size, rate, seed, int(case.horizon * BEYOND))
        logs += [math.log(loss) for step, loss in run if step >= case.horizon / BEYOND]
    bench.examples = 0
    return math.exp(np.mean(logs))


def _line(
    bench: Bench, goal: float, batch_size: int, centre: float, guess: float
) -> dict[float, list[float]]:
    """At least `RATES` learning rates, moved until the best is inside."""
    line: dict[float, list[float]] = {}
    places = [0]
    while True:
        for place in sorted(set(places) - {_place(rate, centre) for rate in line}, key=abs):
            rate = centre * RATIO**place
            cap = CAP * min([guess * 2, *(_mean(steps) for steps in line.values())])
            line[rate] = [bench.steps_to(goal, batch_size, rate, seed, cap) for seed in SEEDS]
        best = _place(_best(line)[0], centre)
        if all(math.isinf(_mean(steps)) for steps in line.values()):
            guess *= 2
            places = list(range(-RATES, RATES + 1))
            if guess > 1e5:
                raise RuntimeError(f"{bench.case.name}: the target is out of reach at B = {batch_size}")
            line.clear()
            continue
        reach = RATES // 2
        wanted = list(range(best - reach, best + reach + 1))
        if set(wanted) <= {_place(rate, centre) for rate in line}:
            return line
        places = wanted


def _run_best_again(bench: Bench, goal: float, batch_size: int, line: dict[float, list[float]]) -> None:
    """The three best rates with more seeds; the others cannot be the best any more."""
    finalists = sorted(line, key=lambda rate: _mean(line[rate]))[:3]
    for rate in finalists:
        if math.isfinite(_mean(line[rate])):
            cap = 2 * CAP * _mean(line[rate])
            line[rate] += [bench.steps_to(goal, batch_size, rate, seed, cap) for seed in MORE_SEEDS]


def _place(rate: float, centre: float) -> int:
    return round(math.log(rate / centre) / math.log(RATIO))


def _mean(steps: list[float]) -> float:
    """Geometric; infinite where one run has not arrived."""
    return float(np.exp(np.mean(np.log(np.maximum(steps, 0.1)))))


def _best(line: dict[float, list[float]]) -> tuple[float, float]:
    """Learning rate and steps."""
    most = max(len(steps) for steps in line.values())
    finalists = ((rate, _mean(steps)) for rate, steps in line.items() if len(steps) == most)
    return min(finalists, key=lambda pair: pair[1])


def main(names: list[str]) -> None:
    stored = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    wanted = names or [case.name for case in available() if case.name not in {s["name"] for s in stored}]
    with ProcessPoolExecutor(1) as pool:
        for found in pool.map(brute_force, wanted):
            stored = [*(s for s in stored if s["name"] != found["name"]), found]
            RESULTS.write_text(json.dumps({"torch": torch.__version__, "rows": stored}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
