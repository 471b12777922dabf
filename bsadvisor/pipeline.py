"""Each journey on half a page: request -> target -> measurements -> advice -> report.

Rooms that load torch are imported inside the functions, so that `--help`, `show` and `explain` stay
quick.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bsadvisor import __version__
from bsadvisor.values import (
    SCHEMA_VERSION,
    AssumptionFacts,
    CriticalBatchSize,
    CurvatureStats,
    EscapeDirection,
    Estimate,
    GradientStats,
    LocalStats,
    ProbeRun,
    ProbeSettings,
    Progress,
    ProgressCallback,
    Recommendation,
    Report,
    SaddleVerdict,
    SecondsPerPhase,
    SelftestResult,
    StoppedBy,
    TargetDescription,
    TargetRequest,
)

if TYPE_CHECKING:
    from bsadvisor.advise.rounds import Available
    from bsadvisor.advise.update_rule import UpdateRule
    from bsadvisor.measure.curvature import MeasuredCurvature
    from bsadvisor.measure.gradients import GradientProbe
    from bsadvisor.measure.line_search import LineSearch
    from bsadvisor.measure.sampler import Sampler
    from bsadvisor.measure.state import SavedProbe
    from bsadvisor.target.factory import Target

GRADIENT_SHARE = 0.8
"""Of the time budget; the rest is for what follows the gradient."""

GRADIENT_SHARE_WITH_CURVATURE = 0.6

LINE_SEARCH_SHARE = 8
"""One example tried for this many measured: ten forward passes over them cost half a gradient phase."""


class StopSignal:
    """Says that someone wants to stop; heeded between micro-batches while `deferred`."""

    def __init__(self) -> None:
        self.reason: Literal["interrupt", "terminate"] | None = None
        self.deferred = False

    def release(self) -> None:
        """No longer defer; what was asked for meanwhile happens now."""
        self.deferred = False
        if self.requested:
            raise KeyboardInterrupt

    def request(self, reason: Literal["interrupt", "terminate"]) -> None:
        """Ask for an early end."""
        self.reason = reason

    @property
    def requested(self) -> bool:
        return self.reason is not None


@dataclass(kw_only=True)
class Stopwatch:
    """Seconds since the measuring began, and the time that is left."""

    budget: float
    began: float

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def left(self, share: float = 1.0) -> float:
        """Seconds until `share` of the budget is spent."""
        return self.budget * share - self.seconds


# --- probe --------------------------------------------------------------------------------------


def probe(
    request: TargetRequest,
    settings: ProbeSettings,
    *,
    progress: ProgressCallback,
    notify: Callable[[str], None],
    stop: StopSignal,
    resume: Path | None = None,
    sidecar: Path | None = None,
) -> Report:
    """Measure a target and advise on it.

    Args:
        request: where the target is.
        settings: how long and how precisely to measure.
        progress: told of every micro-batch.
        notify: told, in a sentence, what a waiting person should know.
        stop: ends the measuring early; the report is then partial.
        resume: saved statistics to go on from.
        sidecar: where the statistics of an unfinished probe are saved.

    Raises:
        BsadvisorError: the target cannot be loaded or run.
        KeyboardInterrupt: stopped before anything was measured.
    """
    stop.deferred = True  # an import of torch must not be torn
    from bsadvisor.measure.state import read_saved_probe
    from bsadvisor.target.factory import load

    stop.release()
    saved = read_saved_probe(resume) if resume else None
    if saved:
        settings = replace(settings, seed=saved.seed, micro_batch=saved.micro_batch)
    began = time.perf_counter()
    target = load(request, notify=notify)
    loaded = time.perf_counter()
    watch = Stopwatch(budget=settings.time_budget, began=loaded)
    session = Session(target=target, settings=settings, watch=watch, progress=progress, stop=stop)
    stop.deferred = True
    try:
        measured = _measure(session, saved, sidecar)
    finally:
        stop.deferred = False
    return _advise(session, measured, load_seconds=loaded - began)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One probe of one target."""

    target: Target
    settings: ProbeSettings
    watch: Stopwatch
    progress: ProgressCallback
    stop: StopSignal


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What the session found."""

    run: ProbeRun
    gradient: GradientStats
    assumptions: AssumptionFacts
    line_search: LineSearch | None
    curvature: Curved | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Curved:
    """What the curvature phase found, in the optimizer's geometry where it has one."""

    stats: CurvatureStats
    noise_scale: Estimate | None
    """B_noise in that geometry."""
    escape: EscapeDirection | None


def _measure(session: Session, saved: SavedProbe | None, sidecar: Path | None) -> _Measured:
    from bsadvisor.advise import rounds
    from bsadvisor.measure.assumptions import check_assumptions
    from bsadvisor.measure.sampler import Sampler
    from bsadvisor.measure.state import save_probe
    from bsadvisor.measure.statistics import gradient_stats, order_p_value

    target, settings, watch = session.target, session.settings, session.watch
    sampler = Sampler(target.data, seed=settings.seed)
    rounds.refuse_too_few(sampler.num_certain, settings)
    assumptions = check_assumptions(target, sampler, seed=settings.seed)
    measured, assumptions, stopped_by = gradient_rounds(session, sampler, assumptions, saved)
    gradient = gradient_stats(
        measured,
        confidence=settings.confidence,
        precision=settings.precision,
        batch_size=target.description.batch_size,
        learning_rate=target.description.learning_rate,
    )
    gradient_seconds = watch.seconds
    found = _line_search(session, sampler, measured, gradient, assumptions)
    line_search_seconds = watch.seconds - gradient_seconds
    curved, gradient, assumptions = _curvature(
        session,
        sampler,
        measured,
        gradient,
        assumptions,
        gradient_seconds,
        found.loss.value if found else None,
    )
    seconds = SecondsPerPhase(
        gradient=gradient_seconds,
        line_search=line_search_seconds,
        curvature=watch.seconds - gradient_seconds - line_search_seconds if curved else None,
    )
    if session.stop.requested:
        stopped_by = "interrupt"
    if sidecar and stopped_by in ("interrupt", "time", "max_examples"):
        save_probe(sidecar, measured, _identity(target))
    return _Measured(
        run=ProbeRun(
            examples=measured.accumulator.num_examples,
            micro_batch_size=measured.micro_batch,
            micro_batches=measured.accumulator.num_micro_batches,
            stopped_by=stopped_by,
            seconds=watch.seconds,
            seconds_per_phase=seconds,
            seed=settings.seed,
        ),
        gradient=gradient,
        assumptions=replace(
            assumptions,
            single_class=measured.single_class,
            dropped_examples=target.data.dropped,
            order_p_value=order_p_value(measured) if target.data.size is None else None,
        ),
        line_search=found,
        curvature=curved,
    )


def gradient_rounds(
    session: Session, sampler: Sampler, assumptions: AssumptionFacts, saved: SavedProbe | None
) -> tuple[GradientProbe, AssumptionFacts, StoppedBy]:
    """Rounds until precise enough, with a smaller micro-batch whenever one does not fit."""
    from bsadvisor.advise import rounds
    from bsadvisor.measure.gradients import GradientProbe, MicroBatchTooLargeError
    from bsadvisor.measure.state import restore_probe

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
        )
        if saved:
            restore_probe(saved, measuring, _identity(session.target))
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
    from bsadvisor.advise import rounds
    from bsadvisor.measure.statistics import noise_scale

    estimate: Estimate | None = None
    share = GRADIENT_SHARE_WITH_CURVATURE if session.settings.curvature else GRADIENT_SHARE
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


def _line_search(
    session: Session,
    sampler: Sampler,
    measured: GradientProbe,
    gradient: GradientStats,
    assumptions: AssumptionFacts,
) -> LineSearch | None:
    """Along the measured mean gradient, where it is more than noise."""
    from bsadvisor.measure.line_search import CHUNKS, MIN_CHUNKS, line_search

    if gradient.noise_scale_simple.value is None or session.stop.requested:
        return None
    examples = min(
        sampler.num_line_search, max(measured.accumulator.num_examples // LINE_SEARCH_SHARE, 4 * CHUNKS)
    )
    chunks = CHUNKS if assumptions.coupling == "none" else MIN_CHUNKS
    size = max(1, min(measured.micro_batch, examples // chunks))
    session.progress(Progress(phase="line search", done=0, total=None))
    return line_search(
        session.target,
        sampler.line_search(examples // size, size),
        measured.accumulator.total_gradient(),
        weight=measured.accumulator.total_weight,
        divide_by=size if assumptions.loss_reduction == "sum" else 1,
        confidence=session.settings.confidence,
        seed=session.settings.seed,
        should_stop=lambda: session.stop.requested or session.watch.left() <= 0,
    )


def _curvature(
    session: Session,
    sampler: Sampler,
    measured: GradientProbe,
    gradient: GradientStats,
    assumptions: AssumptionFacts,
    gradient_seconds: float,
    loss: float | None,
) -> tuple[Curved | None, GradientStats, AssumptionFacts]:
    """The Hessian, unless it was declined or cannot be had; B_noise goes to the gradient's section."""
    from bsadvisor.advise.remarks import is_zero
    from bsadvisor.measure.curvature import CurvatureUnavailableError
    from bsadvisor.measure.curvature_stats import curvature_stats, noise_scale

    if not session.settings.curvature or session.stop.requested or is_zero(gradient):
        return None, gradient, assumptions
    session.progress(Progress(phase="curvature", done=0, total=None))
    try:
        found = _run_curvature(session, sampler, measured, gradient, assumptions, gradient_seconds, loss)
    except CurvatureUnavailableError as problem:
        return None, gradient, replace(assumptions, curvature_problem=str(problem))
    level = session.settings.confidence
    stats = curvature_stats(found, level, adaptive=session.target.preconditioner is not None)
    curved = Curved(
        stats=stats,
        noise_scale=noise_scale(found.products, level),
        escape=_with_short_run(session, sampler, measured, assumptions, stats, found.escape),
    )
    assumptions = replace(assumptions, curvature_by_differences=found.method_reason)
    gradient = replace(
        gradient,
        noise_scale=noise_scale(found.plain_products, level),
        noise_scale_gauss_newton=noise_scale(found.gauss_newton_products, level),
    )
    return curved, gradient, assumptions


def _with_short_run(
    session: Session,
    sampler: Sampler,
    measured: GradientProbe,
    assumptions: AssumptionFacts,
    stats: CurvatureStats,
    escape: EscapeDirection | None,
) -> EscapeDirection | None:
    """Where a saddle is suspected: does a run from here leave by itself?"""
    from bsadvisor.advise.saddle import is_certified, is_worth_leaving, plan_short_run
    from bsadvisor.advise.update_rule import update_rule
    from bsadvisor.measure.short_run import Steps, short_run

    about = session.target.description
    rule, rate, batch = update_rule(about.optimizer_details), about.learning_rate, about.batch_size
    if escape is None or rule is None or rate is None or batch is None or session.stop.requested:
        return escape
    if not is_certified(escape, stats) or not is_worth_leaving(escape):
        return escape
    size = min(measured.micro_batch, batch)
    steps = Steps(
        scheme=rule.scheme,
        learning_rate=rate,
        momentum=rule.momentum,
        second_beta=rule.second_beta,
        taken=about.optimizer_details.step or 0 if about.optimizer_details else 0,
        number=plan_short_run(batch),
        micro_batches=batch // size,
        micro_batch=size,
    )
    run = short_run(
        session.target,
        sampler,
        steps,
        divide_by_examples=assumptions.loss_reduction == "sum",
        evaluated=max(escape.examples // size, 2),
        seed=session.settings.seed,
        should_stop=lambda: session.stop.requested or session.watch.left() <= 0,
    )
    return replace(escape, short_run=run)


def _run_curvature(
    session: Session,
    sampler: Sampler,
    measured: GradientProbe,
    gradient: GradientStats,
    assumptions: AssumptionFacts,
    gradient_seconds: float,
    loss: float | None,
) -> MeasuredCurvature:
    """With a smaller micro-batch whenever the second graph does not fit."""
    from bsadvisor.advise.curvature_plan import plan_curvature, seconds_allowed
    from bsadvisor.advise.saddle import may_be_stuck
    from bsadvisor.advise.update_rule import update_rule
    from bsadvisor.measure.curvature import (
        CurvatureProbe,
        CurvatureUnavailableError,
        OutOfMemoryForProductsError,
    )
    from bsadvisor.measure.statistics import noise_trace_in_use

    plan = plan_curvature(
        gradient_examples=measured.accumulator.num_examples,
        available=sampler.num_certain,
        micro_batch=measured.micro_batch,
        coupled=assumptions.coupling != "none",
    )
    ends = session.watch.seconds + seconds_allowed(gradient_seconds)
    while plan.micro_batch >= 1:
        probe = CurvatureProbe(
            session.target,
            sampler,
            plan,
            divide_by_examples=assumptions.loss_reduction == "sum",
            noise_trace=noise_trace_in_use(measured),
            seconds_per_pass=gradient_seconds / measured.accumulator.num_examples,
            seed=session.settings.seed,
            may_be_stuck=may_be_stuck(
                gradient,
                loss,
                update_rule(session.target.description.optimizer_details),
                session.target.description.learning_rate,
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


def _identity(target: Target) -> str:
    """Tells one target from another, for `--resume`."""
    about = target.description
    parts = (
        about.model,
        about.trainable_parameters,
        about.checkpoint_sha256,
        about.dataset_size,
        about.dtype,
    )
    return "|".join(map(str, parts))


# --- advice -------------------------------------------------------------------------------------


def _advise(session: Session, measured: _Measured, load_seconds: float) -> Report:
    """The report of a session: decisions and remarks from what was measured."""
    from bsadvisor.advise import remarks
    from bsadvisor.advise.critical import predict_critical_batch_size
    from bsadvisor.advise.headline import headline
    from bsadvisor.advise.saddle import with_escape_steps
    from bsadvisor.advise.update_rule import limit_by_batch_size, update_rule

    target, facts, gradient = _counted(session.target, measured), session.target.facts, measured.gradient
    critical = predict_critical_batch_size(gradient.noise_scale_simple)
    rule = update_rule(target.optimizer_details)
    curvature = _with_limit(measured.curvature, rule)
    rows = _recommend(session.target, gradient, critical, limit_by_batch_size(curvature, rule))
    local = _local(measured, rows)
    saddle = _saddle(target, measured, curvature, rule)
    if saddle and saddle.verdict in ("possible", "warning") and saddle.evidence and rule:
        rows = with_escape_steps(rows, saddle.evidence, gradient, rule)
    searched = measured.line_search.direction if measured.line_search else None
    seconds = replace(measured.run.seconds_per_phase, load=load_seconds)
    run = replace(measured.run, seconds_per_phase=seconds, seconds=measured.run.seconds + load_seconds)
    findings = [
        *remarks.about_target(target, facts),
        *remarks.about_measurement(
            run, gradient, measured.assumptions, session.settings, target.dataset_size
        ),
        *remarks.about_local(searched, local),
        *remarks.about_advice(target, facts, gradient, critical, rows),
        *remarks.about_curvature(target, curvature, rows),
        *remarks.about_saddle(saddle),
    ]
    return Report(
        schema_version=SCHEMA_VERSION,
        bsadvisor_version=__version__,
        command="probe",
        target=target,
        probe=run,
        gradient=gradient,
        local=local,
        curvature=curvature,
        saddle=saddle,
        predicted_critical_batch_size=critical,
        headline=headline(
            rows,
            critical,
            batch_in_use=target.batch_size,
            has_checkpoint=target.checkpoint is not None,
        ),
        recommendations=rows,
        findings=remarks.sort_findings(findings),
    )


def _counted(target: Target, measured: _Measured) -> TargetDescription:
    """The description, with the tokens per example that the whole probe counted."""
    if measured.assumptions.loss_reduction != "token_mean":
        return target.description
    raw = measured.gradient.raw
    return replace(target.description, tokens_per_example=sum(raw.weight) / sum(raw.examples))


def _with_limit(curved: Curved | None, rule: UpdateRule | None) -> CurvatureStats | None:
    """The curvature with the learning-rate limit that it sets for the optimizer in use."""
    from bsadvisor.advise.update_rule import full_batch_limit

    if curved is None:
        return None
    largest = curved.stats.lambda_max_preconditioned or curved.stats.lambda_max
    return replace(curved.stats, learning_rate_limit=full_batch_limit(largest, rule))


def _saddle(
    target: TargetDescription, measured: _Measured, curvature: CurvatureStats | None, rule: UpdateRule | None
) -> SaddleVerdict | None:
    from bsadvisor.advise.saddle import judge_saddle

    if curvature is None or measured.curvature is None:
        return None
    return judge_saddle(
        measured.curvature.escape,
        curvature,
        measured.gradient,
        rule,
        batch_size=target.batch_size,
        learning_rate=target.learning_rate,
    )


def _recommend(
    target: Target,
    gradient: GradientStats,
    critical: CriticalBatchSize,
    limit: Callable[[int], float | None],
) -> tuple[Recommendation, ...]:
    """The ladder of pairs, where there is a critical batch size to build it on."""
    from bsadvisor.advise.pairs import PairInUse, recommend

    noise_scale = _noise_scale_of_updates(gradient)
    if critical.value is None or noise_scale.value is None:
        return ()
    about = target.description
    pair = PairInUse(
        batch_size=about.batch_size,
        learning_rate=about.learning_rate,
        optimizer=about.optimizer_details,
        devices=target.facts.num_devices,
    )
    return recommend(
        pair,
        critical=critical.value,
        noise_scale=noise_scale.value,
        dataset_size=about.dataset_size,
        limit=limit,
    )


def _local(measured: _Measured, rows: tuple[Recommendation, ...]) -> LocalStats | None:
    """The line search, freed of the noise of its own direction, and its curve over the ladder."""
    from bsadvisor.advise.local_curve import inverse, local_curve, noise_free

    found, examples, curved = measured.line_search, measured.run.examples, measured.curvature
    if found is None or found.learning_rate is None or found.loss_decrease is None:
        return None
    weighted = curved.noise_scale if curved else None
    defined = weighted is not None and weighted.value is not None
    noise_scale = weighted if weighted and defined else _noise_scale_of_updates(measured.gradient)
    best = noise_free(found.learning_rate, examples, noise_scale)
    decrease = noise_free(found.loss_decrease, examples, noise_scale)
    return LocalStats(
        direction=found.direction,
        loss=found.loss,
        max_learning_rate=best,
        quadratic_max_learning_rate=inverse(curved.stats.along_gradient) if curved else None,
        curve=local_curve(best, decrease, noise_scale, [row.batch_size for row in rows]),
        noise_scale=noise_scale,
        noise_scale_is="B_noise" if defined else "B_simple",
    )


def _noise_scale_of_updates(gradient: GradientStats) -> Estimate:
    """In the optimizer's own geometry where that was measured and resolved."""
    adaptive = gradient.noise_scale_preconditioned
    return gradient.noise_scale_simple if adaptive is None or adaptive.value is None else adaptive


# --- selftest -----------------------------------------------------------------------------------


def selftest(device: str | None, seed: int, progress: Callable[[str], None]) -> tuple[SelftestResult, ...]:
    """Problems with known answers through the real measuring code, on this machine and device."""
    from bsadvisor.measure.selftest import run_selftest
    from bsadvisor.target.device import find_device

    return run_selftest(find_device(device), seed, progress)
