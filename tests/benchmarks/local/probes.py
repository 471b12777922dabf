"""Probes as a user makes them, of checkpoints whose truth is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bsadvisor import pipeline
from bsadvisor.measure.best_step import BestStep, best_step, tried_examples
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.statistics import gradient_stats, noise_trace, squared_norm
from bsadvisor.measure.step_trial import mean_gradient
from bsadvisor.pipeline.gradient_phase import gradient_rounds
from bsadvisor.settings import ProbeSettings
from bsadvisor.values import AssumptionFacts, Estimate
from tests.benchmarks.local.truth import Row
from tests.benchmarks.tasks import Task

Curve = dict[int, tuple[float, float]]
"""(eta, loss decrease) by batch size, where the method has an answer."""


HELD_BACK, HELD_BACK_SHARE = 8, 8
"""Batches for methods that read a line on other examples; one example there for so many of the gradient."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What one seed of the tool's probe found."""

    sampler: Sampler
    examples: int
    micro_batch: int
    held_back: tuple[int, int]
    """Number and size of batches that the gradient did not see."""
    noise_scale: Estimate
    """B_simple in the optimizer's own geometry."""
    slope: float
    """G'DG without bias: of the population."""
    trace: float
    """tr(D Sigma)."""
    best_step: BestStep | None
    """What the tool itself makes of it."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A task, its truth, and the probes made of it."""

    task: Task
    row: Row
    probes: dict[int, Probe] = field(default_factory=dict)

    def probe(self, seed: int) -> Probe:
        """Each seed is probed once, whatever the number of methods that ask."""
        if seed not in self.probes:
            self.probes[seed] = run_probe(self.task, seed)
        return self.probes[seed]


Method = Callable[[Checkpoint, Sequence[int], int], Curve]


def run_probe(task: Task, seed: int) -> Probe:
    """The tool's gradient rounds and best step, as a user with its defaults meets them."""
    settings = ProbeSettings(time_budget=1e9)
    sampler = Sampler(task.data, seed=seed)
    session = pipeline.Session(
        target=task,  # type: ignore[arg-type]
        settings=replace(settings, seed=seed),
        watch=pipeline.Stopwatch(budget=1e9, began=time.perf_counter()),
        progress=lambda progress: None,
        stop=pipeline.StopSignal(),
    )
    measured, _, _ = gradient_rounds(session, sampler, AssumptionFacts(), None)
    gradient = gradient_stats(
        measured,
        confidence=settings.confidence,
        precision=settings.precision,
        batch_size=None,
        learning_rate=None,
    )
    sums = measured.accumulator.sums(preconditioned=task.preconditioner is not None)
    examples = measured.accumulator.num_examples
    held = min(sampler.num_line_search, max(examples // HELD_BACK_SHARE, 4 * HELD_BACK))
    size = max(1, min(measured.micro_batch, held // HELD_BACK))
    tried = tried_examples(sampler, measured=examples, micro_batch=measured.micro_batch, couples=False)
    return Probe(
        sampler=sampler,
        examples=examples,
        micro_batch=measured.micro_batch,
        held_back=(held // size, size),
        noise_scale=gradient.noise_scale_preconditioned or gradient.noise_scale_simple,
        slope=squared_norm(sums, settings.confidence).value or 0.0,
        trace=noise_trace(sums, settings.confidence).value or 0.0,
        best_step=best_step(
            task,
            tried,
            mean_gradient(measured),
            confidence=settings.confidence,
            seed=seed,
            should_stop=lambda: False,
        ),
    )
