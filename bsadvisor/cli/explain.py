"""`bsadvisor explain`: what a finding means and what to do, or what a scaling rule says and who says so."""

from __future__ import annotations

import difflib
import re
import sys
import textwrap
from collections.abc import Iterable
from typing import Annotated

import typer

from bsadvisor.cli.output import publish
from bsadvisor.errors import UsageError
from bsadvisor.findings import CATALOGUE, Rule
from bsadvisor.scaling_rules import SCALING_RULES, ScalingRule

EXAMPLES = """
\b
Examples:
  bsadvisor explain
  bsadvisor explain BSA203
  bsadvisor explain square_root
"""

WIDTH = 80


def _names(incomplete: str) -> list[tuple[str, str]]:
    """What TAB offers."""
    named: dict[str, Rule | ScalingRule] = {**CATALOGUE, **SCALING_RULES}
    return [(name, entry.title) for name, entry in named.items() if name.startswith(incomplete)]


def explain(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="A finding such as BSA203, or a scaling rule such as linear; left out: a list of all.",
            autocompletion=_names,
        ),
    ] = None,
) -> None:
    """Say what a finding or a scaling rule means and what to do."""
    publish(_list() if name is None else _text(name), sys.stdout)


def _text(name: str) -> str:
    """About a finding in any case, or a rule in any case and with hyphens."""
    finding, rule = CATALOGUE.get(name.upper()), SCALING_RULES.get(name.lower().replace("-", "_"))
    if finding is not None:
        return _describe(finding)
    if rule is not None:
        return _describe_rule(rule)
    known = {entry.lower(): entry for entry in (*CATALOGUE, *SCALING_RULES)}
    near = difflib.get_close_matches(name.lower(), known, n=1)
    remedy = f"bsadvisor explain {known[near[0]]}" if near else "bsadvisor explain   lists them all"
    raise UsageError(f"there is no finding or scaling rule {name}", remedy)


def _list() -> str:
    findings = (f"{rule.code}  {rule.severity:<7}  {rule.title}\n" for rule in CATALOGUE.values())
    width = max(map(len, SCALING_RULES))
    rules = (f"{rule.name:<{width}}  {rule.title}\n" for rule in SCALING_RULES.values())
    return "".join((*findings, *rules))


def _describe_rule(rule: ScalingRule) -> str:
    paragraphs = (
        f"{rule.name}: {rule.title}",
        rule.formula,
        rule.explanation,
        f"Where it holds: {_where(rule)}",
        f"Source: {rule.source}",
    )
    return _filled(paragraphs)


def _where(rule: ScalingRule) -> str:
    """By kind of optimizer; what is not known is treated as SGD."""
    reach = {"any": "at any noise scale", "noise": "up to a quarter of the noise scale"}
    of = {family: reach[regime] for family, regime in rule.regimes.items()}
    parts = [f"SGD: {of.get('sgd', 'never')}", f"Adam and its like: {of.get('adam', 'never')}"]
    needs = "" if rule.needs == "nothing" else f"; it needs the {rule.needs.replace('_', ' ')}"
    return "; ".join(parts) + needs + "."


def _describe(rule: Rule) -> str:
    paragraphs = (
        f"{rule.code} ({rule.severity}): {rule.title}",
        f"The report says: {_without_values(rule.message)}",
        rule.explanation,
        f"What to do: {_without_values(rule.remedy)}",
    )
    return _filled(paragraphs)


def _filled(paragraphs: Iterable[str]) -> str:
    return "\n\n".join(textwrap.fill(text, WIDTH, break_on_hyphens=False) for text in paragraphs) + "\n"


def _without_values(template: str) -> str:
    """The sentence with its placeholders as `<micro batch>`: no run is being explained here."""
    template = template.replace("{advice}", "what the report says for its run")
    return re.sub(r"\{(\w+)[^}]*\}", lambda found: f"<{found[1].replace('_', ' ')}>", template)
