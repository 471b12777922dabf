"""Flags over YAML: what to load, and who said so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bsadvisor.errors import CheckpointError, TargetError, UsageError
from bsadvisor.settings import LARGEST_BATCH, TargetRequest
from bsadvisor.target.checkpoint_files import SUFFIXES
from bsadvisor.target.paths import PythonName, parse_full_python_name, parse_python_name, shown, typed
from bsadvisor.target.yaml_file import DataSection, OptimizerSection, YamlFile, read_yaml

CONFIG_NAME = "bsadvisor.yaml"

LOWEST_RATE, HIGHEST_RATE = 1e-30, 1e30
"""Beyond these, the square of a learning rate is no number any more."""

CRITERIA = ("cross_entropy", "mse")
"""Losses that can be asked for by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A number of the pair in use, and who said it."""

    value: float
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSpec:
    """An optimizer by its name in torch.optim, and the settings that were given with it."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpec:
    """Everything that flags and YAML say about a target, checked; None is looked for in its file."""

    model: PythonName
    checkpoint: Path | None
    trust_checkpoint: bool
    data: PythonName | None
    npz: Path | None
    """A file of arrays that holds the data instead."""
    heldout: PythonName | None
    heldout_npz: Path | None
    loss: PythonName | str | None
    """A function of the user's, or one of `CRITERIA`."""
    optimizer: OptimizerSpec | None
    batch_size: Said | None
    learning_rate: Said | None
    example: str | None
    num_devices: int | None
    autocast: str | None
    clip_grad_norm: float | None
    device: str | None
    dtype: str | None


def read_spec(request: TargetRequest) -> TargetSpec:
    """Merge the flags over `bsadvisor.yaml`."""
    try:
        return _read_spec(request)
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise TargetError(f"{error.filename}: {error.strerror}", "check the path") from None


def _read_spec(request: TargetRequest) -> TargetSpec:
    check_flags(request)
    here = Path.cwd()
    typed = parse_python_name(request.target, here) if request.target else None
    config = find_config(request, target_folder(request))
    settings = read_yaml(config) if config else YamlFile()
    folder = config.parent if config else here
    said_by = shown(config) if config else CONFIG_NAME
    data, npz = _data(request, settings.data, folder, said_by)
    heldout, heldout_npz = _in_section(settings.heldout, folder, f"{said_by}: heldout")
    optimizer = _optimizer(request, settings.optimizer)
    rate_in_yaml = optimizer.settings.get("lr") if optimizer else None
    return TargetSpec(
        model=_model(typed, settings.model, folder),
        checkpoint=_checkpoint(request, settings, folder),
        trust_checkpoint=request.trust_checkpoint,
        data=data,
        npz=npz,
        heldout=heldout,
        heldout_npz=heldout_npz,
        loss=_loss(request, settings, folder, said_by),
        optimizer=optimizer,
        batch_size=_said(request.batch_size, "--batch-size", settings.batch_size, config),
        learning_rate=_said(request.learning_rate, "--lr", rate_in_yaml, config),
        example=settings.example,
        num_devices=settings.hardware.devices,
        autocast=settings.autocast,
        clip_grad_norm=settings.clip_grad_norm,
        device=request.device,
        dtype=request.dtype,
    )


def check_flags(request: TargetRequest) -> None:
    """Refuse a pair that nobody can train with."""
    if request.batch_size is not None and request.batch_size < 1:
        raise UsageError(
            f"--batch-size {request.batch_size} is below 1", "give the examples per optimizer step"
        )
    if request.batch_size is not None and request.batch_size > LARGEST_BATCH:
        raise UsageError(
            f"--batch-size is beyond all reason: above {LARGEST_BATCH:,}",
            "give the examples per optimizer step",
        )
    rate = request.learning_rate
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise UsageError(f"--lr {rate} is not a learning rate", "give a finite number above 0")


def find_config(request: TargetRequest, beside: Path) -> Path | None:
    """The file that a flag names, else the one in the folder of the target, else the one here."""
    if request.config is not None:
        return Path(request.config)
    candidates = (folder / CONFIG_NAME for folder in (beside, Path.cwd()))
    return next((path for path in candidates if path.is_file()), None)


def target_folder(request: TargetRequest) -> Path:
    """Where the target's file is; here, where the YAML names it."""
    here = Path.cwd()
    return parse_python_name(request.target, here).file.parent if request.target else here


def _model(typed: PythonName | None, in_yaml: str | None, folder: Path) -> PythonName:
    configured = parse_python_name(in_yaml, folder) if in_yaml else None
    if typed is None and configured is None:
        raise UsageError(
            "no target: which model?", "bsadvisor probe model.py   (or `model: model.py` in bsadvisor.yaml)"
        )
    if typed is None or (
        configured and typed.name is None and typed.file.resolve() == configured.file.resolve()
    ):
        typed = configured
    assert typed is not None
    _check_python_file(typed.file)
    return typed


def _check_python_file(file: Path) -> None:
    if file.is_dir():
        raise TargetError(
            f"{shown(file)} is a directory: a model is read from a Python file",
            "write a model.py with a function `model()` that returns it: bsadvisor probe model.py",
        )
    if not file.is_file():
        near = sorted(path.name for path in file.parent.glob("*.py"))[:4] if file.parent.is_dir() else []
        raise TargetError(
            f"{shown(file)}: no such file",
            f"Python files there: {', '.join(near)}" if near else "check the path",
        )
    if file.suffix != ".py":
        raise TargetError(
            f"{shown(file)} is not a Python file",
            f"bsadvisor probe model.py --checkpoint {typed(file)}   (where model.py builds the model)"
            if file.suffix.lower() in SUFFIXES
            else "a model is a FILE.py, settings are --config FILE.yaml, and a saved report is a FILE.json",
        )


def _checkpoint(request: TargetRequest, settings: YamlFile, folder: Path) -> Path | None:
    if request.checkpoint is None and settings.checkpoint is None:
        return None
    path = Path(request.checkpoint) if request.checkpoint else folder / str(settings.checkpoint)
    if not (path.is_file() or path.is_dir()):
        problem = "neither a file nor a directory" if path.exists() else "no such checkpoint"
        raise CheckpointError(
            f"{shown(path)}: {problem}", "check the path given as --checkpoint or in the YAML"
        )
    return path


def _data(
    request: TargetRequest, section: DataSection | None, folder: Path, said_by: str
) -> tuple[PythonName | None, Path | None]:
    if request.data is not None:
        return _existing_name(request.data, Path.cwd(), "--data"), None
    return _in_section(section, folder, f"{said_by}: data")


def _in_section(
    section: DataSection | None, folder: Path, said_by: str
) -> tuple[PythonName | None, Path | None]:
    """A name in a Python file, or a file of arrays."""
    if section is None:
        return None, None
    if section.loader is not None:
        return _existing_name(section.loader, folder, f"{said_by}.loader"), None
    if section.format != "npz":
        raise UsageError(
            f"{said_by} of format {section.format} is not read by this version",
            "give format: npz, or loader: model.py:NAME of a Dataset that reads it",
        )
    return None, folder / str(section.path)


def _loss(request: TargetRequest, settings: YamlFile, folder: Path, said_by: str) -> PythonName | str | None:
    text, base, by = (
        (request.loss, Path.cwd(), "--loss") if request.loss else (settings.loss, folder, f"{said_by}: loss")
    )
    if text is None or text in CRITERIA:
        return text
    if ":" not in text:
        raise UsageError(f"{by} {text}: not a loss", f"give {' or '.join(CRITERIA)}, or FILE.py:NAME")
    return _existing_name(text, base, by)


def _existing_name(text: str, folder: Path, said_by: str) -> PythonName:
    parsed = parse_full_python_name(text, folder, said_by)
    _check_python_file(parsed.file)
    return parsed


def _optimizer(request: TargetRequest, section: OptimizerSection | None) -> OptimizerSpec | None:
    """The flag chooses; the YAML's settings apply when they are for the same optimizer."""
    name = request.optimizer or (section.name if section else None)
    if name is None:
        return None
    same = section is not None and section.name.lower() == name.lower()
    settings = section.model_dump(exclude={"name"}, exclude_none=True) if section and same else {}
    return OptimizerSpec(name=name, settings=settings)


def check_reasonable(rate: float, by: str) -> None:
    """Refuse a learning rate that cannot be reckoned with."""
    if not LOWEST_RATE < rate < HIGHEST_RATE:
        raise UsageError(
            f"the learning rate {rate:.3g}, from {by}, is beyond all reason",
            f"give one between {LOWEST_RATE:g} and {HIGHEST_RATE:g}: --lr RATE",
        )


def _said(flag: float | None, flag_name: str, in_yaml: float | None, config: Path | None) -> Said | None:
    if flag is not None:
        return Said(value=flag, by=flag_name)
    return Said(value=in_yaml, by=config.name) if in_yaml is not None and config else None
