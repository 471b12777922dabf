"""A check as workflow commands: GitHub shows each beside the line that set the value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bsadvisor.report import check_content, content
from bsadvisor.settings import RuleSeverity
from bsadvisor.values import CheckedTarget, CheckSummary, Report

_LEVELS: dict[RuleSeverity, str] = {"note": "notice", "warning": "warning", "error": "error"}


def to_github(summary: CheckSummary) -> str:
    """A line per violation, and one per target with its verdict."""
    title = f"bsadvisor {summary.bsadvisor_version}"
    return "".join(line for target in summary.targets for line in _target(target, title))


def _target(target: CheckedTarget, title: str) -> Iterator[str]:
    report, error = target.report, target.error
    if error is not None:
        yield _command("error", {"title": title}, f"{_named(target.name, error.message)}\n{error.remedy}")
    if report is not None:
        told = f"{target.name}: {report.verdict}, {check_content.judged_pair(report)}{_not_known(report)}"
        yield _command("notice", {"title": title}, told)
        yield from _annotations(report)


def _named(name: str, message: str) -> str:
    """Most errors name the file themselves."""
    return message if name in message else f"{name}: {message}"


def _not_known(report: Report) -> str:
    unknown = [line.result.rule for line in check_content.lines(report) if line.kind == "unknown"]
    return f"\nnot known: {', '.join(unknown)}" if unknown else ""


def _annotations(report: Report) -> Iterator[str]:
    for result in report.violations or ():
        where = check_content.place(result.source)
        place = {"file": where[0], "line": str(where[1])} if where else {}
        about = {**place, "title": f"{result.code}: {result.rule}"}
        yield _command(_LEVELS[result.severity], about, f"{result.message}\n{result.remedy}")
    for remark in check_content.remarks(report):
        about = {"title": remark.code}
        yield _command("warning", about, f"{remark.message}\n{remark.remedy}")


def _command(name: str, properties: Mapping[str, str], message: str) -> str:
    """`::error file=a.yaml,line=3,title=...::message`."""
    listed = ",".join(f"{key}={_property(content.printable(value))}" for key, value in properties.items())
    said = "\n".join(map(content.printable, message.split("\n")))
    return f"::{name} {listed}::{_data(said)}\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
