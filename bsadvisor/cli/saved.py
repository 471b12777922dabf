"""Reads reports that were saved before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bsadvisor.errors import TargetError

if TYPE_CHECKING:
    from bsadvisor.values import Report


def read_report(name: str) -> Report:
    """The report in a file, or on stdin for `-`."""
    from bsadvisor import report as reports

    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        return reports.from_json(text)
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not text"
        raise TargetError(f"{name} cannot be read: {problem}", "check the path") from error
    except reports.ReportError as error:
        raise TargetError(
            f"{name} cannot be read as a report: {error}",
            error.remedy,
        ) from error


def state_beside(path: Path) -> Path:
    """Where an unfinished probe keeps its statistics: beside the report."""
    return path.with_name(f"{path.name}.state.safetensors")


def trial_log_beside(path: Path) -> Path:
    """Where an unfinished trial keeps its finished heats."""
    return path.with_name(f"{path.name}.trial.jsonl")
