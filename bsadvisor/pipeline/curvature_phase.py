"""The curvature phase, and the short run where a saddle is suspected."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bsadvisor.advise.curvature_plan import plan_curvature, seconds_allowed
from bsadvisor.advise.saddle import is_certified, is_worth_leaving, may_be_stuck, plan_short_run
from bsadvisor.advise.update_rule import UpdateRule, update_rule
from bsadvisor.measure.curvature import (
    CurvatureProbe,
    CurvatureUnavailableError,
    MeasuredCurvature,
    OutOfMemoryForProductsError,
)
from bsadvisor.measure.curvature_stats import curvature_stats, noise_scale
from bsadvisor.measure.short_run import Steps, short_run
from bsadvisor.measure.statistics import noise_trace_in_use
from bsadvisor.pipeline.gradient_phase import GradientPhase
from bsadvisor.pipeline.session import Session
from bsadvisor.values import CurvatureStats, EscapeDirection, Estimate, Progress, ShortRun


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


def measure_curvature(session: Session, gradient: GradientPhase, loss: float | None) -> CurvaturePhase:
    """B_noise, the ends of the spectrum, and the way out of a saddle.

    Args:
        loss: at the checkpoint, where it was measured.

    Raises:
        CurvatureUnavailableError: there are no second derivatives to be had.
    """
    session.progress(Progress(phase="curvature", done=0, total=None))
    level = session.settings.confidence
    found = _run(session, gradient, loss)
    stats = curvature_stats(found, level, adaptive=session.target.preconditioner is not None)
    return CurvaturePhase(
        stats=stats,
        own_noise_scale=noise_scale(found.products, level),
        noise_scale=noise_scale(found.plain_products, level),
        noise_scale_gauss_newton=noise_scale(found.gauss_newton_products, level),
        escape=_with_short_run(session, gradient, stats, found.escape),
        by_differences=found.method_reason,
    )


def _run(session: Session, gradient: GradientPhase, loss: float | None) -> MeasuredCurvature:
    """With a smaller micro-batch whenever the second graph does not fit."""
    about, examples = session.target.description, gradient.probe.accumulator.num_examples
    plan = plan_curvature(
        gradient_examples=examples,
        available=gradient.sampler.num_certain,
        micro_batch=gradient.probe.micro_batch,
        coupled=gradient.couples,
    )
    ends = session.watch.seconds + seconds_allowed(gradient.seconds)
    rule = update_rule(about.optimizer_details)
    while plan.micro_batch >= 1:
        probe = CurvatureProbe(
            session.target,
            gradient.sampler,
            plan,
            divide_by_examples=gradient.sums_loss,
            noise_trace=noise_trace_in_use(gradient.probe),
            seconds_per_pass=gradient.seconds / examples,
            seed=session.settings.seed,
            may_be_stuck=may_be_stuck(gradient.stats, loss, rule, about.learning_rate),
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
    session: Session, gradient: GradientPhase, stats: CurvatureStats, escape: EscapeDirection | None
) -> EscapeDirection | None:
    """Where a saddle is suspected: does a run from here leave by itself?"""
    about = session.target.description
    rule, rate, batch = update_rule(about.optimizer_details), about.learning_rate, about.batch_size
    if escape is None or rule is None or rate is None or batch is None or session.is_over():
        return escape
    if not is_certified(escape, stats) or not is_worth_leaving(escape):
        return escape
    return replace(escape, short_run=_short_run(session, gradient, rule, rate, batch, escape.examples))


def _short_run(
    session: Session, gradient: GradientPhase, rule: UpdateRule, rate: float, batch: int, evaluated: int
) -> ShortRun | None:
    details = session.target.description.optimizer_details
    size = min(gradient.probe.micro_batch, batch)
    return short_run(
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
        divide_by_examples=gradient.sums_loss,
        evaluated=max(evaluated // size, 2),
        seed=session.settings.seed,
        should_stop=session.is_over,
    )
