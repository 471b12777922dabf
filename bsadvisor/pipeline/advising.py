"""From what was measured to the report: decisions and remarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bsadvisor import __version__
from bsadvisor.advise import remarks
from bsadvisor.advise.critical import predict_critical_batch_size
from bsadvisor.advise.headline import headline
from bsadvisor.advise.local_curve import inverse, local_curve
from bsadvisor.advise.pairs import PairInUse, recommend
from bsadvisor.advise.saddle import judge_saddle, with_escape_steps
from bsadvisor.advise.update_rule import (
    UpdateRule,
    full_batch_limit,
    limit_by_batch_size,
    noise_scale_of_updates,
    update_rule,
)
from bsadvisor.pipeline.curvature_phase import CurvaturePhase
from bsadvisor.pipeline.measuring import Measured
from bsadvisor.pipeline.session import Session
from bsadvisor.target.factory import Target
from bsadvisor.values import (
    SCHEMA_VERSION,
    CriticalBatchSize,
    CurvatureStats,
    GradientStats,
    LocalStats,
    Recommendation,
    Report,
    SaddleVerdict,
    TargetDescription,
)


def advise(session: Session, measured: Measured, load_seconds: float) -> Report:
    """The report of a session: decisions and remarks from what was measured."""
    target, facts, gradient = _counted(session.target, measured), session.target.facts, measured.gradient
    critical = predict_critical_batch_size(gradient.noise_scale_simple)
    rule = update_rule(target.optimizer_details)
    curvature = _with_limit(measured.curvature, rule)
    rows = _recommend(session.target, gradient, critical, limit_by_batch_size(curvature, rule))
    local = _local(measured, rows)
    saddle = _saddle(target, measured, curvature, rule)
    if saddle and saddle.verdict in ("possible", "warning") and saddle.evidence and rule:
        rows = with_escape_steps(rows, saddle.evidence, gradient, rule)
    searched = measured.best_step.direction if measured.best_step else None
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
            at_saddle=saddle is not None and saddle.verdict == "warning",
        ),
        recommendations=rows,
        findings=remarks.sort_findings(findings),
    )


def _counted(target: Target, measured: Measured) -> TargetDescription:
    """The description, with the tokens per example that the whole probe counted."""
    has_tokens = target.description.tokens_per_example is not None
    if not has_tokens or measured.assumptions.loss_reduction != "token_mean":
        return target.description
    raw = measured.gradient.raw
    return replace(target.description, tokens_per_example=sum(raw.weight) / sum(raw.examples))


def _with_limit(curved: CurvaturePhase | None, rule: UpdateRule | None) -> CurvatureStats | None:
    """The curvature with the learning-rate limit that it sets for the optimizer in use."""
    if curved is None:
        return None
    largest = curved.stats.own_lambda_max
    return replace(curved.stats, learning_rate_limit=full_batch_limit(largest, rule))


def _saddle(
    target: TargetDescription, measured: Measured, curvature: CurvatureStats | None, rule: UpdateRule | None
) -> SaddleVerdict | None:
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
    noise_scale = noise_scale_of_updates(gradient)
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


def _local(measured: Measured, rows: tuple[Recommendation, ...]) -> LocalStats | None:
    """The best single step, over the ladder too."""
    found, curved = measured.best_step, measured.curvature
    if found is None:
        return None
    curve = local_curve(found.at, [row.batch_size for row in rows])
    best = found.noise_free[0]
    if best.value is None and all(point.learning_rate.value is None for point in curve):
        return None
    return LocalStats(
        direction=found.direction,
        loss=found.loss,
        max_learning_rate=best,
        quadratic_max_learning_rate=inverse(curved.stats.along_gradient) if curved else None,
        curve=curve,
        noise_scale=found.noise_scale,
    )
