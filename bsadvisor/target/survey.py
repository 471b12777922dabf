"""The checkpoints of a run before any is measured: do they fit the model, and in which order do they come?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bsadvisor.random_state import random_state_kept, seed_everything
from bsadvisor.settings import TargetRequest
from bsadvisor.target.checkpoint import load_weights, read_checkpoint
from bsadvisor.target.names import find_model
from bsadvisor.target.optimizer import largest_rate, saved_step
from bsadvisor.target.paths import shown
from bsadvisor.target.spec import read_spec
from bsadvisor.target.user_code import UserCode
from bsadvisor.values import StepSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """One checkpoint that fits the model."""

    path: str
    sha256: str
    step: int
    learning_rate: float | None
    """Saved with it, as a schedule had made it by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The run's checkpoints in the order of their steps."""

    checkpoints: tuple[Surveyed, ...]
    step_from: StepSource
    reordered: bool
    """They were given in another order."""
    doubles: tuple[tuple[str, str], ...]
    """Left out: a checkpoint, and the one that it is a copy of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    found: Surveyed
    steps: dict[StepSource, int | None]


def survey(request: TargetRequest, paths: Sequence[str], *, notify: Callable[[str], None]) -> Survey:
    """Read every checkpoint, so that a wrong one is known before the first is measured.

    Raises:
        UsageError: flags or YAML that cannot be understood.
        TargetError: a checkpoint that is missing, damaged or of another model.
    """
    with random_state_kept():
        seed_everything(0)
        read = list(_read(request, paths, notify))
    kept: dict[str, _Read] = {}
    doubles = []
    for one in read:
        first = kept.setdefault(one.found.sha256, one)
        if first is not one:
            doubles.append((one.found.path, first.found.path))
    step_from, steps = _steps(list(kept.values()))
    found = [replace(one.found, step=step) for one, step in zip(kept.values(), steps, strict=True)]
    ordered = sorted(found, key=lambda one: one.step)
    return Survey(
        checkpoints=tuple(ordered), step_from=step_from, reordered=ordered != found, doubles=tuple(doubles)
    )


def _read(request: TargetRequest, paths: Sequence[str], notify: Callable[[str], None]) -> Iterator[_Read]:
    specs = [read_spec(replace(request, checkpoint=path)) for path in paths]
    model = find_model(UserCode(notify=notify), specs[0].model)
    for spec in specs:
        assert spec.checkpoint is not None
        checkpoint = read_checkpoint(spec.checkpoint, trust=spec.trust_checkpoint)
        load_weights(model, checkpoint)
        saved = checkpoint.optimizer_state
        rate = largest_rate(saved["param_groups"]) if saved else None
        yield _Read(
            found=Surveyed(
                path=shown(spec.checkpoint),
                sha256=checkpoint.sha256,
                step=0,
                learning_rate=rate.now if rate else None,
            ),
            steps={
                "checkpoint": checkpoint.step,
                "optimizer": saved_step(saved),
                "name": _step_in_name(spec.checkpoint),
            },
        )


def _steps(read: Sequence[_Read]) -> tuple[StepSource, list[int]]:
    """From the first source that gives every checkpoint a step of its own, else by the order of names."""
    sources: tuple[StepSource, ...] = ("checkpoint", "optimizer", "name")
    for source in sources:
        steps = [one.steps[source] for one in read]
        known = [step for step in steps if step is not None]
        if len(set(known)) == len(read):
            return source, known
    names = sorted(_natural(one.found.path) for one in read)
    return "order", [names.index(_natural(one.found.path)) + 1 for one in read]


def _step_in_name(path: Path) -> int | None:
    """The last number in the name of the file, or of its folder; epochs are no steps."""
    for name in (path.stem, path.parent.name):
        numbers = re.findall(r"\d+", name)
        if numbers:
            return None if "epoch" in name.lower() else int(numbers[-1])
    return None


def _natural(path: str) -> list[tuple[int, str]]:
    """Sorts `step-9` before `step-10`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]
