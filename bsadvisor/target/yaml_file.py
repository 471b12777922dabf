"""`bsadvisor.yaml`: every key it may hold, checked before anything is used."""

from __future__ import annotations

import difflib
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from bsadvisor.errors import UsageError
from bsadvisor.target.check_section import RULE_SECTIONS, CheckSection
from bsadvisor.target.paths import shown
from bsadvisor.target.yaml_types import Count, NotNegative, Positive, Section


class DataSection(Section):
    """A name in a Python file, or a file that is read here."""

    loader: str | None = None
    format: Literal["tokens", "npz", "csv", "parquet", "image-folder", "jsonl", "huggingface"] | None = None
    path: str | None = None

    @model_validator(mode="after")
    def _one_way(self) -> DataSection:
        named, read = self.loader is not None, self.format is not None and self.path is not None
        if named == read or (named and (self.format or self.path)):
            raise ValueError("holds either `loader`, or `format` and `path`")
        return self


class OptimizerSection(Section):
    """A class of torch.optim and its settings."""

    name: str
    lr: Positive | None = None
    betas: Annotated[list[Annotated[NotNegative, Field(lt=1)]], Field(min_length=2, max_length=2)] | None = (
        None
    )
    momentum: NotNegative | None = None
    nesterov: bool | None = None
    weight_decay: NotNegative | None = None
    eps: NotNegative | None = None


class HardwareSection(Section):
    """What training runs on."""

    devices: Count | None = None


class YamlFile(Section):
    """The whole file."""

    model: str | None = None
    checkpoint: str | None = None
    data: DataSection | None = None
    heldout: DataSection | None = None
    loss: str | None = None
    optimizer: OptimizerSection | None = None
    batch_size: Count | None = None
    example: str | None = None
    hardware: HardwareSection = HardwareSection()
    autocast: Literal["bfloat16", "float16"] | None = None
    clip_grad_norm: Positive | None = None
    check: CheckSection = CheckSection()


_SECTIONS: dict[tuple[str, ...], type[BaseModel]] = {
    (): YamlFile,
    ("data",): DataSection,
    ("heldout",): DataSection,
    ("optimizer",): OptimizerSection,
    ("hardware",): HardwareSection,
    ("check",): CheckSection,
    **{("check", rule): section for rule, section in RULE_SECTIONS.items()},
}


def read_yaml(path: Path) -> YamlFile:
    """The settings in a file, or a `UsageError` that names the line and the key."""
    text, content = _parse(path)
    try:
        return YamlFile.model_validate({} if content is None else content)
    except ValidationError as error:
        line = _line_of(text, _where(error))
        what, remedy = problem_in(error)
        raise UsageError(f"{shown(path)}:{line}: {what}", remedy) from None


def line_of_key(path: Path, *keys: str) -> int:
    """The line that sets a key, in a file that was read already."""
    return _line_of(path.read_text(encoding="utf-8"), keys)


def problem_in(error: ValidationError, *section: str) -> tuple[str, str]:
    """The first problem, and what to do about it, where a section or the whole file was read."""
    problem, where = error.errors()[0], _where(error, *section)
    return _what(problem, where), _remedy(problem, where)


def _where(error: ValidationError, *section: str) -> tuple[str, ...]:
    """The keys to the first problem, as they were written: a rule's value may be spelled without `value`."""
    where = (*section, *(str(part) for part in error.errors()[0]["loc"]))
    return where[:-1] if where[:1] == ("check",) and where[-1] == "value" else where


def _parse(path: Path) -> tuple[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_repeated_keys(path, yaml.compose(text, Loader=yaml.SafeLoader))
        return text, yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(
            f"{shown(path)} cannot be read: {reason}", "check the path given as --config"
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # a date or a number that is none
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise UsageError(f"{shown(path)}{line}: not YAML: {problem}", "mend that line") from None


def _refuse_repeated_keys(path: Path, node: yaml.Node | None, section: str = "") -> None:
    """YAML itself would take the last of them without a word."""
    entries = node.value if isinstance(node, yaml.MappingNode) else []
    lines: dict[str, int] = {}
    for key, value in entries:
        name, line = f"{section}{key.value}", key.start_mark.line + 1
        if name in lines:
            raise UsageError(
                f"{shown(path)}:{line}: `{name}` is given twice, on line {lines[name]} too",
                "remove one of them",
            )
        lines[name] = line
        _refuse_repeated_keys(path, value, f"{name}.")


def _what(problem: Any, where: tuple[str, ...]) -> str:
    key = ".".join(where)
    if problem["type"] == "extra_forbidden":
        return f"unknown key `{key}`"
    if problem["type"] == "missing":
        return f"`{key}` is missing"
    if problem["type"] == "value_error":
        return f"`{key}` {problem['ctx']['error']}"
    if problem["type"] == "model_type":
        section = f"`{key}` should be a section" if key else "it should be a file"
        return f"{section} with keys, not {reprlib.repr(problem['input'])}"
    return f"`{key}` {problem['msg'].removeprefix('Input ')}, not {reprlib.repr(problem['input'])}"


def _remedy(problem: Any, where: tuple[str, ...]) -> str:
    if problem["type"] != "extra_forbidden":
        return "correct it there; the README has an example of every key"
    known = list(_SECTIONS[where[:-1]].model_fields)
    near = difflib.get_close_matches(where[-1], known, n=1)
    return f"did you mean `{near[0]}`?" if near else f"the keys here are: {', '.join(known)}"


def _line_of(text: str, where: tuple[str, ...]) -> int:
    """The line of a key, or of the section that should hold it."""
    node, line = yaml.compose(text, Loader=yaml.SafeLoader), 1
    for key in where:
        entries = node.value if isinstance(node, yaml.MappingNode) else []
        found = next(((name, value) for name, value in entries if name.value == key), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line
