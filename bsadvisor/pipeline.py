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
    Estimate,
    GradientStats,
    LocalStats,
    ProbeRun,
    ProbeSettings,
    Progress,
    ProgressCallback,
    Recommendation,
    Report,
    SecondsPerPhase,
    SelftestResult,
    StoppedBy,
    TargetDescription,
    TargetRequest,
)

if TYPE_CHECKING:
    from bsadvisor.advise.rounds import Available
    from bsadvisor.measure.gradients import GradientProbe
    from bsadvisor.measure.line_search import LineSearch
    from bsadvisor.measure.sampler import Sampler
    from bsadvisor.measure.state import SavedProbe
    from bsadvisor.target.factory import Target

GRADIENT_SHARE = 0.8
"""Of the time budget; the rest is for what follows the gradient."""

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
    seconds = SecondsPerPhase(gradient=gradient_seconds, line_search=watch.seconds - gradient_seconds)
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
            time_left=lambda: session.watch.left(GRADIENT_SHARE),
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

    target, facts, gradient = _counted(session.target, measured), session.target.facts, measured.gradient
    critical = predict_critical_batch_size(gradient.noise_scale_simple)
    rows = _recommend(session.target, gradient, critical)
    local = _local(measured, rows)
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
    ]
    return Report(
        schema_version=SCHEMA_VERSION,
        bsadvisor_version=__version__,
        command="probe",
        target=target,
        probe=run,
        gradient=gradient,
        local=local,
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
    has_tokens = target.description.tokens_per_example is not None
    if not has_tokens or measured.assumptions.loss_reduction != "token_mean":
        return target.description
    raw = measured.gradient.raw
    return replace(target.description, tokens_per_example=sum(raw.weight) / sum(raw.examples))


def _recommend(
    target: Target, gradient: GradientStats, critical: CriticalBatchSize
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
        pair, critical=critical.value, noise_scale=noise_scale.value, dataset_size=about.dataset_size
    )


def _local(measured: _Measured, rows: tuple[Recommendation, ...]) -> LocalStats | None:
    """The line search, freed of the noise of its own direction, and its curve over the ladder."""
    from bsadvisor.advise.local_curve import local_curve, noise_free

    found, examples = measured.line_search, measured.run.examples
    if found is None or found.learning_rate is None or found.loss_decrease is None:
        return None
    noise_scale = _noise_scale_of_updates(measured.gradient)
    best = noise_free(found.learning_rate, examples, noise_scale)
    decrease = noise_free(found.loss_decrease, examples, noise_scale)
    return LocalStats(
        direction=found.direction,
        loss=found.loss,
        max_learning_rate=best,
        quadratic_max_learning_rate=None,
        curve=local_curve(best, decrease, noise_scale, [row.batch_size for row in rows]),
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
