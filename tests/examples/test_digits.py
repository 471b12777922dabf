"""The example that `init` writes is what it says it is."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

EXAMPLE = Path(str(resources.files("bsadvisor.examples"))) / "digits"


@pytest.fixture
def names() -> dict[str, Any]:
    """What model.py defines."""
    return runpy.run_path(str(EXAMPLE / "model.py"))


def saved(path: Path) -> Any:
    """A checkpoint, read without running code."""
    return torch.load(path, weights_only=True)


def loss_on(model: Any, examples: Any) -> float:
    """Mean cross entropy over a data set."""
    with torch.no_grad():
        return float(cross_entropy(model(examples.tensors[0]), examples.tensors[1]))


def test_the_data_are_1797_digits_in_two_parts() -> None:
    with np.load(EXAMPLE / "digits.npz") as arrays:
        assert arrays["train_images"].shape == (1437, 8, 8)
        assert arrays["heldout_images"].shape == (360, 8, 8)
        assert {arrays[name].dtype for name in arrays} == {np.dtype("uint8")}
        everything = np.concatenate([arrays["train_images"], arrays["heldout_images"]])
        labels = np.concatenate([arrays["train_labels"], arrays["heldout_labels"]])
    assert (everything.min(), everything.max()) == (0, 16)
    assert sorted(set(labels.tolist())) == list(range(10))


def test_training_makes_the_checkpoint_again(tmp_path: Path) -> None:
    for name in ("model.py", "train.py", "digits.npz"):
        shutil.copy(EXAMPLE / name, tmp_path)
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, check=True, capture_output=True)
    again, shipped = saved(tmp_path / "checkpoint.pt"), saved(EXAMPLE / "checkpoint.pt")
    assert again["step"] == shipped["step"] == 200
    # Another processor may round differently, and 200 steps carry that along.
    torch.testing.assert_close(again, shipped, rtol=1e-2, atol=1e-3)


def test_the_checkpoint_fits_the_model_and_the_optimizer(names: dict[str, Any]) -> None:
    model, checkpoint = names["model"](), saved(EXAMPLE / "checkpoint.pt")
    model.load_state_dict(checkpoint["model"])
    names["optimizer"](model.parameters()).load_state_dict(checkpoint["optimizer"])
    assert sum(parameter.numel() for parameter in model.parameters()) == 2410
    assert 0.5 < loss_on(model, names["data"]()) < 1.2  # in the middle: untrained it is 2.3


def test_the_held_out_loss_still_falls_from_there(names: dict[str, Any]) -> None:
    model, checkpoint = names["model"](), saved(EXAMPLE / "checkpoint.pt")
    optimizer = names["optimizer"](model.parameters())
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    before = loss_on(model, names["heldout"]())
    torch.manual_seed(1)
    loader = torch.utils.data.DataLoader(names["data"](), names["BATCH_SIZE"], shuffle=True)
    for _ in range(2):
        for images, labels in loader:
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()
    assert loss_on(model, names["heldout"]()) < 0.95 * before
