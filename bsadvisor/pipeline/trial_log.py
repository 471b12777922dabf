"""Finished heats on disk, a line each, so that a trial that was killed goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bsadvisor.errors import OutputError, TargetError
from bsadvisor.values import BranchResult, Heat, HeatResult


class TrialLog:
    """One line says whose heats these are, and each further line holds a heat.

    Args:
        path: where; None keeps nothing. Nothing is written before there is a heat.
        identity: of the target and of everything that decides what the heats give.
        resumed: the log of an earlier trial, whose heats count; often the same path.

    Raises:
        TargetError: the heats there belong to another trial.
    """

    def __init__(self, path: Path | None, identity: str, *, resumed: Path | None) -> None:
        self._path = path
        self._identity = identity
        self.earlier = _read(resumed, identity) if resumed is not None and resumed.exists() else []
        self._begun = bool(self.earlier) and resumed == path

    def add(self, result: HeatResult) -> None:
        """It is on the disk when this returns."""
        if not self._begun:
            self._begun = True
            self._write([{"identity": self._identity}, *map(asdict, self.earlier)], mode="w")
        self._write([asdict(result)], mode="a")

    def finish(self) -> None:
        """Nothing is left to go on with."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _write(self, lines: Sequence[dict[str, Any]], mode: str) -> None:
        if self._path is None:
            return
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(
                f"{self._path} cannot be written: {error.strerror}", "choose another --output"
            ) from error


def _read(path: Path, identity: str) -> list[HeatResult]:
    """The whole lines; one that was cut short by the end of the process is run again."""
    first, *lines = path.read_text(encoding="utf-8").split("\n")
    try:
        found = json.loads(first)["identity"]
        results = [_result(json.loads(line)) for line in lines[:-1]]
    except (ValueError, KeyError, TypeError) as error:
        raise TargetError(
            f"{path} is no record of a trial: {error}", "run the trial again without --resume"
        ) from error
    if found != identity:
        raise TargetError(
            f"{path} belongs to another model, checkpoint, data set or other settings",
            "run the trial again without --resume, or with the flags it was started with",
        )
    if lines[-1]:  # the unfinished line would join the next one
        path.write_text("\n".join([first, *lines[:-1], ""]), encoding="utf-8")
    return results


def _result(data: dict[str, Any]) -> HeatResult:
    heat = Heat(**{**data["heat"], **{key: tuple(data["heat"][key]) for key in ("learning_rates", "seeds")}})
    branches = tuple(BranchResult(**branch) for branch in data["branches"])
    return HeatResult(**{**data, "heat": heat, "branches": branches})
