"""A report as JSON or YAML, and JSON back to a report, checked to the last field."""

from __future__ import annotations

import ast
import inspect
import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from bsadvisor import values
from bsadvisor.values import SCHEMA_VERSION, CheckSummary, Report, ScaleAdvice, TrackReport

if TYPE_CHECKING:
    from pydantic import ConfigDict, TypeAdapter, ValidationError

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

LONGEST_NUMBER = 30
"""Digits that are repeated in an error."""

PROBE_AGAIN = "bsadvisor probe TARGET --output report.json   writes one"


class ReportError(ValueError):
    """A saved report that cannot be read: one line says why, another what to do."""

    def __init__(self, message: str, remedy: str = PROBE_AGAIN) -> None:
        super().__init__(message)
        self.remedy = remedy


# --- writing ------------------------------------------------------------------------------------


def to_json(report: Report | CheckSummary | ScaleAdvice | TrackReport) -> str:
    """As JSON, its keys in the order of the fields and each list of numbers on one line."""
    return _layout(asdict(report), "") + "\n"


def to_yaml(report: Report | CheckSummary | ScaleAdvice | TrackReport) -> str:
    """The data of `to_json` as YAML."""
    import yaml

    data = json.loads(to_json(report))
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _layout(value: Any, indent: str) -> str:
    """JSON with an indent of two, except that a container of plain values stays on one line."""
    inner = indent + "  "
    if isinstance(value, dict) and value:
        members = [f"{_plain(key)}: {_layout(member, inner)}" for key, member in value.items()]
    elif isinstance(value, (list, tuple)) and any(map(_is_container, value)):
        members = [_layout(member, inner) for member in value]
    else:
        return _plain(value)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}" + f",\n{inner}".join(members) + f"\n{indent}{closing}"


def _is_container(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple))


def _plain(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


# --- reading ------------------------------------------------------------------------------------


def from_json(text: str) -> Report:
    """The report that `to_json` wrote; `ReportError` where it is damaged, foreign or newer."""
    from pydantic import ValidationError

    _check_version(_parse(text))
    try:
        report = _adapter().validate_json(text)
    except ValidationError as problem:
        raise ReportError(_first_problem(problem)) from None
    assert report is not None  # `null` has no schema_version and was refused above
    return report


def _parse(text: str) -> Any:
    try:
        return json.loads(
            text,
            parse_float=_finite,
            parse_int=_whole,
            parse_constant=_finite,
            object_pairs_hook=_without_doubles,
        )
    except json.JSONDecodeError as problem:
        where = f"line {problem.lineno}, column {problem.colno}"
        raise ReportError(f"not JSON, or cut short: {problem.msg.lower()} at {where}") from None
    except RecursionError:
        raise ReportError("not a bsadvisor report: it is nested too deeply") from None


def _finite(written: str) -> float:
    number = float(written)
    if not math.isfinite(number):
        raise ReportError(f"a report holds finite numbers only, not {_abridged(written)}")
    return number


def _whole(written: str) -> int:
    _finite(written)  # one that no float holds would become infinite in the report
    return int(written)


def _abridged(written: str) -> str:
    return written if len(written) <= LONGEST_NUMBER else f"{written[:LONGEST_NUMBER]}…"


def _without_doubles(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON would take the last of two without a word: a slip of whoever edits a report."""
    found: dict[str, Any] = {}
    for key, value in members:
        if key in found:
            raise ReportError(f"{_plain(key)} is given twice in one place", "remove one of them")
        found[key] = value
    return found


def _check_version(data: Any) -> None:
    version = data.get("schema_version") if isinstance(data, dict) else None
    if type(version) is not int:
        raise ReportError("not a bsadvisor report: it has no schema_version")
    if version != SCHEMA_VERSION:
        newer = version > SCHEMA_VERSION
        raise ReportError(
            f"the report has schema_version {version}; this bsadvisor is {'older' if newer else 'newer'} and "
            f"reads {SCHEMA_VERSION}",
            "upgrade bsadvisor: pip install --upgrade bsadvisor" if newer else PROBE_AGAIN,
        )
    if isinstance(data, dict) and "targets" in data:
        raise ReportError("these are the reports of several targets", "give one of them, from `targets`")
    if isinstance(data, dict) and data.get("command") == "track":
        raise ReportError("it is of a whole run, by `bsadvisor track`, and not of one checkpoint")


def _first_problem(problem: ValidationError) -> str:
    first, *others = problem.errors(include_url=False, include_context=False, include_input=False)
    where = ".".join(map(str, first["loc"])) or "the text"
    more = f" (and {len(others)} more)" if others else ""
    return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}{more}"


@cache
def _adapter() -> TypeAdapter[Report | None]:
    """Strict about types and keys; the `| None` lets a plain dataclass take these settings."""
    from pydantic import TypeAdapter

    return TypeAdapter(Report | None, config=_settings())


def _settings() -> ConfigDict:
    from pydantic import ConfigDict

    return ConfigDict(strict=True, extra="forbid", json_schema_serialization_defaults_required=True)


# --- the schema ---------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    """The JSON Schema of what `--format json` prints (draft 2020-12): a report, a check of several targets, or a track.

    Descriptions are the docstrings in `values`.
    """
    from pydantic import TypeAdapter

    printed: TypeAdapter[Any] = TypeAdapter(Report | CheckSummary | TrackReport | None, config=_settings())
    definitions = printed.json_schema(mode="serialization")["$defs"]
    for owner, field, text in _field_docstrings():
        if owner in definitions:
            definitions[owner]["properties"][field]["description"] = text
    for definition in definitions.values():
        for about_field in definition["properties"].values():
            about_field.pop("title", None)  # pydantic's guess, which only repeats the name
    return {
        "$schema": SCHEMA_DIALECT,
        "title": "bsadvisor report",
        "anyOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in (Report, CheckSummary, TrackReport)],
        "$defs": definitions,
    }


def _field_docstrings() -> Iterator[tuple[str, str, str]]:
    """Class, field and text of every docstring under a field in `values`."""
    for owner in ast.parse(inspect.getsource(values)).body:
        if isinstance(owner, ast.ClassDef):
            for field, below in zip(owner.body, owner.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                    yield (
                        owner.name,
                        ast.unparse(field.target),
                        inspect.cleandoc(ast.literal_eval(below.value)),
                    )
