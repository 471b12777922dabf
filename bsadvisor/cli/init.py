"""`bsadvisor init`: a complete example to start from."""

from __future__ import annotations

import shlex
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from bsadvisor.errors import OutputError

EXAMPLES = """
\b
Examples:
  bsadvisor init
  bsadvisor init digits && bsadvisor probe digits/model.py
"""

FILES = ("README.md", "model.py", "train.py", "bsadvisor.yaml", "checkpoint.pt", "digits.npz")


def init(
    directory: Annotated[Path, typer.Argument(metavar="[DIR]", help="Made if it is not there.")] = Path(
        "demo"
    ),
) -> None:
    """Write a complete example to start from. It holds a model, its data and a trained checkpoint."""
    there = [name for name in FILES if (directory / name).exists()]
    if there:
        raise OutputError(
            f"{directory} already holds {', '.join(there)}", "bsadvisor init DIR   with another DIR"
        )
    example = resources.files("bsadvisor.examples") / "digits"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (directory / name).write_bytes((example / name).read_bytes())
    except OSError as error:
        raise OutputError(
            f"{directory} cannot be written: {error.strerror}", "bsadvisor init DIR   with another DIR"
        ) from error
    typer.echo(f"{directory} holds {', '.join(FILES)}")
    typer.echo(f"next: bsadvisor probe {shlex.quote(str(directory / 'model.py'))}")
