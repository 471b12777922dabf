"""Where to measure, and in which number type."""

from __future__ import annotations

import difflib
import os

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


def accelerators(name: str | None) -> tuple[str, ...]:
    """`cuda:0`, `cuda:1`, ... where the user asked for none of them by its number; else none.

    Args:
        name: as typed.
    """
    return tuple(_numbered()) if name in (None, "cuda") else ()


def see_only(device: str) -> None:
    """The one accelerator of this process from now on, as on a machine with no other: `cuda`, and `cuda:0`.

    So the user's code finds it where it would look for it in a process alone. To be called before CUDA is
    used; another device than one of `accelerators` changes nothing.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return
    hip = torch.version.hip is not None and "HIP_VISIBLE_DEVICES" in os.environ
    variable = "HIP_VISIBLE_DEVICES" if hip else "CUDA_VISIBLE_DEVICES"
    visible = os.environ.get(variable)
    os.environ[variable] = visible.split(",")[int(index)].strip() if visible else index


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
    numbered = _numbered()
    names = ["cuda", *numbered] if numbered else []
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def _numbered() -> list[str]:
    """CUDA's devices, each by its number."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [f"cuda:{index}" for index in range(count)]
