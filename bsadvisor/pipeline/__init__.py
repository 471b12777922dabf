"""Each journey on half a page: request -> target -> measurements -> advice -> report.

`session` is what the phases share; `measuring` runs them (`gradient_phase`, `curvature_phase`, `trial_phase`), and
`advising` makes a report of what they found. Those load torch: they are imported inside the functions
here, so that `--help`, `show` and `explain` stay quick.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bsadvisor.pipeline.session import Session, StopSignal, Stopwatch
from bsadvisor.settings import ProbeSettings, ScaleRequest, TargetRequest
from bsadvisor.values import AssumptionFacts, ProgressCallback, Report, ScaleAdvice, SelftestResult

if TYPE_CHECKING:
    from bsadvisor.target.factory import Target

__all__ = ["Session", "StopSignal", "Stopwatch", "probe", "scale", "selftest"]


def probe(
    request: TargetRequest,
    settings: ProbeSettings,
    *,
    progress: ProgressCallback,
    notify: Callable[[str], None],
    stop: StopSignal,
    resume: Path | None = None,
    sidecar: Path | None = None,
    trial_log: Path | None = None,
    resumed_trial_log: Path | None = None,
    command: str = "probe",
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
        trial_log: where the finished heats of an unfinished trial are kept.
        resumed_trial_log: of an earlier trial, to go on from.
        command: that was typed.

    Raises:
        BsadvisorError: the target cannot be loaded or run.
        KeyboardInterrupt: stopped before anything was measured.
    """
    return probe_target(
        request,
        settings,
        progress=progress,
        notify=notify,
        stop=stop,
        resume=resume,
        sidecar=sidecar,
        trial_log=trial_log,
        resumed_trial_log=resumed_trial_log,
        command=command,
    ).report


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """A target that was measured."""

    target: Target
    report: Report
    assumptions: AssumptionFacts


def probe_target(
    request: TargetRequest,
    settings: ProbeSettings,
    *,
    progress: ProgressCallback,
    notify: Callable[[str], None],
    stop: StopSignal,
    resume: Path | None = None,
    sidecar: Path | None = None,
    trial_log: Path | None = None,
    resumed_trial_log: Path | None = None,
    command: str = "probe",
    judging: bool = False,
) -> Probed:
    """As `probe`, for those who need the target too; with `judging`, not from the request's pair."""
    stop.deferred = True  # an import of torch must not be torn
    from bsadvisor.measure.state import read_saved_probe
    from bsadvisor.pipeline.advising import advise
    from bsadvisor.pipeline.measuring import measure, with_trial
    from bsadvisor.pipeline.trial_log import TrialLog
    from bsadvisor.target.factory import load

    stop.release()
    saved = read_saved_probe(resume) if resume else None
    if saved:
        settings = replace(settings, seed=saved.seed, micro_batch=saved.micro_batch)
    began = time.perf_counter()
    target = load(request, notify=notify, judging=judging)
    loaded = time.perf_counter()
    watch = Stopwatch(budget=settings.time_budget, began=loaded)
    session = Session(
        target=target, settings=settings, watch=watch, progress=progress, stop=stop, notify=notify
    )
    stop.deferred = True
    try:
        measured = measure(session, saved, sidecar)
        if settings.trial.when != "never" and not stop.requested:
            log = TrialLog(trial_log, session.trial_identity, resumed=resumed_trial_log)
            measured = with_trial(session, measured, log)
    finally:
        stop.deferred = False
    report = advise(session, measured, load_seconds=loaded - began, command=command)
    return Probed(target=target, report=report, assumptions=measured.assumptions)


def scale(request: ScaleRequest, report: Report | None) -> ScaleAdvice:
    """The learning rate at another batch size, with what a report knows of the noise; loads no torch.

    Raises:
        UsageError: neither the request nor the report says where to start from.
    """
    from bsadvisor.pipeline.scaling import answer

    return answer(request, report)


def selftest(device: str | None, seed: int, progress: Callable[[str], None]) -> tuple[SelftestResult, ...]:
    """Problems with known answers through the real measuring code, on this machine and device."""
    from bsadvisor.measure.selftest import run_selftest
    from bsadvisor.target.device import find_device

    return run_selftest(find_device(device), seed, progress)
