"""The curvature phase, and what is tried where it suspects a saddle."""

from __future__ import annotations

from dataclasses import dataclass

from bsadvisor.advise.curvature_plan import CurvaturePlan, plan_curvature, seconds_allowed
from bsadvisor.advise.saddle import may_be_stuck
from bsadvisor.advise.update_rule import update_rule
from bsadvisor.measure.best_step import BestStep
from bsadvisor.measure.curvature import (
    CurvatureProbe,
    CurvatureUnavailableError,
    MeasuredCurvature,
    OutOfMemoryForProductsError,
    is_large,
)
from bsadvisor.measure.curvature_stats import curvature_stats, noise_scale
from bsadvisor.measure.hessian import load_products
from bsadvisor.measure.statistics import noise_trace_in_use
from bsadvisor.pipeline.gradient_phase import GradientPhase
from bsadvisor.pipeline.session import Session
from bsadvisor.pipeline.short_runs import can_search_whole, with_trials
from bsadvisor.values import CurvatureStats, EscapeDirection, Estimate, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvaturePhase:
    """What it found; in the optimizer's geometry where it has one."""

    stats: CurvatureStats
    own_noise_scale: Estimate | None
    """B_noise in that geometry."""
    noise_scale: Estimate | None
    noise_scale_gauss_newton: Estimate | None
    escape: EscapeDirection | None
    by_differences: str | None
    """Why exact products were not used."""


def measure_curvature(session: Session, gradient: GradientPhase, step: BestStep | None) -> CurvaturePhase:
    """B_noise, the ends of the spectrum, and the way out of a saddle.

    Args:
        step: the best single step, where it was sought.

    Raises:
        CurvatureUnavailableError: there are no second derivatives to be had.
    """
    session.progress(Progress(phase="curvature", done=0, total=None))
    level = session.settings.confidence
    load_products()
    plan, stuck = _plan(session, gradient), _may_be_stuck(session, gradient, step)
    whole = stuck and can_search_whole(session, gradient, plan.micro_batch)
    ends = session.watch.seconds + seconds_allowed(gradient.seconds, suspicious=whole)
    found = _run(session, gradient, plan, thorough=stuck and not whole, ends=ends)
    stats = curvature_stats(found, level, adaptive=session.target.preconditioner is not None)
    return CurvaturePhase(
        stats=stats,
        own_noise_scale=noise_scale(found.products, level),
        noise_scale=noise_scale(found.plain_products, level),
        noise_scale_gauss_newton=noise_scale(found.gauss_newton_products, level),
        escape=with_trials(session, gradient, stats, found, search_whole=whole, ends=ends),
        by_differences=found.method_reason,
    )


def _may_be_stuck(session: Session, gradient: GradientPhase, step: BestStep | None) -> bool:
    about, examples = session.target.description, gradient.probe.accumulator.num_examples
    return may_be_stuck(
        gradient.stats,
        update_rule(about.optimizer_details),
        about.learning_rate,
        loss=step.loss.value if step else None,
        best_step_gain=step.at(examples)[1].value if step else None,
    )


def _plan(session: Session, gradient: GradientPhase) -> CurvaturePlan:
    plan = plan_curvature(
        gradient_examples=gradient.probe.accumulator.num_examples,
        available=gradient.sampler.num_certain,
        micro_batch=gradient.probe.micro_batch,
        coupled=gradient.couples,
    )
    large = is_large(session.target.description.trainable_parameters, plan.iterations)
    return plan.for_large_model() if large and not gradient.couples else plan


def _run(
    session: Session, gradient: GradientPhase, plan: CurvaturePlan, *, thorough: bool, ends: float
) -> MeasuredCurvature:
    """With a smaller micro-batch whenever the second graph does not fit."""
    while plan.micro_batch >= 1:
        probe = CurvatureProbe(
            session.target,
            gradient.sampler,
            plan,
            divide_by_examples=gradient.sums_loss,
            noise_trace=noise_trace_in_use(gradient.probe),
            seconds_per_pass=gradient.seconds / gradient.probe.accumulator.num_examples,
            seed=session.settings.seed,
            may_be_stuck=thorough,
        )
        try:
            return probe.run(
                time_left=lambda: min(session.watch.left(), ends - session.watch.seconds),
                stop=lambda: session.stop.requested,
            )
        except OutOfMemoryForProductsError:
            plan = plan.halved()
    raise CurvatureUnavailableError("a second derivative of one example does not fit in memory")
