"""The pair in use today, from whoever knows it first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bsadvisor.target.data import DataSource
from bsadvisor.target.names import find_number, find_numbers_like
from bsadvisor.target.optimizer import OptimizerInUse
from bsadvisor.target.paths import PythonName
from bsadvisor.target.spec import Said, TargetSpec, check_reasonable
from bsadvisor.target.user_code import UserCode
from bsadvisor.values import UnreadNumber

_SPELLINGS = {
    "BATCH_SIZE": ("batch_size", "batchsize", "train_batch_size", "bs"),
    "LEARNING_RATE": ("learning_rate", "learningrate", "lr"),
}
"""What people call them, in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairInUse:
    """Batch size and learning rate, each with who said it."""

    batch_size: Said | None
    learning_rate: Said | None
    learning_rate_now: float | None
    """Where a schedule has brought the learning rate since."""
    batch_size_assumed: bool
    unread: tuple[UnreadNumber, ...]


def find_pair(spec: TargetSpec, data: DataSource, optimizer: OptimizerInUse, code: UserCode) -> PairInUse:
    """In the contract's order: flags and YAML, constants, optimizer, checkpoint, loader."""
    file = spec.model.file.name
    known = spec.batch_size or _constant(code, spec.model, "BATCH_SIZE", (int,))
    loader = spec.data.file.name if spec.data else file
    assumed = (
        Said(value=data.batch_size, by=f"DataLoader.batch_size in {loader}")
        if known is None and data.batch_size
        else None
    )
    rate = (
        spec.learning_rate
        or _constant(code, spec.model, "LEARNING_RATE", (int, float))
        or (Said(value=optimizer.own_rate.peak, by=f"optimizer in {file}") if optimizer.own_rate else None)
        or (Said(value=optimizer.saved_rate.peak, by="checkpoint") if optimizer.saved_rate else None)
    )
    if rate:
        check_reasonable(rate.value, rate.by)
    return PairInUse(
        batch_size=known or assumed,
        learning_rate=rate,
        learning_rate_now=_decayed(rate, optimizer),
        batch_size_assumed=assumed is not None,
        unread=(
            *(() if known else _unread(code, spec.model, "--batch-size", "BATCH_SIZE", (int,), assumed)),
            *(() if rate else _unread(code, spec.model, "--lr", "LEARNING_RATE", (int, float))),
        ),
    )


def find_independent_pair(
    spec: TargetSpec, data: DataSource, optimizer: OptimizerInUse, code: UserCode
) -> PairInUse:
    """What `check` starts from: never flags nor YAML, which say what is judged; the checkpoint first."""
    found = find_pair(replace(spec, batch_size=None, learning_rate=None), data, optimizer, code)
    saved = optimizer.saved_rate
    if saved is None:
        return found
    rate = Said(value=saved.peak, by="checkpoint")
    return replace(found, learning_rate=rate, learning_rate_now=_decayed(rate, optimizer), unread=())


def _constant(code: UserCode, file: PythonName, name: str, kinds: tuple[type, ...]) -> Said | None:
    value = find_number(code, file, name, kinds)
    return None if value is None else Said(value=value, by=f"{name} in {file.file.name}")


def _unread(
    code: UserCode,
    file: PythonName,
    flag: str,
    name: str,
    kinds: tuple[type, ...],
    assumed: Said | None = None,
) -> Iterator[UnreadNumber]:
    """Numbers in the file that may be meant, where nobody gave the one that is wanted."""
    for found, value in find_numbers_like(code, file, _SPELLINGS[name], kinds).items():
        if assumed is None or value != assumed.value:
            yield UnreadNumber(name=found, file=file.file.name, value=value, wanted=name, flag=flag)


def _decayed(rate: Said | None, optimizer: OptimizerInUse) -> float | None:
    """The learning rate that a schedule has made of the anchor, where one is known to have."""
    known = [found for found in (optimizer.own_rate, optimizer.saved_rate) if found]
    return next((r.now for r in known if rate and r.peak == rate.value and r.now != r.peak), None)
