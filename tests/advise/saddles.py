"""What is measured at a saddle, in numbers that a test can choose."""

from __future__ import annotations

from dataclasses import replace

from bsadvisor.values import CurvatureStats, EscapeDirection, Estimate, GradientStats, ShortRun
from tests.report import curved
from tests.report.sample import contract_report


def within(value: float, reach: float, confidence: float = 0.99) -> Estimate:
    """A symmetric interval."""
    return Estimate(value=value, low=value - reach, high=value + reach, confidence=confidence)


def curvature(
    *, largest: float = 2.0, preconditioned: float | None = None, trace: float | None = 8.0
) -> CurvatureStats:
    """A spectrum that reaches below zero, and no learning-rate limit yet."""
    return replace(
        curved.curvature(),
        lambda_max=within(largest, 0.1),
        lambda_max_preconditioned=None if preconditioned is None else within(preconditioned, 0.1),
        lambda_min=within(-1.0, 0.1),
        trace=None if trace is None else within(trace, 0.1),
        learning_rate_limit=None,
    )


def gradient(squared_norm: float = 1e-9) -> GradientStats:
    """Hardly any, in the geometry of SGD."""
    return replace(
        contract_report().gradient,
        squared_norm=within(squared_norm, squared_norm / 10),
        squared_norm_preconditioned=None,
    )


def escape(
    *,
    bend: float = -1.0,
    reach: float = 0.1,
    slope: float = 0.0,
    noise: float = 1e-4,
    drop: float = 0.4,
    loss: float = 1.0,
    run: ShortRun | None = None,
    hurried: ShortRun | None = None,
) -> EscapeDirection:
    """A direction along which the loss bends down, by default with gradient noise as the only way out."""
    return EscapeDirection(
        curvature=within(bend, reach),
        parameter_curvature=within(bend, reach),
        gradient=within(slope, abs(slope) / 10),
        noise=noise,
        isotropic_noise=1e-4,
        loss=loss,
        loss_drop=within(drop, 0.01),
        escaped_drop=0.05 if drop > 0 else None,
        distance=0.3 if drop > 0 else None,
        lowest_at=1.0 if drop > 0 else None,
        examples=512,
        short_run=run,
        hurried_run=hurried,
    )


def run(
    *,
    stays: Estimate,
    kicked: Estimate,
    gain: Estimate | None = None,
    widest: Estimate | None = None,
    steps: int = 100,
) -> ShortRun:
    """A run that was tried; by default the kick gains all that it did not gain before, and keeps it."""
    gain = gain or kicked
    return ShortRun(
        steps=steps,
        loss_drop=stays,
        kicked_loss_drop=kicked,
        gain=gain,
        widest_drop=widest or stays,
        lasting_gain=gain,
    )


STUCK = run(stays=within(0.001, 0.002), kicked=within(0.3, 0.02))
"""Surely so."""
