"""An answer of `bsadvisor scale` in the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table

from bsadvisor.report import scale_content
from bsadvisor.report.text import DEFAULT_WIDTH, INDENT, Page, grid
from bsadvisor.values import ScaleAdvice


def scale_to_text(
    answer: ScaleAdvice, *, width: int | None = None, color: bool = False, unicode: bool = True
) -> str:
    """For a terminal of so many columns; without `unicode`, in ASCII only."""
    page = Page(width=(width or DEFAULT_WIDTH) - INDENT, unicode=unicode)
    return page.print(scale_content.title(answer), _blocks(answer, page), color=color)


def _blocks(answer: ScaleAdvice, page: Page) -> Iterator[RenderableType]:
    yield page.advice(scale_content.advice(answer))
    yield _rules(answer, page)
    idle = [page.words(line, "dim") for line in scale_content.idle(answer)]
    if idle:
        yield Group(*idle)
    facts = list(scale_content.facts(answer))
    if facts:
        yield page.facts(facts)
    more = page.words(f"more about it: bsadvisor explain {scale_content.to_explain(answer)}", "dim")
    yield Group(_notes(answer, page), more) if answer.notes else more


def _notes(answer: ScaleAdvice, page: Page) -> Table:
    table = grid()
    table.add_column(no_wrap=True)
    table.add_column()
    for note in answer.notes:
        table.add_row(page.words("·"), page.words(note))
    return table


def _rules(answer: ScaleAdvice, page: Page) -> Table:
    table = grid(header=True)
    for index, header in enumerate(scale_content.HEADERS):
        last = index == len(scale_content.HEADERS) - 1
        table.add_column(
            page.header(header),
            justify="right" if index in (1, 2) else "left",
            no_wrap=not last,
        )
    idle = {rule.name for rule in answer.scaling_rules if scale_content.is_idle(rule)}
    for row in scale_content.rows(answer):
        if row[0] in idle:
            continue
        style = "bold" if row[0] == answer.recommended.rule else None
        table.add_row(*map(page.words, row), style=style)
    return table
