"""A user: somebody who writes files into a folder and types commands there."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bsadvisor.errors import BsadvisorError
from bsadvisor.settings import TargetRequest
from bsadvisor.target.factory import Target, load

MODEL = """
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
    torch.manual_seed(3)
    inputs, targets = torch.randn(40, 4), torch.arange(40) % 3
"""
"""The head of most files: everything imported, 40 examples of 3 classes."""

PLAIN = MODEL + "    model = nn.Linear(4, 3)\n    data = TensorDataset(inputs, targets)\n"
"""A complete target."""


class User:
    """Writes files and loads targets."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[str] = []

    def write(self, text: str, name: str = "model.py") -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(line.removeprefix("    ") for line in text.splitlines()) + "\n")
        return path

    def load(self, target: str | None = "model.py", **flags: Any) -> Target:
        return load(TargetRequest(target=target, **flags), notify=self.told.append)

    def fails(self, kind: type[BsadvisorError], target: str | None = "model.py", **flags: Any) -> str:
        """Load in vain; the two lines of the error."""
        with pytest.raises(kind) as caught:
            self.load(target, **flags)
        assert type(caught.value) is kind
        return f"{caught.value.message}\n{caught.value.remedy}"


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    monkeypatch.chdir(tmp_path)
    return User(tmp_path)


@pytest.fixture
def yaml(user: User) -> Callable[[str], Path]:
    """Writes bsadvisor.yaml."""
    return lambda text: user.write(textwrap.indent(textwrap.dedent(text), "    "), "bsadvisor.yaml")
