"""`bsadvisor explain`: what a finding means, how it was decided, what to do."""

from __future__ import annotations

import difflib
import re
import sys
import textwrap
from typing import Annotated

import typer

from bsadvisor.cli.output import publish
from bsadvisor.errors import UsageError
from bsadvisor.findings import CATALOGUE, Rule

EXAMPLES = """
\b
Examples:
  bsadvisor explain
  bsadvisor explain BSA203
"""

WIDTH = 80


def _codes(incomplete: str) -> list[tuple[str, str]]:
    """What TAB offers."""
    matching = (rule for code, rule in CATALOGUE.items() if code.startswith(incomplete))
    return [(rule.code, rule.title) for rule in matching]


def explain(
    code: Annotated[
        str | None,
        typer.Argument(
            metavar="[CODE]", help="Such as BSA203; left out: a list of all.", autocompletion=_codes
        ),
    ] = None,
) -> None:
    """Say what a finding means and what to do."""
    publish(_list() if code is None else _describe(_find(code)), sys.stdout)


def _find(code: str) -> Rule:
    rule = CATALOGUE.get(code.upper())
    if rule is None:
        near = difflib.get_close_matches(code.upper(), CATALOGUE, n=1)
        remedy = f"bsadvisor explain {near[0]}" if near else "bsadvisor explain   lists them all"
        raise UsageError(f"there is no finding {code}", remedy)
    return rule


def _list() -> str:
    return "".join(f"{rule.code}  {rule.severity:<7}  {rule.title}\n" for rule in CATALOGUE.values())


def _describe(rule: Rule) -> str:
    paragraphs = (
        f"{rule.code} ({rule.severity}): {rule.title}",
        f"The report says: {_without_values(rule.message)}",
        rule.explanation,
        f"What to do: {_without_values(rule.remedy)}",
    )
    return "\n\n".join(textwrap.fill(text, WIDTH, break_on_hyphens=False) for text in paragraphs) + "\n"


def _without_values(template: str) -> str:
    """The sentence with its placeholders as `<micro batch>`: no run is being explained here."""
    template = template.replace("{advice}", "what the report says for its run")
    return re.sub(r"\{(\w+)[^}]*\}", lambda found: f"<{found[1].replace('_', ' ')}>", template)
