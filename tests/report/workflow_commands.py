"""Reads GitHub's workflow commands back, as its runner does."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """One line of `::name key=value,...::message`."""

    name: str
    properties: dict[str, str]
    message: str


def parse(text: str) -> list[Command]:
    """Every line has to be a command."""
    return [_parse_line(line) for line in text.splitlines()]


def _parse_line(line: str) -> Command:
    found = re.fullmatch(r"::(error|warning|notice) ([^:]*)::(.*)", line)
    assert found is not None, line
    properties = dict(pair.split("=", 1) for pair in found[2].split(",") if pair)
    return Command(
        found[1], {key: _unescaped(value) for key, value in properties.items()}, _unescaped(found[3])
    )


def _unescaped(text: str) -> str:
    for code, character in (("%3A", ":"), ("%2C", ","), ("%0D", "\r"), ("%0A", "\n"), ("%25", "%")):
        text = text.replace(code, character)
    return text
