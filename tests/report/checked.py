"""Checks to render: one that passes, one that fails in every severity, one that could not be judged."""

from __future__ import annotations

from dataclasses import replace

from bsadvisor.values import (
    SCHEMA_VERSION,
    CheckedTarget,
    CheckError,
    CheckSummary,
    Finding,
    Judgement,
    PassingRange,
    Reach,
    Report,
    RuleResult,
    Source,
    SourcedPair,
)
from tests.report.sample import contract_report

PAIR = SourcedPair(
    batch_size=4096,
    batch_size_from=Source(by="bsadvisor.yaml", file="conf/a,b:c.yaml", line=3),
    learning_rate=0.02,
    learning_rate_from=Source(by="--lr"),
)

ANCHOR = SourcedPair(
    batch_size=32,
    batch_size_from=Source(by="BATCH_SIZE in model.py", file="demo/model.py", line=18),
    learning_rate=1e-3,
    learning_rate_from=Source(by="checkpoint"),
)

TOO_MANY = RuleResult(
    rule="max_examples_over_minimum",
    code="BSA381",
    severity="error",
    message="B = 4,096 takes at least 6.39 (predicted 44.1) times the fewest examples, and 2 are allowed",
    remedy="B = 760 or less would pass",
    measured=Reach(value=44.1, low=6.39, high=342.0),
    asked=2.0,
    passes=PassingRange(setting="batch_size", low=None, high=760),
    source=PAIR.batch_size_from,
)

TOO_HIGH = RuleResult(
    rule="learning_rate",
    code="BSA383",
    severity="warning",
    message="η = 0.02 is above the range: 100 % <sure> & \x1b[31mred",
    remedy="η from 0.00168 to 0.00782 would pass",
    source=PAIR.learning_rate_from,
)

NOT_KNOWN = RuleResult(
    rule="memory",
    code="BSA385",
    severity="error",
    message="the memory that a batch takes was not measured",
    remedy="nothing to do; `memory: null` turns the rule off",
)

KEPT = RuleResult(
    rule="max_drift",
    code="BSA386",
    severity="error",
    message="the noise scale has changed by a factor of 1.1",
    remedy="nothing to do",
)

STALE = Finding(
    code="BSA391",
    severity="warning",
    message="demo/checkpoint.pt is no longer the file that this report was made from",
    remedy="probe it again: the verdict is about the weights of then",
)


def failing() -> Report:
    """An error at a line of the YAML, a warning at a flag, a rule that is not known and one that is kept."""
    return replace(
        contract_report(),
        command="check",
        findings=(STALE, *contract_report().findings),
        verdict="fail",
        violations=(TOO_HIGH, TOO_MANY),
        check=Judgement(
            pair=PAIR,
            anchor=ANCHOR,
            passed=(KEPT,),
            unknown=(NOT_KNOWN,),
            fail_on="error",
            checkpoint="changed",
        ),
    )


def passing() -> Report:
    """Nothing to say against the pair."""
    check = Judgement(pair=ANCHOR, anchor=None, passed=(KEPT,), unknown=(), fail_on="error")
    return replace(contract_report(), command="check", verdict="pass", violations=(), check=check)


def summary_of(*targets: CheckedTarget, code: int = 3) -> CheckSummary:
    """As `check` makes it."""
    return CheckSummary(
        schema_version=SCHEMA_VERSION,
        bsadvisor_version="0.1.0",
        command="check",
        verdict="fail",
        exit_code=code,
        targets=targets,
    )


def one() -> CheckSummary:
    """A single target that fails."""
    return summary_of(CheckedTarget(name="report.json", exit_code=3, report=failing(), error=None))


def three() -> CheckSummary:
    """One of each."""
    error = CheckError(message="gone.json cannot be read: No such file", remedy="check the path")
    return summary_of(
        CheckedTarget(name="report.json", exit_code=3, report=failing(), error=None),
        CheckedTarget(name="other.json", exit_code=0, report=passing(), error=None),
        CheckedTarget(name="gone.json", exit_code=4, report=None, error=error),
        code=4,
    )
