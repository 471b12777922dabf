"""A bar on stderr with the estimate as it stands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from bsadvisor.report import numbers
from bsadvisor.values import Progress, ProgressCallback

SECONDS_BETWEEN_DRAWINGS = 0.1


@contextmanager
def progress_bar(*, shown: bool) -> Iterator[ProgressCallback]:
    """Draw what the callback is told while inside; nothing is left of it afterwards."""
    if not shown:
        yield lambda progress: None
        return
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(bar_width=20),
        rich_progress.TextColumn("{task.fields[count]}", markup=False),
        rich_progress.TextColumn("{task.fields[estimate]}", markup=False),
        rich_progress.TimeElapsedColumn(),
    )
    # Drawn from here and never from a thread: the user's data workers are forked meanwhile.
    bar = rich_progress.Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
    task = bar.add_task("loading", total=None, count="", estimate="")
    drawn = 0.0

    def draw(progress: Progress) -> None:
        nonlocal drawn
        if time.monotonic() < drawn + SECONDS_BETWEEN_DRAWINGS:
            return
        drawn = time.monotonic()
        bar.update(
            task,
            description=progress.phase,
            completed=progress.done,
            total=progress.total,
            count=_count(progress),
            estimate=_estimate(progress),
            refresh=True,
        )

    with bar:
        bar.refresh()
        yield draw


def _count(progress: Progress) -> str:
    """`512 / 1,024 examples`."""
    if progress.total is None:
        return ""
    return f"{numbers.integer(progress.done)} / {numbers.integer(progress.total)} examples"


def _estimate(progress: Progress) -> str:
    """`B_simple 212 [160, 300]`, or what else is known so far."""
    if progress.noise_scale is None:
        return progress.note
    return f"B_simple {numbers.interval(progress.noise_scale)}"
