"""A run's checkpoints, each probed and judged for itself, so that they can be probed anywhere and in any order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import get_args

from bsadvisor.measure.heldout_loss import MeanLoss
from bsadvisor.pipeline import Probed, StopSignal, Stopwatch, probe_target
from bsadvisor.pipeline.late_weights import Judge, LateLoss, late_checkpoints, late_loss
from bsadvisor.settings import ProbeSettings, TargetRequest
from bsadvisor.target.survey import Survey, Surveyed
from bsadvisor.values import Estimate, LossSource, Progress, ProgressCallback, Report

SHORTEST = 0.1
"""Seconds for a checkpoint, however late it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedCheckpoint:
    """A checkpoint and its report."""

    surveyed: Surveyed
    report: Report
    loss: Estimate | None
    heldout_loss: Estimate | None
    late: LateLoss | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunToProbe:
    """All that it takes to probe any checkpoint of a run."""

    request: TargetRequest
    settings: ProbeSettings
    """The time budget is that of all probes together."""
    found: Survey

    @property
    def total(self) -> int:
        """Checkpoints."""
        return len(self.found.checkpoints)

    def share(self, index: int, watch: Stopwatch, *, devices: int = 1) -> float:
        """Seconds for the next checkpoint, where so many devices take them in turn."""
        rounds = math.ceil((self.total - index) / devices)
        return max(watch.left() / rounds, SHORTEST)

    def probe(
        self,
        index: int,
        seconds: float,
        *,
        progress: ProgressCallback,
        notify: Callable[[str], None],
        stop: StopSignal,
    ) -> ProbedCheckpoint:
        """Probe one of them, in so many seconds.

        Raises:
            BsadvisorError: the target cannot be loaded or run.
            KeyboardInterrupt: stopped before it was measured.
        """
        surveyed = self.found.checkpoints[index]
        where = f"{index + 1}/{self.total} {surveyed.path}"
        probed = probe_target(
            replace(self.request, checkpoint=surveyed.path),
            replace(self.settings, curvature=False, time_budget=seconds),
            progress=lambda step: progress(_at(where, step)),
            notify=notify,
            stop=stop,
        )
        return self._judged(surveyed, probed)

    def _judged(self, surveyed: Surveyed, probed: Probed) -> ProbedCheckpoint:
        """With its losses; the last of the run with that of the averaged weights."""
        judge = Judge(probed=probed, settings=self.settings)
        losses = {of: judge.loss(of) for of in get_args(LossSource)}
        local = probed.report.local
        return ProbedCheckpoint(
            surveyed=surveyed,
            report=probed.report,
            loss=_estimate(losses["train"]) or (local.loss if local else None),
            heldout_loss=_estimate(losses["heldout"]),
            late=late_loss(
                surveyed,
                late_checkpoints(self.found),
                judge,
                known=losses[judge.loss_of],
                trust=self.request.trust_checkpoint,
            ),
        )


def probe_in_turn(
    run: RunToProbe,
    watch: Stopwatch,
    *,
    progress: ProgressCallback,
    notify: Callable[[str], None],
    stop: StopSignal,
) -> Iterator[ProbedCheckpoint]:
    """One after the other, each with its share of the time that is left; those measured, where it is stopped."""
    for index in range(run.total):
        if stop.requested:
            return
        try:
            probed = run.probe(index, run.share(index, watch), progress=progress, notify=notify, stop=stop)
        except KeyboardInterrupt:
            return
        yield probed


def _at(where: str, step: Progress) -> Progress:
    return replace(step, phase=f"{where} {step.phase}")


def _estimate(found: MeanLoss | None) -> Estimate | None:
    return found.loss if found else None
