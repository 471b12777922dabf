"""The process of one device: it probes the checkpoints that its parent names, one after the other.

It says that it is ready, is given a job, and sends progress, notes, and what came of it. Signals are the parent's
to heed: a worker that hears one ends its measuring early and sends what it has, however often it is told.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import FrameType

from bsadvisor.errors import BsadvisorError
from bsadvisor.pipeline import StopSignal
from bsadvisor.pipeline.checkpoints import RunToProbe
from bsadvisor.target.device import see_only


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A checkpoint by its number, and the time for it."""

    index: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """For a job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """Of ours, with its traceback."""

    text: str


def work(connection: Connection, device: str, run: RunToProbe) -> None:
    """Probe what the parent says, until it says nothing more or is gone."""
    stop, lock = StopSignal(), threading.Lock()
    stop.deferred = True

    def send(message: object) -> None:
        with lock:  # a note may come from a thread
            connection.send(message)

    _heed_signals(stop)
    see_only(device)
    with suppress(EOFError, BrokenPipeError):
        send(Ready())
        while (job := connection.recv()) is not None:
            _probe(job, run, stop, send)
            send(Ready())


def _probe(job: Job, run: RunToProbe, stop: StopSignal, send: Callable[[object], None]) -> None:
    """Send what comes of it; nothing, where it was stopped before anything was measured."""
    try:
        found: object = run.probe(job.index, job.seconds, progress=send, notify=send, stop=stop)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        raise
    except BsadvisorError as error:
        found = error
    except Exception:
        found = Bug(text=traceback.format_exc())
    finally:
        stop.deferred = True
    send(found)


def _heed_signals(stop: StopSignal) -> None:
    """The first one asks for an early end; more of them say the same: a terminal tells all processes at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        first = not stop.requested
        stop.request("interrupt" if number == signal.SIGINT else "terminate")
        if first and not stop.deferred:
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
