"""Reads reports that were saved before."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bsadvisor.errors import TargetError

if TYPE_CHECKING:
    from bsadvisor.values import Report

BYTE_ORDER_MARK = "\ufeff"


def read_report(name: str) -> Report:
    """The report in a file, or on stdin for `-`."""
    from bsadvisor import report as reports

    shown = "standard input" if name == "-" else name
    try:
        return reports.from_json(_text(name))
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not text"
        raise TargetError(f"{shown} cannot be read: {problem}", "check the path") from error
    except reports.ReportError as error:
        raise TargetError(f"{shown} cannot be read as a report: {error}", error.remedy) from error


def _text(name: str) -> str:
    """In any encoding that JSON may have: on Windows, a `>` in the shell may write UTF-16."""
    if name == "-":
        return sys.stdin.read().removeprefix(BYTE_ORDER_MARK)
    written = Path(name).read_bytes()
    return written.decode(json.detect_encoding(written))


def state_beside(path: Path) -> Path:
    """Where an unfinished probe keeps its statistics: beside the report."""
    return path.with_name(f"{path.name}.state.safetensors")


def trial_log_beside(path: Path) -> Path:
    """Where an unfinished trial keeps its finished heats."""
    return path.with_name(f"{path.name}.trial.jsonl")
