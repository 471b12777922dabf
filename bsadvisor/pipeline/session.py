"""One probe of one target: what all its phases share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bsadvisor.settings import ProbeSettings
from bsadvisor.values import ProgressCallback

if TYPE_CHECKING:
    from bsadvisor.target.factory import Target


class StopSignal:
    """Says that someone wants to stop; heeded between micro-batches while `deferred`."""

    def __init__(self) -> None:
        self.reason: Literal["interrupt", "terminate"] | None = None
        self.deferred = False

    def release(self) -> None:
        """No longer defer; what was asked for meanwhile happens now."""
        self.deferred = False
        if self.requested:
            raise KeyboardInterrupt

    def request(self, reason: Literal["interrupt", "terminate"]) -> None:
        """Ask for an early end."""
        self.reason = reason

    @property
    def requested(self) -> bool:
        return self.reason is not None


@dataclass(kw_only=True)
class Stopwatch:
    """Seconds since the measuring began, and the time that is left."""

    budget: float
    began: float

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def left(self, share: float = 1.0) -> float:
        """Seconds until `share` of the budget is spent."""
        return self.budget * share - self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One probe of one target."""

    target: Target
    settings: ProbeSettings
    watch: Stopwatch
    progress: ProgressCallback
    stop: StopSignal
    notify: Callable[[str], None] = lambda note: None
    """Told, in a sentence, what a waiting person should know."""

    @property
    def identity(self) -> str:
        """Tells one target from another, for `--resume`."""
        about = self.target.description
        parts = (
            about.model,
            about.trainable_parameters,
            about.checkpoint_sha256,
            about.dataset_size,
            about.dtype,
        )
        return "|".join(map(str, parts))

    @property
    def trial_identity(self) -> str:
        """Tells one trial from another: with the same, every heat gives the same."""
        about, settings = self.target.description, self.settings
        trial = settings.trial
        parts = about.batch_size, about.learning_rate, settings.seed, trial.horizon, trial.target_loss
        return "|".join(map(str, (self.identity, *parts, trial.keep_betas, settings.micro_batch)))

    def is_over(self) -> bool:
        """Whether time is up, or someone wants to stop."""
        return self.stop.requested or self.watch.left() <= 0
