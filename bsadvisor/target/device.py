"""Where to measure, and in which number type."""

from __future__ import annotations

import difflib

import torch

from bsadvisor.errors import TargetError, UsageError

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def find_device(name: str | None) -> torch.device:
    """The device asked for, or the best one here."""
    present = _present()
    if name is None:
        return torch.device(present[0])
    if name not in present:
        raise TargetError(
            f"there is no device `{name}` on this machine",
            f"pass --device with one of: {', '.join(present)}",
        )
    return torch.device(name)


def find_dtype(name: str) -> torch.dtype:
    """The floating-point type called `name`."""
    if name not in DTYPES:
        near = difflib.get_close_matches(name, DTYPES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"--dtype {name}: not a type that weights can have", f"{hint}one of: {', '.join(DTYPES)}"
        )
    return DTYPES[name]


def _present() -> list[str]:
    """Names that `--device` takes here, the best first."""
    names = []
    if torch.cuda.is_available():
        names += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]
