"""The import table: what each room may import, of ours and of others."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bsadvisor"

OURS = {
    "theory": "",
    "settings": "",
    "values": "settings",
    "errors": "",
    "findings": "values",
    "scaling_rules": "theory",
    "random_state": "",
    "target": "settings values errors random_state",
    "measure": "settings values errors theory random_state",
    "advise": "settings values errors findings scaling_rules theory",
    "report": "settings values",
    "pipeline": "settings values errors target measure advise",
    "cli": "settings values errors findings scaling_rules pipeline report",
    "examples": "",
    "__main__": "cli",
}

THEIRS = {
    "theory": "numpy scipy",
    "settings": "",
    "values": "",
    "errors": "",
    "findings": "",
    "scaling_rules": "",
    "random_state": "torch numpy",
    "target": "torch numpy yaml pydantic safetensors",
    "measure": "torch numpy safetensors",
    "advise": "numpy",
    "report": "rich pydantic yaml",
    "pipeline": "",
    "cli": "typer rich",
    "examples": "torch numpy model",  # `model` is the example's own model.py
    "__main__": "",
}


def room_of(file: Path) -> str:
    """The folder or the module directly under the package."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(source: str) -> Iterator[str]:
    """Dotted names that a file imports anywhere in it; `from a import b` counts as `a.b`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def offences(file: Path, source: str) -> list[str]:
    """Imports that the table does not allow; a relative one never is."""
    room, found = room_of(file), []
    for name in imports(source):
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        ours = top == "bsadvisor" and other in {room, "__version__", *OURS[room].split()}
        if not (ours or top in sys.stdlib_module_names or top in THEIRS[room].split()):
            found.append(f"{room} imports {name}")
    return found


FILES = [file for file in sorted(PACKAGE.rglob("*.py")) if file != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_imports_only_what_its_room_may(file: Path) -> None:
    assert offences(file, file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("theory", "from bsadvisor.values import Estimate"),
        ("report", "import torch.nn as nn"),
        ("cli", "def late():\n    import numpy"),
        ("advise", "from bsadvisor import target"),
        ("measure", "from ..target import factory"),
        ("pipeline", "from bsadvisor import report"),
    ],
)
def test_the_table_notices_an_import_that_is_not_in_it(room: str, source: str) -> None:
    assert len(offences(PACKAGE / room / "file.py", source)) == 1
