"""What is said of the report that a pair was judged by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from bsadvisor.advise.remarks import sort_findings
from bsadvisor.findings import finding
from bsadvisor.values import Finding, Report

ABOUT_THE_REPORT = ("BSA391", "BSA392", "BSA393")
"""Codes of what is remarked here and in `soundness`."""


def about_files(judged: Report) -> Iterator[Finding]:
    """Files that have changed since a saved report was made."""
    about, check = judged.target, judged.check
    if check is not None and check.checkpoint == "changed":
        yield finding("BSA391", file=about.checkpoint)
    if check is not None and check.data == "changed":
        yield finding("BSA392", what=f"{about.data_file} has changed")


def about_baseline(report: Report, baseline: Report | None) -> Iterator[Finding]:
    """A data set that has grown or shrunk since."""
    now, then = report.target.dataset_size, baseline.target.dataset_size if baseline else None
    if now is not None and then is not None and now != then:
        yield finding("BSA392", what=f"{then:,} examples in the baseline, and {now:,} now")


def with_remarks(report: Report, remarks: Iterable[Finding]) -> Report:
    """With these in place of those of an earlier check of the same report."""
    kept = (found for found in report.findings if found.code not in ABOUT_THE_REPORT)
    return replace(report, findings=sort_findings([*remarks, *kept]))
