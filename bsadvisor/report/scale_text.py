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
    facts = list(scale_content.facts(answer))
    if facts:
        yield page.facts(facts)
    notes = [page.words(f"· {note}") for note in answer.notes]
    more = page.words("more about a rule: bsadvisor explain NAME", "dim")
    yield Group(*notes, more)


def _rules(answer: ScaleAdvice, page: Page) -> Table:
    table = grid(header=True)
    for index, header in enumerate(scale_content.HEADERS):
        last = index == len(scale_content.HEADERS) - 1
        table.add_column(
            page.words(header if "\n" in header else f"\n{header}"),
            justify="right" if index in (1, 2) else "left",
            no_wrap=not last,
        )
    for row in scale_content.rows(answer):
        style = "bold" if row[0] == answer.recommended.rule else None
        table.add_row(*map(page.words, row), style=style)
    return table
