"""The verdict of the real measuring code on a checkpoint of the list."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bsadvisor.advise.generalization import judge_generalization
from bsadvisor.pipeline import Session, StopSignal, Stopwatch
from bsadvisor.pipeline.gradient_phase import measure_gradient
from bsadvisor.pipeline.heldout_phase import measure_heldout
from bsadvisor.settings import ProbeSettings
from bsadvisor.values import Generalization
from tests.benchmarks.generalization.truth import Checkpoint, HeldTask, span_of_turn
from tests.benchmarks.tasks import describe

SECONDS = 600.0
"""Time is no limit here: the machine may be busy."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A checkpoint, what the tool says of it, and what is true."""

    run: str
    kind: str
    seed: int
    step: int
    verdict: str | None
    healthy: bool | None
    held_loss: float
    """Over every held-out example there is."""
    gap: tuple[float | None, float | None]
    growth: tuple[float | None, float | None]
    alignment: tuple[float | None, float | None]
    self_share: float | None
    examples: int


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Where the verdict of one run turns, and where the held-out loss does."""

    run: str
    seed: int
    span: tuple[int, int]
    last_fitting: int | None
    first_memorization: int | None
    early: int
    """Verdicts of memorization before the span."""
    missed: int
    """Other verdicts after it."""

    @property
    def within(self) -> bool:
        """From the last `fitting` to the first `memorization`, and nothing on the wrong side."""
        ends = self.last_fitting, self.first_memorization
        inside = all(end is not None and self.span[0] <= end <= self.span[1] for end in ends)
        return inside and not self.early and not self.missed


def measured(task: HeldTask, seed: int) -> Generalization:
    """With default settings, but for time."""
    task.description = describe(task)  # type: ignore[attr-defined]
    session = Session(
        target=task,  # type: ignore[arg-type]
        settings=ProbeSettings(seed=seed, time_budget=SECONDS),
        watch=Stopwatch(budget=SECONDS, began=time.perf_counter()),
        progress=lambda progress: None,
        stop=StopSignal(),
    )
    phase = measure_heldout(session, measure_gradient(session, None))
    assert phase is not None and phase.stats is not None
    return replace(phase.stats, verdict=judge_generalization(phase.stats, phase.facts.shared))


def judge(checkpoint: Checkpoint) -> Judged:
    """The verdict beside the truth."""
    found = measured(checkpoint.task, checkpoint.run.seed)
    growth, aligned = found.heldout_growth, found.alignment
    return Judged(
        run=checkpoint.run.name,
        kind=checkpoint.run.kind,
        seed=checkpoint.run.seed,
        step=checkpoint.step,
        verdict=found.verdict,
        healthy=checkpoint.healthy,
        held_loss=round(float(checkpoint.held_losses.mean()), 4),
        gap=(_round(found.gap.low), _round(found.gap.high)),
        growth=(_round(growth.low), _round(growth.high)) if growth else (None, None),
        alignment=(_round(aligned.low), _round(aligned.high)) if aligned else (None, None),
        self_share=_round(found.self_share.value) if found.self_share else None,
        examples=found.heldout_examples,
    )


def turn(found: Sequence[Checkpoint], verdicts: Sequence[Judged]) -> Turn:
    """Of one run, whose checkpoints come in order."""
    first, last = span_of_turn(found)
    fitting = [one.step for one in verdicts if one.verdict == "fitting"]
    memorizing = [one.step for one in verdicts if one.verdict == "memorization"]
    return Turn(
        run=verdicts[0].run,
        seed=verdicts[0].seed,
        span=(first, last),
        last_fitting=max(fitting, default=None),
        first_memorization=min(memorizing, default=None),
        early=sum(step < first for step in memorizing),
        missed=sum(one.step > last and one.verdict != "memorization" for one in verdicts),
    )


def _round(number: float | None) -> float | None:
    return None if number is None else round(number, 4)
