"""The line of a user's file that sets a number, found without running the file."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from bsadvisor.target.paths import parse_python_name, shown
from bsadvisor.values import Source


def source_of(by: str | None, model: str) -> Source | None:
    """Who set half of a pair, with the line where that is a constant in the model's file."""
    if by is None:
        return None
    constant = re.fullmatch(r"(BATCH_SIZE|LEARNING_RATE) in (.+)", by)
    file = parse_python_name(model, Path.cwd()).file
    if constant is None or file.name != constant[2]:
        return Source(by=by)
    line = _line_of_assignment(file, constant[1])
    return Source(by=by) if line is None else Source(by=by, file=shown(file), line=line)


def _line_of_assignment(file: Path, name: str) -> int | None:
    """The last one at module level: it is the one that counts."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return None
    lines = [
        statement.lineno
        for statement in body
        if isinstance(statement, (ast.Assign, ast.AnnAssign))
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name
    ]
    return max(lines, default=None)
