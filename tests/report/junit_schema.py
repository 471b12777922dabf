"""The JUnit schema that Jenkins publishes and GitLab follows, as far as a check can use it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What an element may hold: children with the most of each, and attributes with their form."""

    children: dict[str, int]
    required: dict[str, str]
    optional: dict[str, str]
    text: bool = False


MANY = 10**9

WORDS, WHOLE, SECONDS = r"(?s).*", r"\d+", r"\d+(\.\d+)?"

COUNTS = {"tests": WHOLE, "failures": WHOLE, "errors": WHOLE}

PROBLEM = Kind(children={}, required={}, optional={"type": WORDS, "message": WORDS}, text=True)

KINDS = {
    "testsuites": Kind(
        children={"testsuite": MANY}, required={}, optional={"name": WORDS, "time": SECONDS, **COUNTS}
    ),
    "testsuite": Kind(
        children={"testcase": MANY, "system-out": 1, "system-err": 1},
        required={"name": WORDS, "tests": WHOLE},
        optional={**COUNTS, "skipped": WHOLE, "time": SECONDS, "timestamp": WORDS, "file": WORDS},
    ),
    "testcase": Kind(
        children={"skipped": 1, "error": 1, "failure": 1, "system-out": 1, "system-err": 1},
        required={"name": WORDS, "classname": WORDS},
        optional={"time": SECONDS, "file": WORDS, "line": WHOLE, "assertions": WHOLE, "status": WORDS},
    ),
    "failure": PROBLEM,
    "error": PROBLEM,
    "skipped": Kind(children={}, required={}, optional={"message": WORDS}, text=True),
    "system-out": Kind(children={}, required={}, optional={}, text=True),
}


def offences(element: Element, expected: str = "testsuites") -> list[str]:
    """What the schema does not allow; the counts are compared with what they count, too."""
    if element.tag != expected:
        return [f"{element.tag} in place of {expected}"]
    kind, found = KINDS[expected], []
    allowed = {**kind.optional, **kind.required}
    found += [f"{expected} without {name}" for name in kind.required if name not in element.attrib]
    for name, value in element.attrib.items():
        if not re.fullmatch(allowed.get(name, "(?!)"), value):
            found.append(f"{expected} with {name}={value!r}")
    if not kind.text and (element.text or "").strip():
        found.append(f"text in {expected}")
    for tag in {child.tag for child in element}:
        if len(element.findall(tag)) > kind.children.get(tag, 0):
            found.append(f"{tag} in {expected}")
    found += _wrong_counts(element)
    return found + [offence for child in element for offence in offences(child, child.tag)]


def _wrong_counts(element: Element) -> list[str]:
    counted = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
    return [
        f"{element.tag} with {name}={element.get(name)}"
        for name, tag in counted.items()
        if name in element.attrib and int(element.attrib[name]) != len(list(element.iter(tag)))
    ]
