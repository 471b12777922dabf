"""The report for a pull request or a job summary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from bsadvisor.report import content, numbers
from bsadvisor.report import scale_content as rates
from bsadvisor.values import Finding, Recommendation, Report, RuleVerdict

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


def to_markdown(report: Report) -> str:
    """Headline, table, measurements and findings in GitHub's Markdown."""
    parts = [
        heading(content.advice(report)),
        "  \n".join(map(escaped, content.title(report))),
        *_pairs(content.pair_table(report)),
        "\n".join(_facts(content.facts(report))),
        "\n".join(finding_lines(report.findings)),
        *_rules(report.scaling_rules, report.recommendations),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def heading(advice: content.Advice) -> str:
    """The advice as a title, and what to think of it beneath."""
    pair = " ".join(f"{advice.action} {advice.pair}".split())
    notes = filter(None, [advice.now, *advice.notes])
    return f"### {escaped(pair)}\n\n" + "  \n".join(map(escaped, notes))


def _pairs(pairs: content.PairTable | None) -> Iterator[str]:
    if pairs is None:
        return
    rows = list(zip(*(column.cells for column in pairs.columns), strict=True))
    lines = [
        table_row(column.header.replace("\n", " ") for column in pairs.columns),
        table_row("--:" if column.numeric else ":--" for column in pairs.columns),
    ]
    for index, cells in enumerate(rows):
        shown = [escaped(cell) for cell in cells]
        lines.append(
            table_row(f"**{cell}**" if cell and index == pairs.recommended else cell for cell in shown)
        )
    yield "\n".join(lines)
    yield escaped(pairs.caption)


def _rules(rules: Sequence[RuleVerdict], pairs: Sequence[Recommendation]) -> Iterator[str]:
    """Every named rule at every recommended batch size."""
    if not rules:
        return
    with_rates = [rule for rule in rules if any(map(rates.rate, rule.learning_rates))]
    sizes = [f"B = {numbers.integer(pair.batch_size)}" for pair in pairs]
    yield "Learning rates by the named scaling rules (`bsadvisor explain NAME`):"
    yield "\n".join(
        [
            table_row(["rule", *sizes, "holds", "why"]),
            table_row([":--", *("--:" for _ in sizes), ":--", ":--"]),
            *(
                table_row(
                    [
                        f"`{rule.name}`",
                        *(rates.rate(at) for at in rule.learning_rates),
                        rates.holds(rule),
                        escaped(rule.reason),
                    ]
                )
                for rule in with_rates
            ),
        ]
    )


def table_row(cells: Iterable[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(cells) + " |"


def _facts(facts: Iterable[content.Fact]) -> Iterator[str]:
    for fact in facts:
        yield f"- **{fact.label}**: " + "  \n  ".join(map(escaped, fact.lines))


def finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """What went otherwise than expected, each with what to do."""
    for finding in findings:
        yield f"- **{finding.severity}** {finding.code}: {escaped(finding.message)}  "
        yield f"  {escaped(finding.remedy)}"
    if findings:
        yield f"\nMore about it: `bsadvisor explain {findings[0].code}`"


def escaped(text: str) -> str:
    """On one line, with nothing in it that Markdown would read as markup."""
    return _SPECIAL.sub(r"\\\1", " ".join(content.printable(text).split()))
