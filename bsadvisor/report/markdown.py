"""The report for a pull request or a job summary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from bsadvisor.report import content
from bsadvisor.values import Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


def to_markdown(report: Report) -> str:
    """Headline, table, measurements and findings in GitHub's Markdown."""
    parts = [
        _heading(content.advice(report)),
        "  \n".join(map(escaped, content.title(report))),
        *_pairs(content.pair_table(report)),
        "\n".join(_facts(content.facts(report))),
        "\n".join(_findings(report)),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _heading(advice: content.Advice) -> str:
    """The advice as a title, and what to think of it beneath."""
    pair = " ".join(f"{advice.action} {advice.pair}".split())
    notes = filter(None, [advice.now, *advice.notes])
    return f"### {escaped(pair)}\n\n" + "  \n".join(map(escaped, notes))


def _pairs(pairs: content.PairTable | None) -> Iterator[str]:
    if pairs is None:
        return
    rows = list(zip(*(column.cells for column in pairs.columns), strict=True))
    lines = [
        _row(column.header.replace("\n", " ") for column in pairs.columns),
        _row("--:" if column.numeric else ":--" for column in pairs.columns),
    ]
    for index, cells in enumerate(rows):
        shown = [escaped(cell) for cell in cells]
        lines.append(_row(f"**{cell}**" if cell and index == pairs.recommended else cell for cell in shown))
    yield "\n".join(lines)
    yield escaped(pairs.caption)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _facts(facts: Iterable[content.Fact]) -> Iterator[str]:
    for fact in facts:
        yield f"- **{fact.label}**: " + "  \n  ".join(map(escaped, fact.lines))


def _findings(report: Report) -> Iterator[str]:
    for finding in report.findings:
        yield f"- **{finding.severity}** {finding.code}: {escaped(finding.message)}  "
        yield f"  {escaped(finding.remedy)}"
    if report.findings:
        yield f"\nMore about it: `bsadvisor explain {report.findings[0].code}`"


def escaped(text: str) -> str:
    """On one line, with nothing in it that Markdown would read as markup."""
    return _SPECIAL.sub(r"\\\1", " ".join(content.printable(text).split()))
