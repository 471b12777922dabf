"""What the heats of a trial say of each batch size: its best learning rate and the steps that takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean

from bsadvisor.theory.rate_curve import USUAL_CURVATURE, RateCurve, fit_rate_curve
from bsadvisor.values import BranchResult, HeatResult

AS_GOOD = 1.03
"""Steps of a rate over those of the best: nothing is gained by another one."""


NEAR = math.log(1.9)
"""Distance of log learning rates over which the curve is trusted."""

EQUAL = 1.08
"""Ratio of the steps of two rates, below which the best lies between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeds:
    """Orders of the data: learning rates are compared on one, and the chosen one is timed on others."""

    search: int
    timing: tuple[int, ...]

    @classmethod
    def after(cls, seed: int) -> Seeds:
        """Different ones for every seed of a trial."""
        first = 10 * seed
        return cls(search=first, timing=tuple(range(first + 1, first + 10)))


@dataclass(kw_only=True)
class Line:
    """All runs at one batch size, to one target."""

    batch_size: int
    runs: tuple[BranchResult, ...]
    seeds: Seeds
    usual_curvature: float = USUAL_CURVATURE

    @cached_property
    def searched(self) -> dict[float, list[BranchResult]]:
        """By learning rate, in ascending order, the runs that rates are compared by."""
        return self._by_rate((self.seeds.search,))

    @cached_property
    def timed(self) -> dict[float, list[BranchResult]]:
        """The runs that steps are counted in."""
        return self._by_rate(self.seeds.timing)

    @cached_property
    def steps(self) -> list[float]:
        """Of each searched rate; infinite where it never got there."""
        return [steps_of(runs) for runs in self.searched.values()]

    @property
    def rates_tried(self) -> int:
        """Searched or timed."""
        return len({run.learning_rate for run in self.runs})

    @property
    def rates(self) -> list[float]:
        return list(self.searched)

    @property
    def has_arrived(self) -> bool:
        """Whether any rate brought every run to the target."""
        return any(math.isfinite(steps) for steps in self.steps)

    @property
    def best(self) -> int:
        """Place of the best searched rate; of that with the lowest loss where none arrived."""
        if self.has_arrived:
            return min(range(len(self.rates)), key=lambda place: self.steps[place])
        losses = [_final_loss(runs) for runs in self.searched.values()]
        return min(range(len(losses)), key=lambda place: losses[place])

    def steps_near(self, rate: float) -> float:
        """Of the searched rate next to it, where that got there; else none."""
        near = min(self.rates, key=lambda other: abs(math.log(other / rate)), default=None)
        steps = math.inf if near is None else self.steps[self.rates.index(near)]
        return steps if math.isfinite(steps) else 0.0

    @property
    def given_up(self) -> bool:
        """Whether a rate was given up in favour of a higher one, which then never got to the target either."""
        below = list(self.searched.values())[: self.best]
        return not self.has_arrived and any(run.outcome == "slower" for runs in below for run in runs)

    @cached_property
    def curve(self) -> RateCurve:
        """Steps by learning rate around the best; only where a rate has arrived."""
        return fit_rate_curve(self.rates, self.steps, self.usual_curvature)

    @property
    def edge(self) -> int:
        """-1 or 1 where a better rate may lie below or above all that were tried; else 0."""
        if len(self.rates) < 2:
            return 0
        ends = {0: -1, len(self.rates) - 1: 1}
        side = ends.get(self.best, 0)
        if not self.has_arrived or len(self.rates) > 2:
            return side
        return side if max(self.steps) > EQUAL * min(self.steps) else 0

    @cached_property
    def timed_steps(self) -> dict[float, float]:
        """Of each timed rate, on the seeds that all of them were run with; infinite where one never got there."""
        seeds = [{run.seed for run in runs} for runs in self.timed.values()]
        common = set.intersection(*seeds) if seeds else set()
        return {
            rate: steps_of([run for run in runs if run.seed in common or run.steps is None])
            for rate, runs in self.timed.items()
        }

    @property
    def chosen(self) -> float | None:
        """The timed rate with the fewest steps, or at the brink a lower one that is hardly slower; None where none
        has been timed to the end."""
        fewest = min(self.timed_steps.values(), default=math.inf)
        if math.isinf(fewest):
            return None
        enough = fewest * (EQUAL if self.at_brink else 1.0)
        return min(rate for rate, steps in self.timed_steps.items() if steps <= enough)

    @property
    def at_brink(self) -> bool:
        """Whether the next rate above the best one that was searched blew up: on other data that one may, too."""
        if not self.has_arrived:
            return False
        above = list(self.searched.values())[self.best + 1 : self.best + 2]
        return any(run.outcome == "diverged" for runs in above for run in runs)

    @property
    def log_steps(self) -> list[float]:
        """With the chosen rate, one for each seed: runs with rates close to it are read along the curve."""
        if self.chosen is None:
            return []
        by_seed: dict[int, list[float]] = {}
        for run in self.runs:
            near = abs(math.log(run.learning_rate / self.chosen)) < NEAR and run.outcome == "reached"
            if run.steps is not None and (near or run.learning_rate == self.chosen):
                by_seed.setdefault(run.seed, []).append(math.log(_least(run)) - self._detour(run))
        return [mean(logs) for logs in by_seed.values()]

    def _detour(self, run: BranchResult) -> float:
        """Log steps that the curve expects with the run's rate beyond those with the chosen one."""
        if not self.searched or not self.has_arrived or self.chosen is None:
            return 0.0
        return math.log(self.curve.excess(run.learning_rate) / self.curve.excess(self.chosen))

    @property
    def examples(self) -> float:
        """That one run to the target takes."""
        return math.exp(mean(self.log_steps)) * self.batch_size

    @property
    def candidate(self) -> float:
        """The rate to time: one that was tried where that is as good, else the best of the curve."""
        tried = self.rates[self.best]
        return tried if self.curve.excess(tried) <= AS_GOOD else self.curve.best_rate

    def _by_rate(self, seeds: Sequence[int]) -> dict[float, list[BranchResult]]:
        found: dict[float, list[BranchResult]] = {}
        for run in sorted(self.runs, key=lambda run: run.learning_rate):
            if run.seed in seeds:
                found.setdefault(run.learning_rate, []).append(run)
        return found


def lines_of(results: Iterable[HeatResult], seeds: Seeds) -> dict[int, Line]:
    """By batch size, in the order in which they were first run."""
    runs: dict[int, list[BranchResult]] = {}
    for result in results:
        runs.setdefault(result.heat.batch_size, []).extend(result.branches)
    lines: dict[int, Line] = {}
    curvature = USUAL_CURVATURE
    for batch_size, found in runs.items():
        line = Line(batch_size=batch_size, runs=tuple(found), seeds=seeds, usual_curvature=curvature)
        lines[batch_size] = line
        if len(lines) == 1 and line.has_arrived:
            curvature = line.curve.curvature
    return lines


def timed_lines(lines: dict[int, Line]) -> dict[int, Line]:
    """Those with a learning rate that was timed to the target."""
    return {size: line for size, line in lines.items() if line.chosen is not None}


def steps_of(runs: Sequence[BranchResult]) -> float:
    """Geometric mean; infinite where one run did not get there."""
    if any(run.steps is None for run in runs):
        return math.inf
    return math.exp(mean(math.log(max(run.steps or 0.0, 0.1)) for run in runs))


def _least(run: BranchResult) -> float:
    return max(run.steps or 0.0, 0.1)


def _final_loss(runs: Sequence[BranchResult]) -> float:
    if any(run.outcome == "diverged" or run.final_log_loss is None for run in runs):
        return math.inf
    return mean(run.final_log_loss or 0.0 for run in runs)
