"""A run's checkpoints, each probed, and what they say together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from bsadvisor import __version__
from bsadvisor.advise.pairs import PairInUse
from bsadvisor.advise.ramp import Ramp, Run, advise_ramp
from bsadvisor.advise.track_remarks import about_probes, about_run, measure_again
from bsadvisor.advise.trend import find_trends
from bsadvisor.pipeline import Probed, StopSignal, probe_target
from bsadvisor.settings import ProbeSettings, TargetRequest
from bsadvisor.target.survey import Survey, Surveyed, survey
from bsadvisor.values import (
    SCHEMA_VERSION,
    Estimate,
    NoiseTrend,
    Progress,
    ProgressCallback,
    Report,
    TrackedCheckpoint,
    TrackReport,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probed:
    """A checkpoint and its report."""

    surveyed: Surveyed
    report: Report
    loss: Estimate | None
    heldout_loss: Estimate | None


def track(
    request: TargetRequest,
    paths: Sequence[str],
    settings: ProbeSettings,
    *,
    progress: ProgressCallback,
    notify: Callable[[str], None],
    stop: StopSignal,
) -> TrackReport:
    """Probe every checkpoint of a run, the last ones last, and advise on the next run.

    Args:
        request: where the target is; each checkpoint in turn is put into it.
        paths: of the checkpoints, in any order.
        settings: the time budget is that of all probes together.

    Raises:
        BsadvisorError: the target cannot be loaded or run, or a checkpoint is not its.
        KeyboardInterrupt: stopped before a checkpoint was measured.
    """
    began = time.perf_counter()
    stop.deferred = True
    found = survey(request, paths, notify=notify)
    stop.release()
    probed = list(_probe_each(request, found, settings, began, progress, notify, stop))
    if not probed:
        raise KeyboardInterrupt
    return _report(found, probed, settings, seconds=time.perf_counter() - began)


def _probe_each(
    request: TargetRequest,
    found: Survey,
    settings: ProbeSettings,
    began: float,
    progress: ProgressCallback,
    notify: Callable[[str], None],
    stop: StopSignal,
) -> Iterator[_Probed]:
    """One after the other, each with its share of the time that is left."""
    total = len(found.checkpoints)
    for index, surveyed in enumerate(found.checkpoints):
        if stop.requested:
            return
        left = settings.time_budget - (time.perf_counter() - began)

        def tell(step: Progress, where: str = f"{index + 1}/{total} {surveyed.path}") -> None:
            progress(replace(step, phase=f"{where} {step.phase}"))

        try:
            probed = probe_target(
                replace(request, checkpoint=surveyed.path),
                replace(settings, curvature=False, time_budget=max(left / (total - index), 0.1)),
                progress=tell,
                notify=notify,
                stop=stop,
            )
        except KeyboardInterrupt:
            return
        yield _judged(surveyed, probed, settings)


def _judged(surveyed: Surveyed, probed: Probed, settings: ProbeSettings) -> _Probed:
    """With its loss on training and on held-out examples, the same ones for every checkpoint."""
    from bsadvisor.measure.heldout_loss import JudgedOn, heldout_sampler, mean_loss
    from bsadvisor.measure.sampler import Sampler

    target, report, facts = probed.target, probed.report, probed.assumptions

    def loss_on(sampler: Sampler) -> Estimate | None:
        on = JudgedOn(
            sampler=sampler,
            micro_batch=report.probe.micro_batch_size,
            confidence=settings.confidence,
            seed=settings.seed,
            reduction=facts.loss_reduction,
            couples=facts.coupling != "none",
        )
        found = mean_loss(target, on)
        return found.loss if found else None

    if target.data.size is None:  # a stream is spent by now
        loss = report.local.loss if report.local else None
    else:
        loss = loss_on(Sampler(target.data, seed=settings.seed))
    held = target.heldout
    return _Probed(
        surveyed=surveyed,
        report=report,
        loss=loss,
        heldout_loss=loss_on(heldout_sampler(held.source, seed=settings.seed)) if held else None,
    )


def _report(
    found: Survey, probed: Sequence[_Probed], settings: ProbeSettings, *, seconds: float
) -> TrackReport:
    checkpoints = tuple(_tracked(one, found) for one in probed)
    trends = find_trends(checkpoints, confidence=settings.confidence)
    last = probed[-1]
    ramp = _ramp(last, checkpoints, trends)
    return TrackReport(
        schema_version=SCHEMA_VERSION,
        bsadvisor_version=__version__,
        command="track",
        target=last.report.target,
        seed=settings.seed,
        seconds=seconds,
        checkpoints=checkpoints,
        trends=trends,
        ramp=ramp.stages,
        ramp_reason=ramp.reason,
        ramp_summary=ramp.summary,
        measure_again=measure_again(checkpoints, trends),
        findings=(
            *about_run(
                checkpoints,
                trends,
                reordered=found.reordered,
                doubles=found.doubles,
                left=len(found.checkpoints) - len(probed),
            ),
            *about_probes([one.report for one in probed]),
        ),
    )


def _tracked(one: _Probed, found: Survey) -> TrackedCheckpoint:
    report, gradient = one.report, one.report.gradient
    return TrackedCheckpoint(
        checkpoint=one.surveyed.path,
        checkpoint_sha256=one.surveyed.sha256,
        step=one.surveyed.step,
        step_from=found.step_from,
        learning_rate=one.surveyed.learning_rate,
        loss=one.loss,
        heldout_loss=one.heldout_loss,
        noise_scale_simple=gradient.noise_scale_simple,
        noise_scale_preconditioned=gradient.noise_scale_preconditioned,
        update_variance=gradient.update_noise.variance.value if gradient.update_noise else None,
        examples=report.probe.examples,
        seconds=report.probe.seconds,
    )


def _ramp(last: _Probed, checkpoints: Sequence[TrackedCheckpoint], trends: Sequence[NoiseTrend]) -> Ramp:
    about = last.report.target
    pair = PairInUse(
        batch_size=about.batch_size, learning_rate=about.learning_rate, optimizer=about.optimizer_details
    )
    return advise_ramp(
        Run(pair=pair, checkpoints=checkpoints, trends=trends, dataset_size=about.dataset_size)
    )
