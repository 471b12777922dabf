"""A check as JUnit XML: a test suite per target, a test case per rule."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from bsadvisor.report import check_content, content
from bsadvisor.report.check_content import Line
from bsadvisor.values import CheckedTarget, CheckSummary


def to_junit(summary: CheckSummary, *, unicode: bool = True) -> str:
    """What GitLab, Jenkins and others read: a violation fails, what is unknown was skipped.

    Args:
        unicode: False: in character references, because a stream of another encoding is no UTF-8 either.
    """
    root = Element("testsuites", name=f"bsadvisor {_clean(summary.bsadvisor_version)}")
    for target in summary.targets:
        _add_suite(root, target)
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    if not unicode:
        text = text.encode("ascii", "xmlcharrefreplace").decode()
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_suite(root: Element, target: CheckedTarget) -> None:
    report, error = target.report, target.error
    seconds = report.probe.seconds if report else 0.0
    suite = SubElement(root, "testsuite", name=_clean(target.name), time=f"{abs(seconds):.3f}")
    if error is not None:
        case = _add_case(suite, target.name, "load")
        _add(case, "error", f"exit code {target.exit_code}", error.message, error.remedy)
    for line in check_content.lines(report) if report else ():
        _add_rule(suite, target.name, line)
    _count(suite)


def _count(suite: Element) -> None:
    counts = {"tests": "testcase", "failures": "testcase/failure", "errors": "testcase/error"}
    for count, path in {**counts, "skipped": "testcase/skipped"}.items():
        suite.set(count, str(len(suite.findall(path))))


def _add_rule(suite: Element, name: str, line: Line) -> None:
    result = line.result
    case = _add_case(suite, name, result.rule)
    where = check_content.place(result.source)
    if where is not None:
        case.set("file", _clean(where[0]))
        case.set("line", str(where[1]))
    if line.fails:
        _add(case, "failure", result.code, result.message, result.remedy)
    elif line.kind == "unknown":
        SubElement(case, "skipped", message=_clean(f"{result.message}: {result.remedy}"))
    else:
        told = SubElement(case, "system-out")
        remedy = check_content.what_to_do(line)
        told.text = _clean(f"{line.kind}: {result.message}" + (f"; {remedy}" if remedy else ""))


def _add_case(suite: Element, name: str, rule: str) -> Element:
    return SubElement(suite, "testcase", classname=_clean(name), name=rule, time="0")


def _add(case: Element, kind: str, type: str, message: str, remedy: str) -> None:
    told = SubElement(case, kind, type=_clean(type), message=_clean(message))
    told.text = _clean(remedy)


def _clean(text: str) -> str:
    """XML has no way to say control characters."""
    return content.printable(text)
