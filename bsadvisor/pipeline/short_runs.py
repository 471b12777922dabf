"""Runs that are tried where a saddle is suspected, and a second search where the first found no way out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bsadvisor.advise.curvature_plan import SEARCH_ITERATIONS, seconds_allowed
from bsadvisor.advise.saddle import is_suspicious
from bsadvisor.advise.short_runs import (
    has_way_out,
    needs_longer_run,
    plan_long_run,
    plan_short_run,
    runs_away,
)
from bsadvisor.advise.update_rule import UpdateRule, update_rule
from bsadvisor.measure.curvature import MeasuredCurvature, is_large, scale_of
from bsadvisor.measure.hessian import Hessian
from bsadvisor.measure.short_run import Steps, short_run
from bsadvisor.measure.statistics import noise_trace_in_use
from bsadvisor.measure.whole_search import WayOut, search_whole
from bsadvisor.pipeline.gradient_phase import GradientPhase
from bsadvisor.pipeline.session import Session
from bsadvisor.values import CurvatureStats, EscapeDirection, ShortRun

SEARCH_SHARE = 0.5
"""Of the time that is left, for the directions; the rest is for what holds along the lowest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """What every run of one probe has in common."""

    session: Session
    gradient: GradientPhase
    stats: CurvatureStats
    rule: UpdateRule
    batch_size: int
    learning_rate: float

    def along(self, way: WayOut, first_evaluated: int) -> EscapeDirection:
        """The direction with the runs that were tried along it; a longer one only where it is needed."""
        if not is_suspicious(way.escape, self.stats):
            return way.escape
        ends = self.session.watch.seconds + seconds_allowed(self.gradient.seconds)
        run = self._run(way, first_evaluated, plan_short_run(self.batch_size), ends=float("inf"))
        tried = replace(way.escape, short_run=run)
        if not needs_longer_run(tried):
            return tried
        longer = self._run(way, first_evaluated, plan_long_run(self.batch_size), ends=ends)
        return replace(tried, long_run=longer)

    def _run(self, way: WayOut, first_evaluated: int, number: int, *, ends: float) -> ShortRun | None:
        """None where the time was over first."""
        about = self.session.target.description
        details = about.optimizer_details
        size = min(self.gradient.probe.micro_batch, self.batch_size)
        steps = Steps(
            scheme=self.rule.scheme,
            learning_rate=self.rule.gradient_weight * self.learning_rate,
            momentum=self.rule.momentum,
            second_beta=self.rule.second_beta,
            taken=details.step or 0 if details else 0,
            number=number,
            micro_batches=self.batch_size // size,
            micro_batch=size,
            weight_decay=details.weight_decay or 0.0 if details else 0.0,
            decoupled=about.optimizer == "adamw",
            relative_rates=self.session.target.relative_rates,
        )
        return short_run(
            self.session.target,
            self.gradient.sampler,
            steps,
            kick=(way.escape.lowest_at or 0.0) * way.displacement,
            divide_by_examples=self.gradient.sums_loss,
            first_evaluated=first_evaluated,
            evaluated=max(way.escape.examples // size, 2),
            seed=self.session.settings.seed,
            should_stop=lambda: self.session.is_over() or self.session.watch.seconds > ends,
        )


def with_trials(
    session: Session,
    gradient: GradientPhase,
    stats: CurvatureStats,
    found: MeasuredCurvature,
    *,
    may_be_stuck: bool,
    ends: float,
) -> EscapeDirection | None:
    """Does a run from here leave by itself, and one from beside it?

    Args:
        may_be_stuck: whether a second search is worth its time.
        ends: of the curvature phase, on the session's watch.
    """
    about = session.target.description
    rule, rate, batch = update_rule(about.optimizer_details), about.learning_rate, about.batch_size
    if rule is None or rate is None or batch is None or session.is_over():
        return found.escape
    trials = Trials(
        session=session,
        gradient=gradient,
        stats=stats,
        rule=rule,
        batch_size=batch,
        learning_rate=rate,
    )
    tried = found.escape
    if found.spectrum is not None and tried is not None and tried.lowest_at is not None:
        way = WayOut(escape=tried, displacement=found.spectrum.lowest.displacement)
        tried = trials.along(way, found.spectrum.sample.direction_examples)
    if not may_be_stuck or (tried is not None and (has_way_out(tried) or runs_away(tried))):
        return tried
    whole = _search_whole(session, gradient, found, ends)
    second = None if whole is None else trials.along(whole, 0)
    return second if second is not None and has_way_out(second) else tried


def _search_whole(
    session: Session, gradient: GradientPhase, found: MeasuredCurvature, ends: float
) -> WayOut | None:
    """Where a sample was too small; not where the curvature depends on how examples are put together."""
    large = is_large(session.target.description.trainable_parameters, SEARCH_ITERATIONS)
    if found.spectrum is None or gradient.couples or large:
        return None
    size = found.spectrum.sample.micro_batch
    half = session.watch.seconds + SEARCH_SHARE * max(ends - session.watch.seconds, 0.0)
    return search_whole(
        Hessian(
            problem=session.target,
            seed=session.settings.seed,
            divide_by=size if gradient.sums_loss else 1,
            scale=scale_of(session.target),
            method=found.method,
        ),
        gradient.sampler,
        micro_batch=size,
        iterations=SEARCH_ITERATIONS,
        noise_trace=noise_trace_in_use(gradient.probe),
        enough=lambda: session.is_over() or session.watch.seconds > half,
        should_stop=lambda: session.is_over() or session.watch.seconds > ends,
    )
