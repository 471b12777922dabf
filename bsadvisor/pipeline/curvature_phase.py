"""The curvature phase, and the short run where a saddle is suspected."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bsadvisor.advise.curvature_plan import plan_curvature, seconds_allowed
from bsadvisor.advise.saddle import is_suspicious, may_be_stuck, plan_short_run
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
from bsadvisor.measure.short_run import Steps, short_run
from bsadvisor.measure.statistics import noise_trace_in_use
from bsadvisor.pipeline.gradient_phase import GradientPhase
from bsadvisor.pipeline.session import Session
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
    found = _run(session, gradient, step)
    stats = curvature_stats(found, level, adaptive=session.target.preconditioner is not None)
    return CurvaturePhase(
        stats=stats,
        own_noise_scale=noise_scale(found.products, level),
        noise_scale=noise_scale(found.plain_products, level),
        noise_scale_gauss_newton=noise_scale(found.gauss_newton_products, level),
        escape=_with_short_run(session, gradient, stats, found),
        by_differences=found.method_reason,
    )


def _run(session: Session, gradient: GradientPhase, step: BestStep | None) -> MeasuredCurvature:
    """With a smaller micro-batch whenever the second graph does not fit."""
    about, examples = session.target.description, gradient.probe.accumulator.num_examples
    plan = plan_curvature(
        gradient_examples=examples,
        available=gradient.sampler.num_certain,
        micro_batch=gradient.probe.micro_batch,
        coupled=gradient.couples,
    )
    if is_large(about.trainable_parameters, plan.iterations) and not gradient.couples:
        plan = plan.for_large_model()
    ends = session.watch.seconds + seconds_allowed(gradient.seconds)
    while plan.micro_batch >= 1:
        probe = CurvatureProbe(
            session.target,
            gradient.sampler,
            plan,
            divide_by_examples=gradient.sums_loss,
            noise_trace=noise_trace_in_use(gradient.probe),
            seconds_per_pass=gradient.seconds / examples,
            seed=session.settings.seed,
            may_be_stuck=may_be_stuck(
                gradient.stats,
                update_rule(about.optimizer_details),
                about.learning_rate,
                loss=step.loss.value if step else None,
                best_step_gain=step.at(examples)[1].value if step else None,
            ),
        )
        try:
            return probe.run(
                time_left=lambda: min(session.watch.left(), ends - session.watch.seconds),
                stop=lambda: session.stop.requested,
            )
        except OutOfMemoryForProductsError:
            plan = plan.halved()
    raise CurvatureUnavailableError("a second derivative of one example does not fit in memory")


def _with_short_run(
    session: Session, gradient: GradientPhase, stats: CurvatureStats, found: MeasuredCurvature
) -> EscapeDirection | None:
    """Where a saddle is suspected: does a run from here leave by itself, and one from beside it?"""
    about, escape = session.target.description, found.escape
    rule, rate, batch = update_rule(about.optimizer_details), about.learning_rate, about.batch_size
    if escape is None or rule is None or rate is None or batch is None or session.is_over():
        return escape
    if found.spectrum is None or escape.lowest_at is None or not is_suspicious(escape, stats):
        return escape
    details, size = about.optimizer_details, min(gradient.probe.micro_batch, batch)
    run = short_run(
        session.target,
        gradient.sampler,
        Steps(
            scheme=rule.scheme,
            learning_rate=rate,
            momentum=rule.momentum,
            second_beta=rule.second_beta,
            taken=details.step or 0 if details else 0,
            number=plan_short_run(batch),
            micro_batches=batch // size,
            micro_batch=size,
        ),
        kick=escape.lowest_at * found.spectrum.lowest.displacement,
        divide_by_examples=gradient.sums_loss,
        evaluated=max(escape.examples // size, 2),
        seed=session.settings.seed,
        should_stop=session.is_over,
    )
    return replace(escape, short_run=run)
