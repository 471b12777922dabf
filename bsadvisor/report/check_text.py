"""A check in the terminal: yes or no, then every rule with what would pass."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bsadvisor.report import check_content, content
from bsadvisor.report.text import DEFAULT_WIDTH, INDENT, in_ascii
from bsadvisor.values import CheckedTarget, CheckSummary, Report

_COLORS = {
    "error": "bold red",
    "warning": "yellow",
    "note": "cyan",
    "unknown": "dim",
    "pass": "green",
    "fail": "bold red",
}


def to_text(
    summary: CheckSummary, *, width: int | None = None, color: bool = False, unicode: bool = True
) -> str:
    """For a terminal of so many columns; without `unicode`, in ASCII only."""
    console = Console(
        file=io.StringIO(),
        width=width or DEFAULT_WIDTH,
        force_terminal=color,
        color_system="standard" if color else None,
        highlight=False,
        legacy_windows=False,
    )
    page = _Page(unicode=unicode)
    with console.capture() as written:
        for target in summary.targets:
            console.print(page.target(target, summary.bsadvisor_version))
        if len(summary.targets) > 1:
            console.print(page.words(check_content.tally(summary), "bold"))
    return "".join(f"{line.rstrip()}\n" for line in written.get().rstrip().splitlines())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    unicode: bool

    def words(self, text: str, style: str = "") -> Text:
        shown = content.printable(text) if self.unicode else in_ascii(text)
        return Text(shown, style=style, overflow="fold")

    def target(self, target: CheckedTarget, version: str) -> RenderableType:
        """One target, with a blank line below."""
        if target.report is None:
            error = target.error
            said = (f"error: {error.message}", f"  try: {error.remedy}") if error else ()
            title = f"bsadvisor {version} · {target.name}"
            body = [self.words(title, "dim"), Text(), *map(self._indented, said), Text()]
            return Group(*body)
        report = target.report
        title = " · ".join(_title(target.name, report))
        blocks = [self._verdict(report), self._rules(report), self._remarks(report)]
        padded = (Padding(block, (0, 0, 1, INDENT)) for block in blocks if block is not None)
        return Group(self.words(title, "dim"), Text(), *padded)

    def _indented(self, text: str) -> RenderableType:
        return Padding(self.words(text), (0, 0, 0, INDENT))

    def _verdict(self, report: Report) -> RenderableType:
        verdict, start = report.verdict or "unknown", check_content.starting_pair(report)
        grid = _grid()
        pair = [self.words(check_content.judged_pair(report), "bold")]
        if start:
            pair.append(self.words(f"judged from {start}", "dim"))
        grid.add_row(self.words(verdict.upper(), _COLORS[verdict]), Group(*pair))
        return grid

    def _rules(self, report: Report) -> RenderableType:
        grid = _grid()
        for line in check_content.lines(report):
            remedy = check_content.what_to_do(line)
            said = [self.words(line.result.rule, "bold"), self.words(line.result.message)]
            below = [self.words(remedy, "dim")] if remedy else []
            grid.add_row(self.words(line.kind, _COLORS[line.kind]), Group(*said, *below))
        return grid

    def _remarks(self, report: Report) -> RenderableType | None:
        found = check_content.remarks(report)
        if not found:
            return None
        grid = _grid()
        for remark in found:
            said = Group(self.words(remark.message), self.words(remark.remedy, "dim"))
            grid.add_row(self.words(f"! {remark.code}", _COLORS["warning"]), said)
        return grid


def _title(name: str, report: Report) -> Iterator[str]:
    """What was typed, and what it is about."""
    yield f"bsadvisor {report.bsadvisor_version}"
    if name != report.target.model:
        yield name
    yield report.target.model
    yield report.target.checkpoint or "no checkpoint"


def _grid() -> Table:
    grid = Table.grid(padding=(0, INDENT, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    return grid
