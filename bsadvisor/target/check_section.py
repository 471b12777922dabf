"""`check:` in `bsadvisor.yaml`: each rule with its value and severity.

max_examples_over_minimum: 3.0                            the value, at severity `error`
max_examples_over_minimum: warning                        the severity, at the default value
max_steps_over_minimum: {value: 4.0, severity: warning}   both
memory: null                                              off, as is `off`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from bsadvisor.settings import RuleSeverity
from bsadvisor.target.yaml_types import Number, Positive, Section
from bsadvisor.values import RuleName

SEVERITIES: tuple[RuleSeverity, ...] = get_args(RuleSeverity)


def _off_from_false(value: Any) -> Any:
    """YAML 1.1 reads `off` as false."""
    return "off" if value is False else value


Level = Annotated[Literal["off", "note", "warning", "error"], BeforeValidator(_off_from_false)]


class Rule(Section):
    """What all rules have."""

    severity: Level = "error"


class NumberRule(Rule):
    """The most that is allowed."""

    value: Positive | None


class FactorRule(Rule):
    """The same over the least that is possible: 1 or less would allow nothing."""

    value: Annotated[Number, Field(gt=1)] | None


class LearningRateRule(Rule):
    """Against the range of the advice, or the stability limit alone."""

    value: Literal["range", "limit"] | None


class MemoryRule(Rule):
    """Whether the batch has to fit."""

    value: bool | None


class CheckSection(Section):
    """The rules of `check`, and how severe a violation makes it fail."""

    max_examples_over_minimum: FactorRule = FactorRule(value=2.0)
    max_steps_over_minimum: FactorRule = FactorRule(value=None)
    learning_rate: LearningRateRule = LearningRateRule(value="range")
    escape_steps: NumberRule = NumberRule(value=None)
    memory: MemoryRule = MemoryRule(value=True)
    max_drift: FactorRule = FactorRule(value=2.0)
    fail_on: RuleSeverity = "error"

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, written: Any) -> Any:
        if written is None:  # every line of it is commented out
            return {}
        if not isinstance(written, Mapping):
            return written
        return {
            key: _spelled_out(key, value) if key in get_args(RuleName) else value
            for key, value in written.items()
        }


RULE_SECTIONS: dict[str, type[Section]] = {
    name: type(CheckSection.model_fields[name].default) for name in get_args(RuleName)
}


def _spelled_out(name: str, written: Any) -> Any:
    """A rule as `value` and `severity`, however short it was written."""
    if isinstance(written, Mapping):
        return (
            written
            if "value" in written
            else {"value": _default_of(name, written.get("severity")), **written}
        )
    if written is False or written == "off":
        return {"value": None, "severity": "off"}
    if isinstance(written, str) and written in SEVERITIES:
        return {"value": _default_of(name, written), "severity": written}
    return {"value": written}


def _default_of(name: str, severity: Any) -> Any:
    """For a rule whose severity alone is given."""
    default = CheckSection.model_fields[name].default.value
    if default is None and severity in SEVERITIES:
        raise ValueError(f"holds no value for `{name}`: write {{value: 100, severity: {severity}}}")
    return default
