"""Everything that is measured of one target, phase after phase."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bsadvisor.advise.critical import predict_critical_batch_size
from bsadvisor.advise.remarks import is_zero
from bsadvisor.errors import DataError, TargetError
from bsadvisor.measure.best_step import BestStep, best_step, tried_examples
from bsadvisor.measure.curvature import CurvatureUnavailableError
from bsadvisor.measure.state import SavedProbe, save_probe
from bsadvisor.measure.statistics import order_p_value
from bsadvisor.measure.step_trial import mean_gradient
from bsadvisor.pipeline.curvature_phase import CurvaturePhase, measure_curvature
from bsadvisor.pipeline.gradient_phase import GradientPhase, measure_gradient
from bsadvisor.pipeline.heldout_phase import HeldOutPhase, measure_heldout
from bsadvisor.pipeline.mask_phase import MasksUnavailableError, measure_masks
from bsadvisor.pipeline.session import Session
from bsadvisor.pipeline.trial_log import TrialLog
from bsadvisor.pipeline.trial_phase import TrialPhase, run_trial
from bsadvisor.values import (
    AssumptionFacts,
    DropoutStats,
    GradientStats,
    ProbeRun,
    Progress,
    SecondsPerPhase,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What the session found."""

    run: ProbeRun
    gradient: GradientStats
    assumptions: AssumptionFacts
    best_step: BestStep | None
    curvature: CurvaturePhase | None
    heldout: HeldOutPhase | None
    gradient_phase: GradientPhase
    trial: TrialPhase | None = None


def with_trial(session: Session, measured: Measured, log: TrialLog) -> Measured:
    """What was measured, and then the trial; the predictions are where it starts."""
    if is_zero(measured.gradient):
        return measured
    before = session.watch.seconds
    noise_scale = measured.gradient.own_noise_scale
    critical = predict_critical_batch_size(measured.gradient.noise_scale_simple).value
    trial = run_trial(session, measured.gradient_phase, noise_scale, critical, log)
    run, ended = measured.run, session.watch.seconds
    seconds = replace(run.seconds_per_phase, trial=ended - before)
    return replace(measured, trial=trial, run=replace(run, seconds=ended, seconds_per_phase=seconds))


def measure(session: Session, saved: SavedProbe | None, sidecar: Path | None) -> Measured:
    """Gradient, best step, held-out examples, curvature; what is unfinished is saved in the sidecar."""
    gradient = measure_gradient(session, saved)
    found = _best_step(session, gradient)
    searched = session.watch.seconds
    heldout = measure_heldout(session, gradient)
    judged = session.watch.seconds
    assumptions = _about_the_run(session, gradient)
    dropout, problem = _dropout(session, gradient)
    assumptions = replace(assumptions, dropout_problem=problem)
    before = session.watch.seconds
    curved: CurvaturePhase | None = None
    if session.settings.curvature and not session.stop.requested and not is_zero(gradient.stats):
        try:
            curved = measure_curvature(session, gradient, found)
            assumptions = replace(assumptions, curvature_by_differences=curved.by_differences)
        except CurvatureUnavailableError as problem:
            assumptions = replace(assumptions, curvature_problem=str(problem))
    stopped_by = "interrupt" if session.stop.requested else gradient.stopped_by
    if sidecar and stopped_by in ("interrupt", "time", "max_examples"):
        save_probe(sidecar, gradient.probe, session.identity)
    return Measured(
        run=ProbeRun(
            examples=gradient.probe.accumulator.num_examples,
            micro_batch_size=gradient.probe.micro_batch,
            micro_batches=gradient.probe.accumulator.num_micro_batches,
            stopped_by=stopped_by,
            seconds=session.watch.seconds,
            seconds_per_phase=SecondsPerPhase(
                gradient=gradient.seconds,
                line_search=searched - gradient.seconds,
                dropout=before - judged if dropout else None,
                curvature=session.watch.seconds - before if curved else None,
                heldout=judged - searched if heldout else None,
            ),
            seed=session.settings.seed,
        ),
        gradient=replace(
            gradient.stats if curved is None else _with_curvature(gradient.stats, curved), dropout=dropout
        ),
        assumptions=assumptions,
        best_step=found,
        curvature=curved,
        heldout=heldout,
        gradient_phase=gradient,
    )


def _best_step(session: Session, gradient: GradientPhase) -> BestStep | None:
    """Along the measured mean gradient, where it is more than noise."""
    if gradient.stats.noise_scale_simple.value is None or session.stop.requested:
        return None
    session.progress(Progress(phase="line search", done=0, total=None))
    probe = gradient.probe
    tried = tried_examples(
        gradient.sampler,
        measured=probe.accumulator.num_examples,
        micro_batch=probe.micro_batch,
        couples=gradient.couples,
    )
    try:
        return best_step(
            session.target,
            tried,
            mean_gradient(probe),
            confidence=session.settings.confidence,
            seed=session.settings.seed,
            should_stop=session.is_over,
        )
    except DataError:
        raise
    except TargetError:  # it ran before, but not in float32: the curvature will say so
        return None


def _dropout(session: Session, gradient: GradientPhase) -> tuple[DropoutStats | None, str | None]:
    """Dropout and augmentation, or why they were not measured."""
    if session.stop.requested or is_zero(gradient.stats):
        return None, None
    try:
        return measure_masks(session, gradient), None
    except MasksUnavailableError as problem:
        return None, str(problem)


def _about_the_run(session: Session, gradient: GradientPhase) -> AssumptionFacts:
    data = session.target.data
    return replace(
        gradient.assumptions,
        single_class=gradient.probe.single_class,
        dropped_examples=data.dropped,
        order_p_value=order_p_value(gradient.probe) if data.size is None else None,
    )


def _with_curvature(stats: GradientStats, curved: CurvaturePhase) -> GradientStats:
    return replace(
        stats,
        noise_scale=curved.noise_scale,
        noise_scale_gauss_newton=curved.noise_scale_gauss_newton,
    )
