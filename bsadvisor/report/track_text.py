"""An answer of `bsadvisor track` in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table

from bsadvisor.report import track_content
from bsadvisor.report.ramp_settings import settings
from bsadvisor.report.text import DEFAULT_WIDTH, INDENT, Page, grid
from bsadvisor.report.trend_chart import LONGEST, SHORTEST, trend_chart
from bsadvisor.values import TrackReport


def track_to_text(
    found: TrackReport, *, width: int | None = None, color: bool = False, unicode: bool = True
) -> str:
    """For a terminal of so many columns; without `unicode`, in ASCII only."""
    page = Page(width=(width or DEFAULT_WIDTH) - INDENT, unicode=unicode)
    return page.print(track_content.title(found), _blocks(found, page), color=color)


def _blocks(found: TrackReport, page: Page) -> Iterator[RenderableType]:
    yield page.advice(track_content.advice(found))
    yield Group(
        _checkpoints(found, page), page.words(f"noise scale: {track_content.scale_name(found)}", "dim")
    )
    if found.ramp:
        yield Group(_ramp(found, page), page.words(track_content.RAMP_CAPTION, "dim"))
    yield page.facts(list(track_content.facts(found)))
    if found.ramp and found.ramp_summary:
        for part in settings(found.ramp, found.ramp_summary):
            lines = [page.words(line, no_wrap=True) for line in part.lines]
            yield Group(page.words(part.title, "bold"), Padding(Group(*lines), (0, 0, 0, INDENT)))
    if found.findings:
        yield page.findings(found.findings)


def _checkpoints(found: TrackReport, page: Page) -> Table:
    """With a mark and its interval per checkpoint, where there is room."""
    headers, scales = track_content.headers(found), track_content.scales(found)
    rows = [track_content.row(found, index) for index in range(len(scales))]
    columns = zip(*(*rows, headers), strict=True)
    room = page.width - sum(max(map(len, column)) + INDENT for column in columns)
    charts = trend_chart(scales, cells=min(room, LONGEST), unicode=page.unicode) if room >= SHORTEST else None
    return _table(page, headers, rows, charts)


def _ramp(found: TrackReport, page: Page) -> Table:
    rows = list(track_content.ramp_rows(found))
    kept = [index for index, cells in enumerate(zip(*rows, strict=True)) if any(cells)]
    headers = [track_content.RAMP_HEADERS[index] for index in kept]
    return _table(page, headers, [[row[index] for index in kept] for row in rows], None)


def _table(
    page: Page, headers: Sequence[str], rows: Sequence[Sequence[str]], charts: Sequence[str] | None
) -> Table:
    table = grid(header=True)
    tall = any("\n" in header for header in headers)
    for header in headers:
        table.add_column(page.header(header) if tall else page.words(header), justify="right")
    if charts is not None:
        table.add_column("", no_wrap=True)
    for index, row in enumerate(rows):
        cells = [*row, *([charts[index]] if charts is not None else [])]
        table.add_row(*map(page.words, cells))
    return table
