"""Answers of `bsadvisor track` to render."""

from __future__ import annotations

from dataclasses import replace

from bsadvisor.advise.pairs import PairInUse
from bsadvisor.advise.ramp import Run, advise_ramp
from bsadvisor.advise.track_remarks import about_run, measure_again
from bsadvisor.advise.trend import find_trends
from bsadvisor.values import Estimate, TrackedCheckpoint, TrackReport, WeightAverage
from tests.report.sample import UNRESOLVED, contract_report

STEPS = (100, 200, 400, 600, 800, 1000)

SCATTER = (1.0, 0.7, 1.3, 1.1, 0.8, 1.2)


def _checkpoint(step: int, scatter: float, variance: float) -> TrackedCheckpoint:
    loss, scale = (step / 100) ** -0.2 * scatter**0.1, 90 * (step / 100) ** 0.8 * scatter
    return TrackedCheckpoint(
        checkpoint=f"runs/step-{step}.pt",
        checkpoint_sha256=f"{step:064}",
        step=step,
        step_from="checkpoint",
        learning_rate=1e-3,
        loss=Estimate(value=loss, low=0.95 * loss, high=1.05 * loss, confidence=0.95),
        heldout_loss=Estimate(value=1.1 * loss, low=loss, high=1.2 * loss, confidence=0.95),
        noise_scale_simple=Estimate(value=scale, low=scale / 1.5, high=scale * 2, confidence=0.95),
        noise_scale_preconditioned=None,
        update_variance=variance,
        examples=1024,
        seconds=1.5,
    )


def _tracked(variance: float, average: WeightAverage | None = None) -> TrackReport:
    checkpoints = tuple(_checkpoint(*one, variance) for one in zip(STEPS, SCATTER, strict=True))
    target = replace(contract_report().target, checkpoint="runs/step-1000.pt")
    trends = find_trends(checkpoints, confidence=0.95)
    pair = PairInUse(
        batch_size=target.batch_size,
        learning_rate=target.learning_rate,
        optimizer=target.optimizer_details,
    )
    run = Run(pair=pair, checkpoints=checkpoints, trends=trends, weight_average=average, dataset_size=60_000)
    ramp = advise_ramp(run)
    return TrackReport(
        schema_version=1,
        bsadvisor_version="0.1.0",
        command="track",
        target=target,
        seed=0,
        seconds=9.3,
        checkpoints=checkpoints,
        weight_average=average,
        trends=trends,
        ramp=ramp.stages,
        ramp_reason=ramp.reason,
        ramp_summary=ramp.summary,
        measure_again=measure_again(checkpoints, trends),
        findings=tuple(about_run(checkpoints, trends, reordered=True, doubles=(), left=0)),
    )


def track_ramp() -> TrackReport:
    """Much of the loss is noise."""
    average = WeightAverage(
        checkpoints=3, from_step=600, loss=0.55, mean_loss=0.72, loss_of="heldout", mode="eval"
    )
    return _tracked(variance=1.6e-3, average=average)


def track_none() -> TrackReport:
    """Hardly any is."""
    return _tracked(variance=1e-6)


def track_one() -> TrackReport:
    """One checkpoint without a step, whose noise scale was not resolved."""
    found = _tracked(variance=1e-6)
    last = replace(found.checkpoints[-1], step=1, step_from="order", noise_scale_simple=UNRESOLVED)
    return replace(
        found,
        checkpoints=(last,),
        trends=(),
        ramp_summary=None,
        ramp_reason="the steps of the checkpoints are not known",
        measure_again=measure_again((last,), ()),
        findings=tuple(about_run((last,), (), reordered=False, doubles=(), left=0)),
    )


TRACKED = {build.__name__: build for build in (track_ramp, track_none, track_one)}
