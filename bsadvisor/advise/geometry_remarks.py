"""What to know of the optimizer's own geometry: where it came from, and whether its noise was resolved."""

from __future__ import annotations

from collections.abc import Iterator

from bsadvisor.findings import finding
from bsadvisor.values import Equilibrium, Finding, GradientStats, TargetDescription, TargetFacts


def about_geometry(
    target: TargetDescription, facts: TargetFacts, gradient: GradientStats
) -> Iterator[Finding]:
    """Findings on D, where the optimizer has one."""
    geometry, missing = gradient.geometry, facts.optimizer_state == "missing"
    estimated = geometry is not None and geometry.source == "probe"
    if missing and target.checkpoint is not None and not estimated:
        yield finding("BSA106", optimizer=target.optimizer)
    if geometry is not None and estimated:
        yield finding(
            "BSA114",
            optimizer=target.optimizer,
            why=_why(target, facts),
            examples=geometry.examples,
            batch_size=geometry.batch_size,
            advice=_advice(target, facts),
        )
    own = gradient.noise_scale_preconditioned
    if own is not None and own.value is None and gradient.noise_scale_simple.value is not None:
        yield finding("BSA221", optimizer=target.optimizer)


def about_equilibrium(target: TargetDescription, found: Equilibrium | None) -> Iterator[Finding]:
    """Where the noise scale is that of the run; before its first step, there is none."""
    if (
        target.checkpoint is None
        or found is None
        or found.verdict != "run"
        or found.noise_scale.value is None
    ):
        return
    yield finding(
        "BSA223",
        batch_size=found.batch_size,
        learning_rate=found.learning_rate,
        own=found.noise_scale.value,
        ratio=found.ratio.value,
    )


def _why(target: TargetDescription, facts: TargetFacts) -> str:
    if facts.optimizer_state == "mismatch":
        return "its state does not match"
    if facts.optimizer_state == "missing":
        return "no state in the checkpoint" if target.checkpoint else "no state"
    return "it keeps no second moments"


def _advice(target: TargetDescription, facts: TargetFacts) -> str:
    if facts.optimizer_state == "missing" and target.checkpoint is not None:
        return "save optimizer.state_dict() with the weights to have it read instead"
    return "nothing to do"
