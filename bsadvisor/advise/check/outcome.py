"""What a rule can come to: broken, kept, or not to be told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

from bsadvisor.findings import finding
from bsadvisor.values import CheckRule, CheckVerdict, PassingRange, Reach, RuleName, RuleResult, Source

CODES: dict[RuleName, str] = {
    "max_examples_over_minimum": "BSA381",
    "max_steps_over_minimum": "BSA382",
    "learning_rate": "BSA383",
    "escape_steps": "BSA384",
    "memory": "BSA385",
    "max_drift": "BSA386",
}

UNREASONABLE = "the numbers of the report cannot be reckoned with"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A rule's verdict with its reasons."""

    verdict: CheckVerdict
    result: RuleResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A rule beside the setting that it is about: what every outcome repeats."""

    rule: CheckRule
    asked: float | None = None
    source: Source | None = None
    measured: Reach | None = field(default=None)

    def with_measured(self, measured: Reach) -> Case:
        """Once it is known what there is to compare with."""
        return replace(self, measured=measured)

    def failed(self, passes: PassingRange | None, **evidence: str) -> Outcome:
        """Broken; the words are those of the catalogue."""
        said = finding(CODES[self.rule.name], advice=_would_pass(passes), **evidence)
        return Outcome(verdict="fail", result=self._result(said.message, said.remedy, passes))

    def passed(self, message: str) -> Outcome:
        """Kept, or not shown to be broken."""
        return Outcome(verdict="pass", result=self._result(message, "nothing to do"))

    def unknown(self, reason: str, remedy: str) -> Outcome:
        """Neither can be said."""
        return Outcome(verdict="unknown", result=self._result(reason, remedy))

    def _result(self, message: str, remedy: str, passes: PassingRange | None = None) -> RuleResult:
        return RuleResult(
            rule=self.rule.name,
            code=CODES[self.rule.name],
            severity=self.rule.severity,
            message=message,
            remedy=remedy,
            measured=self.measured,
            asked=self.asked,
            passes=passes,
            source=self.source,
        )


def at_most(measured: Reach, allowed: float) -> CheckVerdict:
    """Whether a number stays below what is allowed.

    Broken only where even its low end, the favourable one, is above. Where there is no low end, nothing
    can be broken; it is kept where the value, or else the high end, is allowed.
    """
    if measured.low is not None:
        return "fail" if measured.low > allowed else "pass"
    likely = measured.high if measured.value is None else measured.value
    return "pass" if likely is not None and likely <= allowed else "unknown"


def times(number: float) -> str:
    """`6.44` or `1,230`: a factor or a count, in a sentence."""
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}"


def least(measured: Reach) -> str:
    """`at least 6.44 (predicted 44.1)`."""
    predicted = "" if measured.value is None else f" (predicted {times(measured.value)})"
    return f"at least {times(measured.low or 0.0)}{predicted}"


def likely(measured: Reach) -> str:
    """`2.35`, or the one end that is known."""
    if measured.value is not None:
        return times(measured.value)
    return f"at most {times(measured.high)}" if measured.high is not None else "not resolved"


def _would_pass(passes: PassingRange | None) -> str:
    if passes is None:
        return "no batch size and no learning rate would pass"
    name = "B" if passes.setting == "batch_size" else "η"
    low = None if passes.low is None else _shown(passes.low, passes, ROUND_CEILING)
    high = None if passes.high is None else _shown(passes.high, passes, ROUND_FLOOR)
    if low is not None and high is not None:
        return f"{name} from {low} to {high} would pass"
    return f"{name} = {low} or more would pass" if high is None else f"{name} = {high} or less would pass"


def _shown(end: float, passes: PassingRange, rounding: str) -> str:
    """Rounded into the range, so that what is typed off the screen does pass."""
    if passes.setting == "batch_size":
        return f"{end:,.0f}"
    return f"{float(Context(prec=3, rounding=rounding).create_decimal(repr(end))):g}"
