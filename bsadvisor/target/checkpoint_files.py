"""The files of a checkpoint and their hash, without reading a tensor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from bsadvisor.errors import CheckpointError
from bsadvisor.target.paths import shown, typed

SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
"""Of files that may hold a checkpoint."""


def tensor_files(path: Path) -> list[Path]:
    """The files that hold the tensors."""
    if path.is_dir():
        found = sorted(path.glob("*.safetensors.index.json")) or sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            files = ", ".join(typed(file) for file in sorted(path.iterdir()) if file.suffix in SUFFIXES)
            raise CheckpointError(
                f"{shown(path)} holds {len(found)} safetensors checkpoints",
                f"give one file: --checkpoint FILE, such as {files or 'last.pt'}",
            )
        return tensor_files(found[0])
    if path.suffix != ".json":
        return [path]
    try:
        shards = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError):
        raise CheckpointError(
            f"{shown(path)} is not an index of shards", "give the *.safetensors.index.json of the checkpoint"
        ) from None
    missing = [shard for shard in shards if not (path.parent / shard).is_file()]
    if missing:
        raise CheckpointError(
            f"{shown(path)} lists {missing[0]}, which is not there", "put every shard beside the index"
        )
    return [path.parent / shard for shard in shards]


def sha256_of(path: Path, files: Sequence[Path]) -> str:
    """Of the tensors' files, and of the index that lists them where the path is one."""
    digest = hashlib.sha256()
    for part in [path, *files] if path.is_file() and list(files) != [path] else files:
        with part.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
