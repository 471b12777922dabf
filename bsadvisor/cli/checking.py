"""One target after the other: what `check` does with the names on its command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bsadvisor import __version__
from bsadvisor.cli.measuring import keep_silent, say
from bsadvisor.cli.output import say_error
from bsadvisor.cli.progress import progress_bar
from bsadvisor.cli.saved import read_report
from bsadvisor.cli.signals import heeding_signals, stopped_exit_code
from bsadvisor.errors import (
    EXIT_DONE,
    EXIT_INCONCLUSIVE,
    EXIT_TARGET,
    EXIT_USAGE,
    EXIT_VIOLATION,
    BsadvisorError,
    UsageError,
)
from bsadvisor.pipeline import StopSignal
from bsadvisor.pipeline.checking import CheckSettings, check_report, check_target
from bsadvisor.settings import ProbeSettings, TargetRequest
from bsadvisor.values import SCHEMA_VERSION, CheckedTarget, CheckError, CheckSummary, CheckVerdict, Report

BADNESS = (EXIT_DONE, EXIT_INCONCLUSIVE, EXIT_VIOLATION, EXIT_TARGET, EXIT_USAGE)
"""The worst last: what could not be judged at all hides more than a violation does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checker:
    """The command line, for every name on it."""

    request: TargetRequest
    probing: ProbeSettings
    settings: CheckSettings
    allow_inconclusive: bool
    told_to_ci: bool
    """The result is annotations or JUnit, which have a place for what could not be judged."""
    quiet: bool
    stop: StopSignal

    def check(self, names: Sequence[str | None]) -> CheckSummary:
        """Judge them all; the error of one of several does not keep the others from being judged.

        Raises:
            BsadvisorError: the only one cannot be judged, and the result has no place for that.
        """
        alone = len(names) == 1 and not self.told_to_ci
        judge = self._judge if alone else self._try_to_judge
        targets = [judge(name) for name in names if not self.stop.requested]
        code = max((target.exit_code for target in targets), key=BADNESS.index)
        return CheckSummary(
            schema_version=SCHEMA_VERSION,
            bsadvisor_version=__version__,
            command="check",
            verdict=_together(targets),
            exit_code=stopped_exit_code(self.stop) if self.stop.requested else code,
            targets=tuple(targets),
        )

    def _try_to_judge(self, name: str | None) -> CheckedTarget:
        try:
            return self._judge(name)
        except BsadvisorError as error:
            say_error(error)
            said = CheckError(message=error.message, remedy=error.remedy)
            return CheckedTarget(name=_shown(name), exit_code=error.exit_code, report=None, error=said)

    def _judge(self, name: str | None) -> CheckedTarget:
        request = replace(self.request, target=name)
        if name is not None and is_report(name):
            beside = Path() if _is_piped(name) else Path(name).parent
            asked = replace(request, target=None)
            report = check_report(read_report(name), asked, self.settings, beside)
        else:
            report = self._probe(request)
        shown = report.target.model if name is None or _is_piped(name) else name
        return CheckedTarget(name=shown, exit_code=self._exit_code(report), report=report, error=None)

    def _probe(self, request: TargetRequest) -> Report:
        shown = sys.stderr.isatty() and not self.quiet
        notify: Callable[[str], None] = keep_silent if self.quiet else say
        with heeding_signals(self.stop), progress_bar(shown=shown) as progress:
            return check_target(
                request, self.probing, self.settings, progress=progress, notify=notify, stop=self.stop
            )

    def _exit_code(self, report: Report) -> int:
        if report.verdict == "fail":
            return EXIT_VIOLATION
        unknown = report.verdict == "unknown" and not self.allow_inconclusive
        return EXIT_INCONCLUSIVE if unknown else EXIT_DONE


def is_report(name: str) -> bool:
    """A saved one, or one that is piped in; everything else is a target."""
    return _is_piped(name) or name.lower().endswith(".json")


def _is_piped(name: str) -> bool:
    """On stdin, or as the shell names what `<(a command)` prints."""
    return name == "-" or name.startswith("/dev/")


def refuse_doubles(names: Sequence[str], remedy: str) -> None:
    """Two targets of the same name cannot be told apart in a summary, and of two results one would be lost."""
    seen: dict[str, str] = {}
    for name in names:
        key = name if name == "-" else os.path.realpath(name)  # unlike a Path, it bears links that go round
        if key in seen:
            raise UsageError(f"{name} is given twice", remedy)
        seen[key] = name


def _together(targets: Sequence[CheckedTarget]) -> CheckVerdict:
    verdicts = {target.report.verdict if target.report else "unknown" for target in targets}
    if "fail" in verdicts:
        return "fail"
    return "pass" if verdicts == {"pass"} else "unknown"


def _shown(name: str | None) -> str:
    return name or "bsadvisor.yaml"
