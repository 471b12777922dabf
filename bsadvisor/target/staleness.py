"""Whether the files behind a saved report are still what they were."""

from __future__ import annotations

from pathlib import Path

from bsadvisor.errors import CheckpointError
from bsadvisor.target.checkpoint_files import sha256_of, tensor_files
from bsadvisor.values import FileState


def state_of(file: str | None, sha256: str | None, beside: Path) -> FileState | None:
    """Of a file that was named from here, or from the folder of the report; None where there was none."""
    if file is None or sha256 is None:
        return None
    candidates = (Path(file), beside / file)
    try:
        path = next((path for path in candidates if path.exists()), None)
        if path is None:
            return "absent"
        return "unchanged" if sha256_of(path, tensor_files(path)) == sha256 else "changed"
    except CheckpointError:  # a directory whose shards are no longer what they were
        return "changed"
    except (OSError, ValueError):  # a name that no file can have, or one that may not be read
        return "absent"
