"""A probe's statistics on disk, so that an interrupted probe can go on: tensors and text, no code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bsadvisor.errors import OutputError, TargetError
from bsadvisor.measure.gradients import GradientProbe


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedProbe:
    """What must be known before the tensors can be loaded."""

    path: Path
    micro_batch: int
    seed: int
    identity: str
    """Of the target: whose statistics these are."""
    reached: frozenset[str]


def save_probe(path: Path, probe: GradientProbe, identity: str) -> None:
    """Write the statistics beside the report, atomically.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = path.with_name(path.name + ".part")
    metadata = {
        "micro_batch": str(probe.micro_batch),
        "seed": str(probe.seed),
        "identity": identity,
        "reached": "\n".join(sorted(probe.reached)),
    }
    try:
        save_file(probe.accumulator.state(), temporary, metadata=metadata)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path} could not be written: {error}", "choose another --output") from error


def read_saved_probe(path: Path) -> SavedProbe:
    """The header of saved statistics.

    Raises:
        TargetError: there are none, or they are damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            return SavedProbe(
                path=path,
                micro_batch=int(metadata["micro_batch"]),
                seed=int(metadata["seed"]),
                identity=metadata["identity"],
                reached=frozenset(metadata["reached"].splitlines()),
            )
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TargetError(
            f"nothing to resume from in {path}: {error}",
            "probe again with --output FILE.json; an unfinished probe keeps its state beside that file",
        ) from error


def restore_probe(saved: SavedProbe, probe: GradientProbe, identity: str) -> None:
    """Load the statistics into a probe of the same target.

    Raises:
        TargetError: they belong to another target.
    """
    if saved.identity != identity:
        raise TargetError(
            f"{saved.path} belongs to another model, checkpoint or data set",
            "probe again without --resume",
        )
    with safe_open(saved.path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    try:
        probe.accumulator.load_state(state)
    except (ValueError, KeyError) as error:
        raise TargetError(
            f"{saved.path} cannot be resumed: {error}", "probe again without --resume"
        ) from error
    probe.reached.update(saved.reached)
