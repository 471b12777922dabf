"""A run's checkpoints, each probed, and what they say together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from bsadvisor import __version__
from bsadvisor.advise.pairs import PairInUse
from bsadvisor.advise.ramp import Ramp, Run, advise_ramp
from bsadvisor.advise.track_remarks import about_probes, about_run, measure_again
from bsadvisor.advise.trend import find_trends
from bsadvisor.measure.heldout_loss import MeanLoss
from bsadvisor.pipeline import Probed, StopSignal, probe_target
from bsadvisor.pipeline.late_weights import Judge, LateWeights
from bsadvisor.settings import ProbeSettings, TargetRequest
from bsadvisor.target.survey import Survey, Surveyed, survey
from bsadvisor.values import (
    SCHEMA_VERSION,
    Estimate,
    LossSource,
    NoiseTrend,
    Progress,
    ProgressCallback,
    Report,
    TrackedCheckpoint,
    TrackReport,
    WeightAverage,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probed:
    """A checkpoint and its report."""

    surveyed: Surveyed
    report: Report
    loss: Estimate | None
    heldout_loss: Estimate | None
    average: WeightAverage | None
    """Of the run's last checkpoints, at the very last."""


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
    total, late = len(found.checkpoints), LateWeights(found)
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
        yield _judged(surveyed, probed, settings, late)


def _judged(surveyed: Surveyed, probed: Probed, settings: ProbeSettings, late: LateWeights) -> _Probed:
    """With its losses; the last of the run with that of the averaged weights."""
    judge = Judge(probed=probed, settings=settings)
    losses = {of: judge.loss(of) for of in get_args(LossSource)}
    late.take(surveyed.path, judge, known=losses[judge.loss_of])
    local = probed.report.local
    return _Probed(
        surveyed=surveyed,
        report=probed.report,
        loss=_estimate(losses["train"]) or (local.loss if local else None),
        heldout_loss=_estimate(losses["heldout"]),
        average=late.average(judge),
    )


def _estimate(found: MeanLoss | None) -> Estimate | None:
    return found.loss if found else None


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
        weight_average=last.average,
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
    run = Run(
        pair=pair,
        checkpoints=checkpoints,
        trends=trends,
        weight_average=last.average,
        dataset_size=about.dataset_size,
    )
    return advise_ramp(run)
