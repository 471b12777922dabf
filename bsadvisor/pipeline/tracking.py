"""A run's checkpoints, each probed, and what they say together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bsadvisor import __version__
from bsadvisor.advise.pairs import PairInUse
from bsadvisor.advise.ramp import Ramp, Run, advise_ramp
from bsadvisor.advise.track_remarks import about_probes, about_run, measure_again
from bsadvisor.advise.trend import find_trends
from bsadvisor.pipeline import StopSignal, Stopwatch
from bsadvisor.pipeline.checkpoints import ProbedCheckpoint, RunToProbe, probe_in_turn
from bsadvisor.pipeline.devices import probe_on
from bsadvisor.pipeline.late_weights import late_checkpoints, weight_average
from bsadvisor.settings import ProbeSettings, TargetRequest
from bsadvisor.target.device import accelerators
from bsadvisor.target.survey import Survey, survey
from bsadvisor.values import (
    SCHEMA_VERSION,
    NoiseTrend,
    ProgressCallback,
    TrackedCheckpoint,
    TrackReport,
    WeightAverage,
)


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
    watch = Stopwatch(budget=settings.time_budget, began=time.perf_counter())
    stop.deferred = True
    found = survey(request, paths, notify=notify)
    stop.release()
    run = RunToProbe(request=request, settings=settings, found=found)
    probed = _probe_all(run, watch, progress=progress, notify=notify, stop=stop)
    if not probed:
        raise KeyboardInterrupt
    return _report(found, probed, settings, seconds=watch.seconds)


def _probe_all(
    run: RunToProbe,
    watch: Stopwatch,
    *,
    progress: ProgressCallback,
    notify: Callable[[str], None],
    stop: StopSignal,
) -> list[ProbedCheckpoint]:
    """On every accelerator at a time, where there are several and the user wants no certain one."""
    devices = accelerators(run.request.device)
    if min(len(devices), run.total) > 1:
        return probe_on(devices, run, watch, progress=progress, notify=notify, stop=stop)
    return list(probe_in_turn(run, watch, progress=progress, notify=notify, stop=stop))


def _report(
    found: Survey, probed: Sequence[ProbedCheckpoint], settings: ProbeSettings, *, seconds: float
) -> TrackReport:
    checkpoints = tuple(_tracked(one, found) for one in probed)
    trends = find_trends(checkpoints, confidence=settings.confidence)
    last = probed[-1]
    average = weight_average(late_checkpoints(found), [one.late for one in probed if one.late])
    ramp = _ramp(last, average, checkpoints, trends)
    return TrackReport(
        schema_version=SCHEMA_VERSION,
        bsadvisor_version=__version__,
        command="track",
        target=last.report.target,
        seed=settings.seed,
        seconds=seconds,
        checkpoints=checkpoints,
        weight_average=average,
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


def _tracked(one: ProbedCheckpoint, found: Survey) -> TrackedCheckpoint:
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


def _ramp(
    last: ProbedCheckpoint,
    average: WeightAverage | None,
    checkpoints: Sequence[TrackedCheckpoint],
    trends: Sequence[NoiseTrend],
) -> Ramp:
    about = last.report.target
    pair = PairInUse(
        batch_size=about.batch_size, learning_rate=about.learning_rate, optimizer=about.optimizer_details
    )
    run = Run(
        pair=pair,
        checkpoints=checkpoints,
        trends=trends,
        weight_average=average,
        dataset_size=about.dataset_size,
    )
    return advise_ramp(run)
