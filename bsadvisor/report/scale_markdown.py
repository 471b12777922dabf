"""An answer of `bsadvisor scale` for a pull request or a note."""

from __future__ import annotations

from bsadvisor.report import scale_content
from bsadvisor.report.markdown import escaped, heading, table_row
from bsadvisor.values import ScaleAdvice


def scale_to_markdown(answer: ScaleAdvice) -> str:
    """Pair, table of rules, what is known, notes."""
    facts = [
        f"- **{fact.label}**: {'; '.join(map(escaped, fact.lines))}" for fact in scale_content.facts(answer)
    ]
    parts = [
        heading(scale_content.advice(answer)),
        "  \n".join(map(escaped, scale_content.title(answer))),
        _rules(answer),
        "\n".join([*facts, *(f"- {escaped(note)}" for note in answer.notes)]),
        f"More about it: `bsadvisor explain {scale_content.to_explain(answer)}`",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _rules(answer: ScaleAdvice) -> str:
    lines = [
        table_row(header.replace("\n", " ") for header in scale_content.HEADERS),
        table_row((":--", "--:", "--:", ":--")),
    ]
    for name, *cells in scale_content.rows(answer):
        shown = [f"`{name}`", *map(escaped, cells)]
        best = name == answer.recommended.rule
        lines.append(table_row(f"**{cell}**" if cell and best else cell for cell in shown))
    return "\n".join(lines)
