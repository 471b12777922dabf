"""From what was measured to the report: decisions and remarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bsadvisor import __version__
from bsadvisor.advise import remarks
from bsadvisor.advise.critical import predict_critical_batch_size
from bsadvisor.advise.dropout_remarks import about_dropout
from bsadvisor.advise.equilibrium import judge_equilibrium
from bsadvisor.advise.generalization import about_generalization, about_temperature, judge_generalization
from bsadvisor.advise.geometry_remarks import about_equilibrium, about_geometry
from bsadvisor.advise.headline import headline
from bsadvisor.advise.local_curve import inverse, local_curve
from bsadvisor.advise.measured import measured_headline, recommend_measured
from bsadvisor.advise.pairs import PairInUse, recommend
from bsadvisor.advise.rules import NoiseScales, Rung, judge_rules
from bsadvisor.advise.saddle import judge_saddle, with_escape_steps
from bsadvisor.advise.trial_remarks import about_trial
from bsadvisor.advise.update_rule import UpdateRule, full_batch_limit, limit_by_batch_size, update_rule
from bsadvisor.pipeline.curvature_phase import CurvaturePhase
from bsadvisor.pipeline.measuring import Measured
from bsadvisor.pipeline.session import Session
from bsadvisor.target.factory import Target
from bsadvisor.values import (
    SCHEMA_VERSION,
    CriticalBatchSize,
    CurvatureStats,
    Generalization,
    GradientStats,
    Headline,
    LocalStats,
    NoiseRegime,
    Recommendation,
    Report,
    RuleVerdict,
    SaddleVerdict,
    TargetDescription,
    TrialStats,
)


def advise(session: Session, measured: Measured, load_seconds: float, command: str) -> Report:
    """The report of a session: decisions and remarks from what was measured."""
    target, facts, gradient = _counted(session.target, measured), session.target.facts, measured.gradient
    critical = predict_critical_batch_size(gradient.noise_scale_simple)
    rule = update_rule(target.optimizer_details)
    curvature = _with_limit(measured.curvature, rule)
    trial = measured.trial.stats if measured.trial else None
    pair = _pair_in_use(session.target)
    limit = limit_by_batch_size(curvature, rule)
    rows = _recommend(pair, target, gradient, critical, trial, limit)
    local = _local(measured, rows)
    saddle = _saddle(target, measured, curvature, rule)
    equilibrium = judge_equilibrium(
        gradient,
        curvature,
        rule,
        batch_size=target.batch_size,
        learning_rate=facts.learning_rate_now or target.learning_rate,
    )
    if saddle and saddle.verdict in ("possible", "warning") and saddle.evidence and rule:
        rows = with_escape_steps(rows, saddle.evidence, gradient, rule)
    searched = measured.best_step.direction if measured.best_step else None
    generalization = _generalization(measured)
    seconds = replace(measured.run.seconds_per_phase, load=load_seconds)
    run = replace(measured.run, seconds_per_phase=seconds, seconds=measured.run.seconds + load_seconds)
    chosen = _headline(rows, critical, trial, pair, target, saddle)
    findings = [
        *remarks.about_target(target, facts),
        *remarks.about_measurement(
            run, gradient, measured.assumptions, session.settings, target.dataset_size
        ),
        *about_dropout(gradient, measured.assumptions, _recommended(chosen, rows)),
        *about_geometry(target, facts, gradient),
        *about_equilibrium(target, equilibrium),
        *remarks.about_local(searched, local),
        *remarks.about_advice(target, facts, gradient, critical, rows),
        *remarks.about_curvature(target, curvature, rows),
        *remarks.about_saddle(saddle),
        *about_generalization(
            measured.heldout.facts if measured.heldout else None, generalization, f"{target.example}s"
        ),
        *about_temperature(target, chosen, rows),
        *about_trial(
            trial,
            measured.trial.impossible if measured.trial else None,
            critical,
            asked=session.settings.trial.when == "always",
        ),
    ]
    return Report(
        schema_version=SCHEMA_VERSION,
        bsadvisor_version=__version__,
        command=command,
        target=target,
        probe=run,
        gradient=gradient,
        local=local,
        curvature=curvature,
        saddle=saddle,
        regime=_regime(gradient, target.batch_size),
        equilibrium=equilibrium,
        predicted_critical_batch_size=critical,
        headline=chosen,
        trial=trial,
        trial_plan=measured.trial.plan if measured.trial else None,
        recommendations=rows,
        findings=remarks.sort_findings(findings),
        generalization=generalization,
        scaling_rules=_rules(pair, gradient, rows),
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


def _generalization(measured: Measured) -> Generalization | None:
    """What was measured on held-out examples, judged."""
    phase = measured.heldout
    if phase is None or phase.stats is None:
        return None
    return replace(phase.stats, verdict=judge_generalization(phase.stats, phase.facts.shared))


def _pair_in_use(target: Target) -> PairInUse:
    about = target.description
    return PairInUse(
        batch_size=about.batch_size,
        learning_rate=about.learning_rate,
        optimizer=about.optimizer_details,
        devices=target.facts.num_devices,
    )


def _recommend(
    pair: PairInUse,
    about: TargetDescription,
    gradient: GradientStats,
    critical: CriticalBatchSize,
    trial: TrialStats | None,
    limit: Callable[[int], float | None],
) -> tuple[Recommendation, ...]:
    """The ladder of pairs: around what the trial measured, else what is predicted; else none."""
    if trial is not None:
        rows = recommend_measured(pair, trial, dataset_size=about.dataset_size, limit=limit)
        if rows:
            return rows
    noise_scale = gradient.own_noise_scale
    if critical.value is None or noise_scale.value is None:
        return ()
    return recommend(
        pair,
        critical=critical.value,
        noise_scale=noise_scale.value,
        dataset_size=about.dataset_size,
        limit=limit,
    )


def _regime(gradient: GradientStats, batch_size: int | None) -> NoiseRegime | None:
    """By the noise scale that judges the scaling rules."""
    return None if batch_size is None else NoiseScales(own=gradient.own_noise_scale).regime_at(batch_size)


def _rules(
    pair: PairInUse, gradient: GradientStats, rows: tuple[Recommendation, ...]
) -> tuple[RuleVerdict, ...]:
    """Every named scaling rule at every recommended batch size."""
    rungs = [
        Rung(batch_size=row.batch_size, factor=row.learning_rate_factor, limit=row.learning_rate_limit)
        for row in rows
    ]
    noise = NoiseScales(own=gradient.own_noise_scale, by_curvature=gradient.noise_scale)
    return judge_rules(pair, noise, rungs)


def _headline(
    rows: tuple[Recommendation, ...],
    critical: CriticalBatchSize,
    trial: TrialStats | None,
    pair: PairInUse,
    about: TargetDescription,
    saddle: SaddleVerdict | None,
) -> Headline:
    """From the trial where it says something, else from the prediction."""
    has_checkpoint = about.checkpoint is not None
    at_saddle = saddle is not None and saddle.verdict == "warning"
    if trial is not None and not at_saddle:
        found = measured_headline(rows, trial, pair, has_checkpoint=has_checkpoint)
        if found is not None:
            return found
    return headline(
        rows,
        critical,
        batch_in_use=about.batch_size,
        has_checkpoint=has_checkpoint,
        at_saddle=at_saddle,
    )


def _recommended(chosen: Headline, rows: tuple[Recommendation, ...]) -> Recommendation | None:
    """The row of the headline."""
    return next((row for row in rows if row.batch_size == chosen.batch_size), None)


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
