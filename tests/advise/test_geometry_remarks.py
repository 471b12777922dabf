"""What is said of the optimizer's geometry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bsadvisor.advise.geometry_remarks import about_geometry
from bsadvisor.advise.remarks import about_target
from bsadvisor.values import Finding, Geometry, OptimizerDetails, TargetFacts
from tests.report.sample import UNRESOLVED, contract_report

ESTIMATED = Geometry(source="probe", examples=512, batch_size=32)


def found(facts: TargetFacts, *, checkpoint: bool = True, **gradient: Any) -> list[Finding]:
    report = contract_report()
    target = report.target if checkpoint else replace(report.target, checkpoint=None)
    return list(about_geometry(target, facts, replace(report.gradient, **gradient)))


@pytest.mark.parametrize(
    ("state", "checkpoint", "why", "advice"),
    [
        ("missing", True, "no state in the checkpoint", "save optimizer.state_dict() with the weights"),
        ("missing", False, "no state", "nothing to do"),
        ("mismatch", True, "its state does not match", "nothing to do"),
        ("not_needed", True, "it keeps no second moments", "nothing to do"),
    ],
)
def test_an_estimated_geometry_is_told_with_its_reason(
    state: Any, checkpoint: bool, why: str, advice: str
) -> None:
    (remark,) = found(TargetFacts(optimizer_state=state), checkpoint=checkpoint, geometry=ESTIMATED)
    assert remark.code == "BSA114"
    assert remark.message == (f"AdamW, {why}: its geometry was estimated from 512 examples, as at B = 32")
    assert remark.remedy.startswith(advice)


def test_a_missing_state_that_could_not_be_replaced_is_told() -> None:
    (remark,) = found(TargetFacts(optimizer_state="missing"))
    assert remark.code == "BSA106"
    assert found(TargetFacts(optimizer_state="missing"), checkpoint=False) == []


def test_a_geometry_from_the_state_needs_no_remark() -> None:
    assert found(TargetFacts(optimizer_state="loaded"), geometry=Geometry(source="state")) == []


def test_a_noise_scale_that_another_stands_in_for_is_told() -> None:
    (remark,) = found(TargetFacts(), noise_scale_preconditioned=UNRESOLVED)
    assert remark.code == "BSA221"
    assert found(TargetFacts(), noise_scale_preconditioned=UNRESOLVED, noise_scale_simple=UNRESOLVED) == []


@pytest.mark.parametrize(
    ("details", "code"),
    [
        (OptimizerDetails(family="other"), "BSA113"),
        (OptimizerDetails(family="adam", trust_ratios=True), "BSA115"),
        (OptimizerDetails(family="adam"), None),
    ],
)
def test_an_optimizer_that_is_not_known_or_does_more_is_told(
    details: OptimizerDetails, code: str | None
) -> None:
    target = replace(contract_report().target, optimizer_details=details, optimizer="mine")
    codes = {remark.code for remark in about_target(target, TargetFacts())}
    assert codes == ({code} if code else set())
