"""The gradient phase: rounds until the noise scale is precise enough, then every estimate from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bsadvisor.advise import rounds
from bsadvisor.advise.rounds import Available
from bsadvisor.measure.assumptions import check_assumptions
from bsadvisor.measure.geometry import EstimatedGeometry, estimate_geometry
from bsadvisor.measure.gradients import GradientProbe, MicroBatchTooLargeError
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.state import SavedProbe, restore_probe
from bsadvisor.measure.statistics import gradient_stats, noise_scale
from bsadvisor.pipeline.session import Session
from bsadvisor.values import (
    AssumptionFacts,
    Estimate,
    Geometry,
    GeometryRule,
    GradientStats,
    Progress,
    StoppedBy,
)

SHARE_OF_TIME, SHARE_BEFORE_CURVATURE, SHARE_OF_GEOMETRY = 0.8, 0.6, 0.2
"""Of the time budget; the rest is for what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientPhase:
    """What it leaves behind for the phases after it."""

    sampler: Sampler
    probe: GradientProbe
    assumptions: AssumptionFacts
    stats: GradientStats
    stopped_by: StoppedBy
    seconds: float

    @property
    def sums_loss(self) -> bool:
        """Whether the loss adds up over examples."""
        return self.assumptions.loss_reduction == "sum"

    @property
    def couples(self) -> bool:
        """Whether the size of a micro-batch changes the loss."""
        return self.assumptions.coupling != "none"


def measure_gradient(session: Session, saved: SavedProbe | None) -> GradientPhase:
    """Check what the estimators take for granted, then measure.

    Raises:
        BsadvisorError: too few examples, or a target that cannot be run.
        KeyboardInterrupt: stopped before anything was measured.
    """
    about, settings = session.target.description, session.settings
    rule = session.target.geometry_rule
    sampler = Sampler(session.target.data, seed=settings.seed, geometry=rule is not None)
    rounds.refuse_too_few(sampler.num_certain, settings)
    checked = check_assumptions(session.target, sampler, seed=settings.seed)
    estimated = None if rule is None else _estimated(session, sampler, rule, checked)
    probe, assumptions, stopped_by = gradient_rounds(
        session, sampler, checked, saved, preconditioner=estimated.preconditioner if estimated else None
    )
    stats = gradient_stats(
        probe,
        confidence=settings.confidence,
        precision=settings.precision,
        batch_size=about.batch_size,
        learning_rate=about.learning_rate,
    )
    return GradientPhase(
        sampler=sampler,
        probe=probe,
        assumptions=assumptions,
        stats=replace(stats, geometry=estimated.about if estimated else _known_geometry(session)),
        stopped_by=stopped_by,
        seconds=session.watch.seconds,
    )


def _estimated(
    session: Session, sampler: Sampler, rule: GeometryRule, checked: AssumptionFacts
) -> EstimatedGeometry | None:
    """What the optimizer would have gathered, where that is not known."""
    return estimate_geometry(
        session.target,
        sampler,
        rule,
        batch_size=session.target.description.batch_size,
        divide_by_examples=checked.loss_reduction == "sum",
        seed=session.settings.seed,
        time_left=lambda: session.watch.left(SHARE_OF_GEOMETRY),
        stop=lambda: session.stop.requested,
    )


def _known_geometry(session: Session) -> Geometry | None:
    target = session.target
    if target.preconditioner is None:
        return None
    loaded = target.facts.optimizer_state == "loaded"
    return Geometry(source="state" if loaded else "learning_rates")


def gradient_rounds(
    session: Session,
    sampler: Sampler,
    assumptions: AssumptionFacts,
    saved: SavedProbe | None,
    *,
    preconditioner: Mapping[str, Any] | None = None,
) -> tuple[GradientProbe, AssumptionFacts, StoppedBy]:
    """Rounds until precise enough, with a smaller micro-batch whenever one does not fit."""
    available = rounds.Available(
        examples=sampler.num_gradient,
        certain=sampler.num_certain,
        batch_in_use=session.target.per_device_batch,
    )
    size = rounds.micro_batch(available, session.settings)
    if assumptions.coupling != "none" and session.settings.micro_batch is None:
        size = max(size, rounds.coupled_micro_batch(available, session.settings))

    def measure(micro_batch: int) -> tuple[GradientProbe, StoppedBy]:
        measuring = GradientProbe(
            session.target,
            sampler,
            micro_batch=micro_batch,
            seed=session.settings.seed,
            reduction=assumptions.loss_reduction,
            preconditioner=preconditioner,
        )
        if saved:
            restore_probe(saved, measuring, session.identity)
        return measuring, _run_rounds(session, measuring, available)

    while True:
        try:
            measured, stopped_by = measure(size)
            return measured, assumptions, stopped_by
        except MicroBatchTooLargeError as too_large:
            if too_large.out_of_memory:
                tried = (*assumptions.out_of_memory_at, size)
                assumptions = replace(assumptions, out_of_memory_at=tried)
            size = too_large.fitting


def _run_rounds(session: Session, measuring: GradientProbe, available: Available) -> StoppedBy:
    estimate: Estimate | None = None
    share = SHARE_BEFORE_CURVATURE if session.settings.curvature else SHARE_OF_TIME
    while True:
        measured = measuring.accumulator.num_examples
        sums = measuring.accumulator.sums() if measured else None
        if sums is not None:
            estimate = noise_scale(sums, session.settings.confidence)
        plan = rounds.next_round(sums, measuring.micro_batch, available, session.settings)
        if isinstance(plan, str):
            return plan
        measuring.run(
            plan,
            time_left=lambda: session.watch.left(share),
            stop=lambda: session.stop.requested,
            progress=_reporter(session, plan, estimate),
        )
        if measuring.accumulator.num_micro_batches == 0:
            raise KeyboardInterrupt
        if session.stop.requested:
            return "interrupt"
        if measuring.exhausted:
            return "data"
        if measuring.accumulator.num_examples < plan:
            return "time"


def _reporter(session: Session, total: int, estimate: Estimate | None) -> Callable[[int], None]:
    def report(done: int) -> None:
        session.progress(Progress(phase="gradient", done=done, total=total, noise_scale=estimate))

    return report
