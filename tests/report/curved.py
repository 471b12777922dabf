"""Reports with curvature: at a saddle, perhaps at one, at none; measured in full and in part."""

from __future__ import annotations

from dataclasses import replace

from bsadvisor.values import (
    CurvatureStats,
    Equilibrium,
    EscapeDirection,
    Estimate,
    Finding,
    OptimizerDetails,
    Report,
    SaddleVerdict,
    ShortRun,
    SignalToNoise,
    SkippedPart,
    Verdict,
)
from tests.report.sample import UNRESOLVED, contract_report, estimate


def at_99(value: float, reach: float) -> Estimate:
    """Each end at 99 %."""
    return Estimate(value=value, low=value - reach, high=value + reach, confidence=0.99)


def curvature() -> CurvatureStats:
    """All of it, for Adam."""
    return CurvatureStats(
        along_gradient=estimate(2.1),
        lambda_max=Estimate(value=3.19, low=3.06, high=3.46, confidence=0.95),
        lambda_max_preconditioned=Estimate(value=162.0, low=154.0, high=184.0, confidence=0.95),
        lambda_min=Estimate(value=-0.076, low=-0.40, high=-0.0059, confidence=0.95),
        trace=estimate(1200.0),
        learning_rate_limit=Estimate(value=0.235, low=0.207, high=0.247, confidence=0.95),
        method="exact",
        direction_examples=128,
        certificate_examples=512,
        iterations=24,
        residual=0.008,
        skipped=(),
    )


def escape(run: ShortRun | None) -> EscapeDirection:
    """A direction along which much is to be gained."""
    return EscapeDirection(
        curvature=at_99(-2.31, 0.24),
        parameter_curvature=at_99(-0.0642, 0.0067),
        gradient=at_99(2.1e-4, 1.9e-4),
        noise=3.1e-4,
        isotropic_noise=2.2e-4,
        loss=0.214,
        loss_drop=at_99(0.0514, 0.0021),
        escaped_drop=0.0107,
        distance=0.31,
        lowest_at=1.4,
        examples=512,
        short_run=run,
    )


def verdict(
    kind: Verdict, advice: str, *, steps: float | None = None, evidence: EscapeDirection | None = None
) -> SaddleVerdict:
    """With the evidence that it rests on."""
    return SaddleVerdict(
        verdict=kind,
        curvature=evidence.parameter_curvature if evidence else None,
        escape_steps=steps,
        noise_share=0.98 if steps else None,
        loss_drop=evidence.loss_drop if evidence else None,
        gradient_steps=90_000.0 if steps else None,
        examples_needed=None,
        advice=advice,
        evidence=evidence,
    )


COORDINATES = SignalToNoise(
    batch_size=32,
    coordinates=2410,
    noise_dominated=Estimate(value=0.83, low=0.71, high=0.97, confidence=0.95),
    signal_dominated=Estimate(value=0.004, low=0.0, high=0.02, confidence=0.95),
)

SETTLED = Equilibrium(
    noise_scale=Estimate(value=190.0, low=150.0, high=240.0, confidence=0.95),
    ratio=Estimate(value=1.1, low=0.71, high=1.7, confidence=0.95),
    batch_size=32,
    learning_rate=1e-3,
    verdict="run",
)


def no_saddle() -> Report:
    """B_noise resolved, and negative curvature that holds nobody up."""
    report = contract_report()
    weighted = Estimate(value=107.0, low=75.0, high=185.0, confidence=0.95)
    advice = "negative curvature, as in almost every network; it does not hold the run up"
    seconds = replace(report.probe.seconds_per_phase, curvature=4.1)
    return replace(
        report,
        probe=replace(report.probe, seconds=10.3, seconds_per_phase=seconds),
        gradient=replace(report.gradient, noise_scale=weighted, signal_to_noise=COORDINATES),
        regime="between",
        curvature=curvature(),
        saddle=verdict("note", advice, evidence=escape(None)),
        equilibrium=SETTLED,
    )


def at_a_saddle() -> Report:
    """The warning, with a run that was tried and the steps that every pair takes to leave."""
    report = no_saddle()
    run = ShortRun(
        steps=100,
        loss_drop=at_99(0.0004, 0.0003),
        kicked_loss_drop=at_99(0.0487, 0.0022),
        gain=at_99(0.0483, 0.0021),
        widest_drop=at_99(0.0004, 0.0003),
        lasting_gain=at_99(0.0421, 0.0019),
    )
    advice = "gradient noise leads out: B = 8 at this learning rate leaves in about 770 instead of 970 steps"
    finding = Finding(
        code="BSA401",
        severity="warning",
        message="these weights sit at a saddle that the pair in use does not leave soon",
        remedy=advice,
        evidence={"advice": advice},
    )
    steps = (970.0, 720.0, 540.0, 410.0, 318.0)
    rows = tuple(
        replace(row, escape_steps=until) for row, until in zip(report.recommendations, steps, strict=True)
    )
    return replace(
        report,
        recommendations=rows,
        saddle=verdict("warning", advice, steps=970.0, evidence=escape(run)),
        findings=(finding, *report.findings),
    )


def perhaps_at_a_saddle() -> Report:
    """SGD, no run tried, B_noise not defined, and no pairs to choose from."""
    report = contract_report()
    found = replace(escape(None), curvature=at_99(-1.216, 0.06), parameter_curvature=at_99(-1.216, 0.06))
    stats = replace(
        curvature(),
        lambda_max=Estimate(value=1.216, low=-0.2, high=1.313, confidence=0.95),
        lambda_max_preconditioned=None,
        lambda_min=Estimate(value=-1.216, low=-1.313, high=-1.165, confidence=0.95),
        learning_rate_limit=Estimate(value=1.64, low=1.52, high=None, confidence=0.95),
        skipped=(SkippedPart(part="a thorough search for a way out of a saddle", seconds=38.2),),
    )
    advice = "the batch size hardly matters here: η = 0.01 leaves in about 570 instead of 1,100 steps"
    finding = Finding(
        code="BSA402",
        severity="note",
        message="these weights may sit at a saddle that the pair in use does not leave soon",
        remedy=advice,
    )
    return replace(
        report,
        target=replace(
            report.target, optimizer="SGD", optimizer_details=OptimizerDetails(family="sgd", momentum=0.9)
        ),
        gradient=replace(
            report.gradient,
            noise_scale_preconditioned=None,
            noise_scale=UNRESOLVED,
            noise_scale_gauss_newton=Estimate(value=38.8, low=33.8, high=45.4, confidence=0.95),
        ),
        local=None,
        recommendations=(),
        headline=replace(
            report.headline,
            action="none",
            batch_size=None,
            reason="the gradient was not resolved from its noise",
        ),
        curvature=stats,
        saddle=verdict("possible", advice, steps=1100.0, evidence=found),
        findings=(finding,),
    )


def little_measured() -> Report:
    """By differences, B_noise bounded from below only, and most of the rest left out for lack of time."""
    report = contract_report()
    stats = replace(
        curvature(),
        lambda_max=Estimate(value=3.19, low=3.06, high=None, confidence=0.95),
        lambda_max_preconditioned=None,
        lambda_min=Estimate(value=0.02, low=None, high=0.11, confidence=0.95),
        learning_rate_limit=None,
        method="finite_differences",
        skipped=(
            SkippedPart(part="a thorough search for a way out of a saddle", seconds=37.1),
            SkippedPart(part="a thorough search for a way out of a saddle, half as large", seconds=18.6),
            SkippedPart(part="lambda_max and lambda_min", seconds=5.7),
        ),
    )
    return replace(
        report,
        gradient=replace(report.gradient, noise_scale=replace(UNRESOLVED, low=820.0)),
        curvature=stats,
        saddle=verdict("none", "no direction of certified negative curvature"),
    )


def unresolved() -> Report:
    """Negative curvature on too few examples to certify it."""
    report = no_saddle()
    found = replace(escape(None), parameter_curvature=at_99(-0.064, 0.11))
    advice = "the sample is too small to certify the negative curvature that it shows"
    finding = Finding(
        code="BSA403",
        severity="info",
        message="negative curvature along which the loss falls was found, but not certified on 512 examples",
        remedy="about 1,073 examples would do, if the estimate holds; a later checkpoint may show it, too",
    )
    saddle = replace(verdict("unresolved", advice, steps=970.0, evidence=found), examples_needed=1073)
    return replace(report, saddle=saddle, findings=(finding,))


def piecewise_linear() -> Report:
    """A loss without second derivatives but zero."""
    report = contract_report()
    zero = Estimate(value=0.0, low=0.0, high=0.0, confidence=0.95)
    nothing = Estimate(value=None, low=None, high=None, confidence=0.95)
    return replace(
        report,
        gradient=replace(report.gradient, noise_scale=nothing),
        curvature=replace(
            curvature(),
            along_gradient=zero,
            lambda_max=zero,
            lambda_max_preconditioned=None,
            lambda_min=zero,
            trace=zero,
            learning_rate_limit=nothing,
        ),
        saddle=verdict("none", "no direction of certified negative curvature"),
    )
