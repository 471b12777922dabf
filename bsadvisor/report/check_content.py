"""What a check says, in words, before any layout: shared by all of its formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bsadvisor.report import numbers
from bsadvisor.settings import RuleSeverity
from bsadvisor.values import CheckedTarget, CheckSummary, Finding, Report, RuleResult, Source, SourcedPair

RANK: dict[RuleSeverity, int] = {"note": 0, "warning": 1, "error": 2}

STATES = ("fail", "pass", "unknown", "not judged")

_ABOUT_THE_REPORT = ("BSA391", "BSA392", "BSA393")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What became of one rule."""

    kind: Literal["error", "warning", "note", "unknown", "pass"]
    """A severity is that of a violation."""
    fails: bool
    """Whether it makes the check fail."""
    result: RuleResult


def alone(report: Report) -> CheckSummary:
    """The summary of a single report that was judged."""
    assert report.verdict is not None
    target = CheckedTarget(name=report.target.model, exit_code=0, report=report, error=None)
    return CheckSummary(
        schema_version=report.schema_version,
        bsadvisor_version=report.bsadvisor_version,
        command=report.command,
        verdict=report.verdict,
        exit_code=0,
        targets=(target,),
    )


def state(target: CheckedTarget) -> str:
    """One of `STATES`."""
    report = target.report
    return report.verdict if report is not None and report.verdict is not None else "not judged"


def lines(report: Report) -> list[Line]:
    """The most severe violations first, then what is unknown, then what passed."""
    assert report.check is not None
    least, violations = RANK[report.check.fail_on], report.violations or ()
    broken = sorted(violations, key=lambda found: -RANK[found.severity])
    return [
        *(Line(kind=v.severity, fails=RANK[v.severity] >= least, result=v) for v in broken),
        *(Line(kind="unknown", fails=False, result=result) for result in report.check.unknown),
        *(Line(kind="pass", fails=False, result=result) for result in report.check.passed),
    ]


def remarks(report: Report) -> list[Finding]:
    """What is wrong with the report itself; all other findings are shown by `bsadvisor show`."""
    return [found for found in report.findings if found.code in _ABOUT_THE_REPORT]


def judged_pair(report: Report) -> str:
    """`B = 4,096 (--batch-size)   η = 1.0e-2 (bsadvisor.yaml:4)`."""
    assert report.check is not None
    return _pair(report.check.pair) or "no pair"


def starting_pair(report: Report) -> str:
    """Where the advice on the learning rate starts; empty where there is no such pair."""
    assert report.check is not None
    return _pair(report.check.anchor) if report.check.anchor else ""


def place(source: Source | None) -> tuple[str, int] | None:
    """File and line, where both are known."""
    return (source.file, source.line) if source and source.file and source.line else None


def what_to_do(line: Line) -> str:
    """Nothing where a rule passed."""
    return "" if line.kind == "pass" else line.result.remedy


def tally(summary: CheckSummary) -> str:
    """`3 targets: 1 fail, 1 pass, 1 not judged`."""
    counts = Counter(map(state, summary.targets))
    parts = (f"{counts[name]} {name}" for name in STATES if counts[name])
    return f"{numbers.counted(len(summary.targets), 'target')}: {', '.join(parts)}"


def _pair(pair: SourcedPair) -> str:
    return "   ".join(_halves(pair))


def _halves(pair: SourcedPair) -> Iterator[str]:
    if pair.batch_size is not None:
        yield f"B = {numbers.integer(pair.batch_size)}{_by(pair.batch_size_from)}"
    if pair.learning_rate is not None:
        yield f"η = {numbers.given_learning_rate(pair.learning_rate)}{_by(pair.learning_rate_from)}"


def _by(source: Source | None) -> str:
    if source is None:
        return ""
    where = place(source)
    return f" ({where[0]}:{where[1]})" if where else f" ({source.by})"
