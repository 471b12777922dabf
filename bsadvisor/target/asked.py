"""What a check is asked: the pair that flags and YAML say, and the rules; no torch, and no code is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from bsadvisor.errors import UsageError
from bsadvisor.settings import RuleSeverity, TargetRequest
from bsadvisor.target.check_section import CheckSection
from bsadvisor.target.paths import shown
from bsadvisor.target.spec import check_flags, check_reasonable, find_config
from bsadvisor.target.yaml_file import YamlFile, line_of_key, problem_in, read_yaml
from bsadvisor.values import CheckRequest, CheckRule, RuleName, Source, SourcedPair


def read_asked(
    request: TargetRequest, beside: Path, rules: Sequence[str], fail_on: RuleSeverity | None
) -> CheckRequest:
    """Flags over `bsadvisor.yaml`.

    Args:
        request: its batch size and learning rate are judged.
        beside: folder of the target or the report.
        rules: `NAME=VALUE` each, as in the YAML.
    """
    check_flags(request)
    config = find_config(request, beside)
    settings = read_yaml(config) if config else YamlFile()
    flags = _from_flags(rules)
    return CheckRequest(
        pair=_pair(request, settings, config),
        rules=tuple(
            rule for name in get_args(RuleName) if (rule := _rule(name, settings.check, flags, config))
        ),
        fail_on=fail_on or settings.check.fail_on,
    )


def _pair(request: TargetRequest, settings: YamlFile, config: Path | None) -> SourcedPair:
    in_yaml = settings.optimizer.lr if settings.optimizer else None
    batch_size = settings.batch_size if request.batch_size is None else request.batch_size
    rate = in_yaml if request.learning_rate is None else request.learning_rate
    pair = SourcedPair(
        batch_size=batch_size,
        batch_size_from=_source(request.batch_size, "--batch-size", batch_size, config, "batch_size"),
        learning_rate=rate,
        learning_rate_from=_source(request.learning_rate, "--lr", rate, config, "optimizer", "lr"),
    )
    if rate is not None and pair.learning_rate_from is not None:
        check_reasonable(rate, pair.learning_rate_from.by)
    return pair


def _source(
    flag: float | None, flag_name: str, number: float | None, config: Path | None, *keys: str
) -> Source | None:
    if flag is not None:
        return Source(by=flag_name)
    return None if number is None or config is None else _in_yaml(config, *keys)


def _in_yaml(config: Path, *keys: str) -> Source:
    return Source(by=config.name, file=shown(config), line=line_of_key(config, *keys))


# --- the rules ----------------------------------------------------------------------------------


def _from_flags(rules: Sequence[str]) -> CheckSection:
    """The section that the flags would make in a YAML."""
    written: dict[str, Any] = {}
    for rule in rules:
        name, equals, value = rule.partition("=")
        if not equals or name == "fail_on":
            raise UsageError(f"--rule {rule}: which value?", "write --rule NAME=VALUE, as in bsadvisor.yaml")
        if name in written:
            raise UsageError(f"--rule {name} is given twice", "leave one of them out")
        try:
            written[name] = yaml.safe_load(value)
        except (yaml.YAMLError, RecursionError, ValueError):  # the last: a date or a number that is none
            raise UsageError(f"--rule {name}: not a value", "write it as in bsadvisor.yaml") from None
    try:
        return CheckSection.model_validate(written)
    except ValidationError as error:
        what, remedy = problem_in(error, "check")
        raise UsageError(f"--rule: {what}", remedy) from None


def _rule(
    name: RuleName, in_yaml: CheckSection, flags: CheckSection, config: Path | None
) -> CheckRule | None:
    """With its source where it is not the default; None where it is off."""
    by_flag = name in flags.model_fields_set
    section = getattr(flags if by_flag else in_yaml, name)
    if section.severity == "off" or section.value is None or section.value is False:
        return None
    source = Source(by="--rule") if by_flag else None
    if not by_flag and config is not None and name in in_yaml.model_fields_set:
        source = _in_yaml(config, "check", name)
    value = None if name == "memory" else section.value
    return CheckRule(name=name, value=value, severity=section.severity, source=source)
