"""Ctrl-C and SIGTERM: the measuring ends early and is reported; a second one ends the program."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from bsadvisor.errors import EXIT_INTERRUPTED, EXIT_TERMINATED
from bsadvisor.pipeline import StopSignal


@contextmanager
def heeding_signals(stop: StopSignal) -> Iterator[None]:
    """Turn signals into requests to stop, and an end without a report into its exit code."""

    def handle(number: int, frame: FrameType | None) -> None:
        again = stop.requested
        stop.request("interrupt" if number == signal.SIGINT else "terminate")
        if again or not stop.deferred:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted: no report was written", file=sys.stderr)
        raise typer.Exit(stopped_exit_code(stop)) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stopped_exit_code(stop: StopSignal) -> int:
    """130 for Ctrl-C and 143 for SIGTERM, as shells have it."""
    return EXIT_TERMINATED if stop.reason == "terminate" else EXIT_INTERRUPTED
