"""A run's checkpoints on several devices: a process for each, which probes one checkpoint after the other.

Every process has a pipe of its own: a queue for all has a lock, which a process that is killed takes with it.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import wait

from bsadvisor.errors import BsadvisorError, TargetError
from bsadvisor.pipeline import StopSignal, Stopwatch
from bsadvisor.pipeline.checkpoints import ProbedCheckpoint, RunToProbe
from bsadvisor.pipeline.worker import Bug, Job, Ready, work
from bsadvisor.values import Progress, ProgressCallback

POLL = 0.1
"""Seconds between looks at who has died, and whether someone wants to stop."""

REPEAT = 1.0
"""Seconds after which those that are still at work are told again to stop."""

PATIENCE = 5.0
"""Seconds that a process which has nothing more to do may take to end."""

_SPAWN = get_context("spawn")
"""A forked process cannot use CUDA where its parent has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Died:
    """Without a word."""


def probe_on(
    devices: Sequence[str],
    run: RunToProbe,
    watch: Stopwatch,
    *,
    progress: ProgressCallback,
    notify: Callable[[str], None],
    stop: StopSignal,
) -> list[ProbedCheckpoint]:
    """As `probe_in_turn`, on all devices at a time.

    Args:
        devices: each for a process; one may be named twice.

    Raises:
        BsadvisorError: as soon as one process fails or dies.
        KeyboardInterrupt: asked twice to stop.
    """
    crew = _Crew(devices[: run.total], run, watch)
    stop.deferred = True
    try:
        crew.start()
        while crew.busy:
            if stop.requested:
                crew.stop()
            for worker, message in _news(crew.busy):
                match message:
                    case Progress():
                        progress(message)
                    case str():
                        notify(message)
                    case _:
                        crew.heed(worker, message)
    finally:
        crew.end()
        stop.deferred = False
    return [crew.probed[index] for index in sorted(crew.probed)]


class _Crew:
    """The workers, what is left for them to do, and what they have done."""

    def __init__(self, devices: Sequence[str], run: RunToProbe, watch: Stopwatch) -> None:
        self.probed: dict[int, ProbedCheckpoint] = {}
        self._run = run
        self._watch = watch
        self._waiting = deque(range(run.total))
        self._workers = [_Worker(device, run) for device in devices]
        self.busy = list(self._workers)
        self._told: float | None = None
        """When the workers were last told to stop."""

    def start(self) -> None:
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """Tell every worker to send what it has.

        Again and again: of two signals that come together, as Ctrl-C from the terminal and the first of ours
        do, both may go to a thread of the worker's that cannot heed them.
        """
        now = time.monotonic()
        if self._told is None or now > self._told + REPEAT:
            self._told = now
            for worker in self.busy:
                worker.process.terminate()

    def heed(self, worker: _Worker, message: object) -> None:
        """Hand out the next job, keep what was measured, raise what went wrong."""
        match message:
            case ProbedCheckpoint():
                assert worker.index is not None
                self.probed[worker.index] = message
            case Ready() if self._waiting and self._told is None:
                index = self._waiting.popleft()
                worker.give(index, self._run.share(index, self._watch, devices=len(self._workers)))
            case Ready():
                worker.send_home()
                self.busy.remove(worker)
            case _Died() if self._told is not None:
                self.busy.remove(worker)
            case _Died():
                raise worker.death(self._run)
            case BsadvisorError():
                raise message
            case Bug():
                raise RuntimeError(f"in the process for {worker.device}:\n{message.text}")

    def end(self) -> None:
        """Those that are still at work at once, the others when they are done."""
        for worker in self.busy:
            worker.kill()
        for worker in self._workers:
            worker.end()


class _Worker:
    """A process, as its parent knows it."""

    def __init__(self, device: str, run: RunToProbe) -> None:
        self.device = device
        self.index: int | None = None
        """Of the checkpoint that it is probing."""
        self.connection, self._theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=work, args=(self._theirs, device, run))

    def start(self) -> None:
        with _interrupts_held():
            self.process.start()
        self._theirs.close()

    def give(self, index: int, seconds: float) -> None:
        self.index = index
        self._send(Job(index=index, seconds=seconds))

    def send_home(self) -> None:
        self._send(None)

    def _send(self, job: Job | None) -> None:
        with suppress(BrokenPipeError):  # it has died since, as the next look will show
            self.connection.send(job)

    def has_died(self) -> bool:
        """And left nothing unread."""
        return not self.process.is_alive() and not self.connection.poll()

    def death(self, run: RunToProbe) -> TargetError:
        """What to tell of it."""
        code = self.process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        doing = "started" if self.index is None else f"probed {run.found.checkpoints[self.index].path}"
        return TargetError(
            f"the process that {doing} on {self.device} died ({how})",
            "if its memory ran out, give a smaller --micro-batch; "
            f"--device {self.device} probes one checkpoint after the other",
        )

    def kill(self) -> None:
        if self.process.pid is not None:
            self.process.kill()

    def end(self) -> None:
        """Wait for it, but not for long."""
        if self.process.pid is not None:
            self.process.join(PATIENCE)
            self.process.kill()
            self.process.join()
        self.connection.close()


def _news(workers: Sequence[_Worker]) -> Iterator[tuple[_Worker, object]]:
    """What has arrived, after waiting a moment for it."""
    arrived = wait([worker.connection for worker in workers], timeout=POLL)
    for worker in list(workers):
        if worker.connection in arrived:
            try:
                yield worker, worker.connection.recv()
            except (EOFError, ConnectionResetError):
                worker.process.join(PATIENCE)
                yield worker, _Died()
        elif worker.has_died():  # its data workers may keep the pipe open for a while
            yield worker, _Died()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C comes afterwards; a process that starts meanwhile hears of it once it can heed it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which would let go of what is held
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
