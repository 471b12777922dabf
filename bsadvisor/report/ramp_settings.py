"""A ramp as settings to paste: a plain PyTorch loop, Lightning, and Megatron's linear `rampup`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bsadvisor.report import numbers
from bsadvisor.values import RampStage, RampSummary

_SHARES = 40
"""Lengths of Megatron's ramp that are tried, as parts of the run."""

SAME_STEPS = 0.03
"""Relative difference of the numbers of steps that counts as none."""

_POINTS = 400
"""Of the run, at which two ramps are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Something to paste, under a title."""

    title: str
    lines: tuple[str, ...]


def settings(stages: Sequence[RampStage], summary: RampSummary) -> list[Settings]:
    """For everybody's training loop."""
    return [
        Settings(title="PyTorch", lines=tuple(_pytorch(stages, summary))),
        Settings(title="Lightning", lines=tuple(_lightning(stages))),
        Settings(title="Megatron", lines=tuple(_megatron(stages, summary))),
    ]


def _pytorch(stages: Sequence[RampStage], summary: RampSummary) -> list[str]:
    rows = ", ".join(f"({stage.from_step}, {stage.batch_size})" for stage in stages)
    lines = [
        f"STEPS, RAMP = {summary.steps}, [{rows}]",
        "",
        "",
        "class RampBatches:  # of every step, its examples",
        "    def __len__(self):",
        "        return STEPS",
        "",
        "    def __iter__(self):",
        "        rest = []",
        "        for step in range(STEPS):",
        "            size = [b for start, b in RAMP if start <= step][-1]",
        "            if len(rest) < size:",
        "                rest = torch.randperm(len(dataset)).tolist()",
        "            yield rest[:size]",
        "            rest = rest[size:]",
        "",
        "",
        "loader = DataLoader(dataset, batch_sampler=RampBatches())",
    ]
    return [*lines, "", *_rates(stages)] if _changes_rate(stages) else lines


def _rates(stages: Sequence[RampStage]) -> list[str]:
    """The learning rate's factors, as a schedule that is stepped with the optimizer."""
    rows = ", ".join(
        f"({stage.from_step}, {numbers.significant(stage.learning_rate_factor, 3)})" for stage in stages
    )
    return [
        f"FACTORS = [{rows}]",
        "schedule = torch.optim.lr_scheduler.LambdaLR(",
        "    optimizer, lambda step: [f for start, f in FACTORS if start <= step][-1]",
        ")  # schedule.step() after every optimizer.step()",
    ]


def _lightning(stages: Sequence[RampStage]) -> list[str]:
    lines = ["def train_dataloader(self):", "    return loader  # as above, with max_steps=STEPS"]
    if _changes_rate(stages):
        lines += [
            "",
            "def configure_optimizers(self):  # schedule as above",
            '    return [optimizer], [{"scheduler": schedule, "interval": "step"}]',
        ]
    return lines


def _changes_rate(stages: Sequence[RampStage]) -> bool:
    return any(stage.learning_rate_factor != 1 for stage in stages)


# --- Megatron -----------------------------------------------------------------------------------


def _megatron(stages: Sequence[RampStage], summary: RampSummary) -> list[str]:
    """It knows equal increments over equal numbers of samples, from the first one on: the nearest such ramp."""
    first, last = stages[0].batch_size, stages[-1].batch_size
    increment, samples = nearest_rampup(stages, summary.examples)
    return [
        f"--rampup-batch-size {first} {increment} {samples} --global-batch-size {last}",
        f"--train-samples {summary.examples}",
    ]


def nearest_rampup(stages: Sequence[RampStage], examples: int) -> tuple[int, int]:
    """Increment and samples of the linear ramp nearest to this one in ln B, of those with about as many steps."""
    first, last = stages[0].batch_size, stages[-1].batch_size
    rise = last - first
    at = [examples * (point + 0.5) / _POINTS for point in range(_POINTS)]
    wanted = [[s.batch_size for s in stages if s.from_example <= example][-1] for example in at]
    tried = {
        (increment, samples): [rampup(example, first, last, increment, samples) for example in at]
        for increment in range(first, rise + 1, first)
        if rise % increment == 0
        for samples in (round(examples * share / _SHARES) for share in range(1, _SHARES))
    }

    def excess_steps(ramp: tuple[int, int]) -> float:
        return abs(_steps(tried[ramp]) / _steps(wanted) - 1)

    def misfit(ramp: tuple[int, int]) -> float:
        return sum(math.log(size / want) ** 2 for size, want in zip(tried[ramp], wanted, strict=True))

    as_long = [ramp for ramp in tried if excess_steps(ramp) <= SAME_STEPS]
    return min(as_long, key=misfit) if as_long else min(tried, key=excess_steps)


def _steps(sizes: Sequence[int]) -> float:
    """In units of equal shares of the examples."""
    return sum(1 / size for size in sizes)


def rampup(example: float, first: int, last: int, increment: int, samples: int) -> int:
    """Megatron's batch size after so many examples."""
    increments = (last - first) // increment
    return last if example >= samples else first + increment * int(example // (samples / increments))
