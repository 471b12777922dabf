"""The rule about the noise scale against an older report of the same target."""

from __future__ import annotations

from pathlib import PurePath

from bsadvisor.advise.check.outcome import Case, Outcome, at_most, likely, times
from bsadvisor.advise.check.reach import factor_between
from bsadvisor.errors import UsageError
from bsadvisor.values import CheckRule, Reach, Report, TargetDescription


def judge_drift(rule: CheckRule, report: Report, baseline: Report) -> Outcome:
    """By what factor B_simple has changed, at the ends of both intervals that are nearest."""
    assert isinstance(rule.value, (int, float))
    measured = factor_between(report.gradient.noise_scale_simple, baseline.gradient.noise_scale_simple)
    case = Case(rule=rule, asked=float(rule.value), source=rule.source, measured=measured)
    match at_most(measured, float(rule.value)):
        case "fail":
            return case.failed(None, factor=_least(measured), allowed=f"{rule.value:g}")
        case "pass":
            return case.passed(f"the noise scale has changed by a factor of {likely(measured)}")
        case _:
            return case.unknown(
                "the noise scale of one of the two reports is not bounded", "probe more examples"
            )


def refuse_another_target(report: Report, baseline: Report) -> None:
    """A baseline is of the same model, whatever its checkpoint and wherever its folder."""
    ours, theirs = report.target, baseline.target
    if _identity(ours) != _identity(theirs):
        raise UsageError(
            f"the baseline is of another target: {_described(theirs)}, and not {_described(ours)}",
            "give --baseline an older report of the same model",
        )


def _identity(about: TargetDescription) -> tuple[str, int, int]:
    return PurePath(about.model).name, about.parameters, about.trainable_parameters


def _described(about: TargetDescription) -> str:
    return f"{about.model} with {about.trainable_parameters:,} trainable parameters"


def _least(measured: Reach) -> str:
    value = "" if measured.value is None else f" (measured {times(measured.value)})"
    return f"at least {times(measured.low or 1.0)}{value}"
