"""A check for a pull request or a job summary."""

from __future__ import annotations

from collections.abc import Iterator

from bsadvisor.report import check_content
from bsadvisor.report.markdown import escaped
from bsadvisor.values import CheckedTarget, CheckSummary, Report


def to_markdown(summary: CheckSummary) -> str:
    """A heading and a table per target, in GitHub's Markdown."""
    title = f"bsadvisor {summary.bsadvisor_version} check"
    if len(summary.targets) > 1:
        title += f" · {check_content.tally(summary)}"
    parts = [escaped(title), *(part for target in summary.targets for part in _target(target))]
    return "\n\n".join(parts) + "\n"


def _target(target: CheckedTarget) -> Iterator[str]:
    yield f"### {escaped(target.name)}: {check_content.state(target)}"
    if target.report is not None:
        yield from _report(target.report)
    elif target.error is not None:
        yield f"{escaped(target.error.message)}  \n{escaped(target.error.remedy)}"


def _report(report: Report) -> Iterator[str]:
    start = check_content.starting_pair(report)
    pair = escaped(check_content.judged_pair(report))
    yield f"**{pair}**" + (f"  \njudged from {escaped(start)}" if start else "")
    yield "\n".join(_table(report))
    for remark in check_content.remarks(report):
        yield f"- **{remark.severity}** {remark.code}: {escaped(remark.message)}  \n  {escaped(remark.remedy)}"


def _table(report: Report) -> Iterator[str]:
    yield "| | rule | measured | what to do |"
    yield "| :-- | :-- | :-- | :-- |"
    for line in check_content.lines(report):
        kind = f"**{line.kind}**" if line.fails else line.kind
        remedy = check_content.what_to_do(line)
        yield f"| {kind} | {escaped(line.result.rule)} | {escaped(line.result.message)} | {escaped(remedy)} |"
