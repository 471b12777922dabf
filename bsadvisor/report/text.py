"""The report in the terminal: what to set, then the choices, then why to believe it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bsadvisor.report import content
from bsadvisor.report.chart import chart
from bsadvisor.values import Finding, Report, Severity

DEFAULT_WIDTH = 80

INDENT = 2

_MARKS: dict[Severity, str] = {"error": "!", "warning": "!", "note": "·", "info": "·"}

_COLORS: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan", "info": "dim"}


def in_ascii(text: str) -> str:
    """Printable text for a stream that carries nothing else."""
    return content.printable(text).translate(content.IN_ASCII).encode("ascii", "replace").decode()


def to_text(report: Report, *, width: int | None = None, color: bool = False, unicode: bool = True) -> str:
    """The report for a terminal of so many columns; without `unicode`, in ASCII only."""
    page = Page(width=(width or DEFAULT_WIDTH) - INDENT, unicode=unicode)
    return page.print(content.title(report), page.blocks(report), color=color)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Lays out the parts of a report."""

    width: int
    """Columns, without the indent."""
    unicode: bool

    def print(self, title: Iterable[str], blocks: Iterable[RenderableType], *, color: bool) -> str:
        """The lines of the title, then the blocks, each set apart by a blank line."""
        console = Console(
            file=io.StringIO(),
            width=self.width + INDENT,
            force_terminal=color,
            color_system="standard" if color else None,
            highlight=False,
            legacy_windows=False,
        )
        with console.capture() as written:
            for line in title:
                console.print(self.words(line, "dim"))
            for block in blocks:
                console.print(Padding(block, (1, 0, 0, INDENT)))
        return "".join(f"{line.rstrip()}\n" for line in written.get().splitlines())

    def words(self, text: str, style: str = "", *, no_wrap: bool = False) -> Text:
        """Printable text in the characters that the stream can carry."""
        shown = content.printable(text) if self.unicode else in_ascii(text)
        return Text(shown, style=style, overflow="fold", no_wrap=no_wrap)

    def blocks(self, report: Report) -> Iterator[RenderableType]:
        """The parts of the page, each to be set apart by a blank line."""
        yield self.advice(content.advice(report))
        pairs = content.pair_table(report)
        if pairs is not None:
            yield Group(self._pairs(pairs), self.words(pairs.caption, "dim"))
        bars = chart(report.recommendations, width=self.width, unicode=self.unicode)
        if bars:
            yield Group(*(self.words(line, no_wrap=True) for line in bars))
        yield self.facts(list(content.facts(report)))
        if report.findings:
            yield self.findings(report.findings)

    def advice(self, advice: content.Advice) -> RenderableType:
        """The recommended pair, and what to think of it."""
        action, pair = self.words(advice.action, "bold green"), self.words(advice.pair, "bold")
        first = Text("  ").join(part for part in (action, pair) if part)
        now, notes = self.words(advice.now), [self.words(note) for note in advice.notes]
        gap = self.width - first.cell_len - now.cell_len
        indent = action.cell_len + 2 if pair else INDENT
        if gap >= INDENT:
            first.append(" " * gap).append_text(now)
        elif now:
            notes.insert(0, now)
        return Group(first, Padding(Group(*notes), (0, 0, 0, indent)))

    def _pairs(self, pairs: content.PairTable) -> Table:
        table = grid(header=True)
        table.add_column()
        columns = self._fitting(pairs.columns)
        for column in columns:
            table.add_column(
                self.header(column.header), justify="right" if column.numeric else "left", no_wrap=True
            )
        for index, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
            mark = self.words("▸" if index == pairs.current else "")
            style = "bold" if index == pairs.recommended else None
            table.add_row(mark, *map(self.words, cells), style=style)
        return table

    def header(self, text: str) -> Text:
        """Two lines high, so that headers of one line stand at the bottom."""
        above, _, below = text.rpartition("\n")
        return Text("\n").join((self.words(above), self.words(below)))

    def _fitting(self, columns: Sequence[content.Column]) -> list[content.Column]:
        """As many columns as the page holds beside the mark, the dispensable ones left out first."""
        kept = list(columns)
        while 1 + sum(map(_width_of, kept)) > self.width and any(column.dispensable for column in kept):
            kept.remove(max(kept, key=lambda column: column.dispensable))
        return kept

    def facts(self, facts: Sequence[content.Fact]) -> Table:
        """What is known, under its labels."""
        table = grid()
        table.add_column(no_wrap=True)
        table.add_column()
        for fact in facts:
            table.add_row(self.words(fact.label, "bold"), Group(*map(self.words, fact.lines)))
        return table

    def findings(self, findings: Sequence[Finding]) -> RenderableType:
        """What went otherwise than expected, each with what to do."""
        table = grid()
        table.add_column(no_wrap=True)
        table.add_column()
        for finding in findings:
            label = self.words(f"{_MARKS[finding.severity]} {finding.code}", _COLORS[finding.severity])
            table.add_row(label, Group(self.words(finding.message), self.words(finding.remedy, "dim")))
        return Group(table, self.words(f"more about it: bsadvisor explain {findings[0].code}", "dim"))


def grid(*, header: bool = False) -> Table:
    """Columns without lines between them."""
    return Table(box=None, show_header=header, pad_edge=False, padding=(0, INDENT, 0, 0), header_style="dim")


def _width_of(column: content.Column) -> int:
    """With the gap to its left."""
    return INDENT + max(map(len, (*column.cells, *column.header.split("\n"))))
