"""How files are named to the user, and how the user names things in files."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from bsadvisor.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonName:
    """`FILE.py:NAME`, or `FILE.py` alone."""

    file: Path
    name: str | None

    def __str__(self) -> str:
        return shown(self.file) + (f":{self.name}" if self.name else "")


def parse_python_name(text: str, folder: Path) -> PythonName:
    """Read `FILE.py[:NAME]`, with FILE relative to `folder`."""
    file, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier():
        file, name = text, ""
    return PythonName(file=folder / file, name=name or None)


def parse_full_python_name(text: str, folder: Path, said_by: str) -> PythonName:
    """Read `FILE.py:NAME`, where both are needed."""
    parsed = parse_python_name(text, folder)
    if parsed.name is None:
        raise UsageError(f"{said_by} {text}: which name in which file?", "write FILE.py:NAME")
    return parsed


def typed(where: Path | PythonName) -> str:
    """The same as a word of a command that a shell can take."""
    return shlex.quote(shown(where) if isinstance(where, Path) else str(where))


def shown(path: Path) -> str:
    """The path as a person here would type it."""
    full = path.absolute()
    here = Path.cwd()
    return str(full.relative_to(here)) if full.is_relative_to(here) else str(path)
