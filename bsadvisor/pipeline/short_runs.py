"""Runs that are tried where a saddle is suspected, and a second search where the first found no way out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from bsadvisor.advise.curvature_plan import SEARCH_ITERATIONS, seconds_allowed
from bsadvisor.advise.saddle import is_suspicious
from bsadvisor.advise.short_runs import (
    HURRIED_LOOKS,
    HURRIED_STEPS,
    TIMES_FASTER,
    best_look,
    has_hurried_off,
    has_left,
    highest_rate,
    look_every,
    needs_hurry,
    plan_short_run,
    runs_away,
)
from bsadvisor.advise.update_rule import UpdateRule, update_rule
from bsadvisor.measure import whole_search
from bsadvisor.measure.curvature import MeasuredCurvature, is_large, scale_of
from bsadvisor.measure.hessian import Hessian
from bsadvisor.measure.short_run import Steps, short_run
from bsadvisor.measure.statistics import noise_trace_in_use
from bsadvisor.measure.whole_search import WayOut
from bsadvisor.pipeline.gradient_phase import GradientPhase
from bsadvisor.pipeline.session import Session
from bsadvisor.values import CurvatureStats, EscapeDirection, Estimate, ShortRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """What every run of one probe has in common."""

    session: Session
    gradient: GradientPhase
    stats: CurvatureStats
    rule: UpdateRule
    batch_size: int
    learning_rate: float

    def along(self, way: WayOut) -> EscapeDirection:
        """The direction with the runs that were tried along it; a hurried one only where it is needed."""
        if not is_suspicious(way.escape, self.stats):
            return way.escape
        loss, batch = way.escape.loss, self.batch_size
        steps = self._steps()
        looks = self._run(way, steps, has_left=lambda fall: has_left(fall, loss, batch), ends=math.inf)
        if not looks:
            return way.escape
        tried = replace(way.escape, short_run=looks[-1])
        if looks[-1].steps < steps.number and not runs_away(tried):  # stopped half-way
            return way.escape
        if not needs_hurry(tried):
            return tried
        watch, seconds = self.session.watch, seconds_allowed(self.gradient.seconds)
        ends = watch.seconds + seconds
        looks = self._run(
            way,
            self._hurried(steps),
            has_left=lambda fall: has_hurried_off(fall, loss) or watch.seconds > ends - seconds / 2,
            ends=ends,
        )
        return replace(tried, hurried_run=best_look(looks, loss))

    def _steps(self) -> Steps:
        """Those of the optimizer with the pair in use."""
        about = self.session.target.description
        details = about.optimizer_details
        parts = math.ceil(self.batch_size / self.gradient.probe.micro_batch)
        return Steps(
            scheme=self.rule.scheme,
            learning_rate=self.rule.gradient_weight * self.learning_rate,
            momentum=self.rule.momentum,
            second_beta=self.rule.second_beta,
            taken=details.step or 0 if details else 0,
            number=plan_short_run(self.batch_size),
            micro_batches=parts,
            micro_batch=self.batch_size // parts,
            look_every=look_every(self.batch_size),
            weight_decay=details.weight_decay or 0.0 if details else 0.0,
            decoupled=about.optimizer == "adamw",
            relative_rates=self.session.target.relative_rates,
        )

    def _hurried(self, steps: Steps) -> Steps:
        """Larger and larger ones, on batches of the same size: with larger ones the loss falls anywhere."""
        adaptive = steps.second_beta is not None
        return replace(
            steps,
            number=HURRIED_STEPS,
            look_every=HURRIED_STEPS // HURRIED_LOOKS,
            growth=TIMES_FASTER ** (1 / HURRIED_STEPS),
            highest_rate=highest_rate(self.stats, adaptive=adaptive),
        )

    def _run(
        self, way: WayOut, steps: Steps, *, has_left: Callable[[Estimate], bool], ends: float
    ) -> tuple[ShortRun, ...]:
        """Nothing where the time was over first."""
        return short_run(
            self.session.target,
            self.gradient.sampler,
            steps,
            kick=(way.escape.lowest_at or 0.0) * way.displacement,
            held=way.held,
            held_examples=way.held_examples,
            divide_by_examples=self.gradient.sums_loss,
            seed=self.session.settings.seed,
            has_left=has_left,
            should_stop=lambda: self.session.is_over() or self.session.watch.seconds > ends,
        )


def with_trials(
    session: Session,
    gradient: GradientPhase,
    stats: CurvatureStats,
    found: MeasuredCurvature,
    *,
    search_whole: bool,
    ends: float,
) -> EscapeDirection | None:
    """Does a run from here leave by itself, and one from beside it?

    Args:
        search_whole: whether a search on all examples is possible and worth its time; what it finds counts,
            not what was found on some of them.
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
    way = _search_whole(session, gradient, found, ends) if search_whole else None
    if way is None and found.spectrum is not None and found.escape is not None:
        sample = found.spectrum.sample
        way = WayOut(
            escape=found.escape,
            displacement=found.spectrum.lowest.displacement,
            held=sample.certificate,
            held_examples=sample.micro_batch,
        )
    return found.escape if way is None or way.escape.lowest_at is None else trials.along(way)


def can_search_whole(session: Session, gradient: GradientPhase, micro_batch: int) -> bool:
    """Not where the curvature depends on how examples are put together."""
    if gradient.couples or is_large(session.target.description.trainable_parameters, SEARCH_ITERATIONS):
        return False
    return whole_search.can_search_whole(
        Hessian(problem=session.target, seed=session.settings.seed), gradient.sampler, micro_batch
    )


def _search_whole(
    session: Session, gradient: GradientPhase, found: MeasuredCurvature, ends: float
) -> WayOut | None:
    if found.spectrum is None:
        return None
    size = found.spectrum.sample.micro_batch
    return whole_search.search_whole(
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
        time_left=lambda: min(session.watch.left(), ends - session.watch.seconds),
        stop=lambda: session.stop.requested,
    )
