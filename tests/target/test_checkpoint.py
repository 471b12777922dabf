"""Checkpoints of every kind, and those that do not fit."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bsadvisor.errors import CheckpointError
from bsadvisor.target.factory import Target
from tests.target.conftest import MODEL, PLAIN, User

TWO_LAYERS = (
    MODEL
    + "    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3))\n    data = TensorDataset(inputs, targets)\n"
)


def two_layers() -> nn.Module:
    torch.manual_seed(9)
    return nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3))


WEIGHTS = two_layers().state_dict()


def prefixed(prefix: str) -> dict[str, Any]:
    return {prefix + name: value for name, value in WEIGHTS.items()}


def loaded(user: User, content: Any, name: str = "last.pt", **flags: Any) -> Target:
    user.write(TWO_LAYERS)
    torch.save(content, name)
    return user.load(checkpoint=name, **flags)


def has_weights(target: Target) -> bool:
    return all(torch.equal(target.parameters[name], value) for name, value in WEIGHTS.items())


@pytest.mark.parametrize(
    ("content", "wrapper", "prefix"),
    [
        (WEIGHTS, None, None),
        ({"model": WEIGHTS, "step": 400}, "model", None),
        ({"epoch": 3, "model_state_dict": WEIGHTS}, "model_state_dict", None),
        ({"state_dict": prefixed("model.")}, "state_dict", "model."),
        ({"model": prefixed("module."), "ema": prefixed("x.")}, "model", "module."),
        (prefixed("_orig_mod."), None, "_orig_mod."),
        ({"best": {"weights": prefixed("module._orig_mod.")}}, "best.weights", "module._orig_mod."),
    ],
)
def test_wrappers_and_prefixes_are_found_and_named(
    user: User, content: Any, wrapper: str | None, prefix: str | None
) -> None:
    target = loaded(user, content)
    assert has_weights(target)
    assert (target.facts.checkpoint_wrapper, target.facts.checkpoint_prefix) == (wrapper, prefix)


@pytest.mark.parametrize("name", ["last.pt", "last.pth", "last.ckpt", "pytorch_model.bin"])
def test_every_ending_of_torch_save_is_read(user: User, name: str) -> None:
    target = loaded(user, WEIGHTS, name)
    assert has_weights(target)
    assert target.description.checkpoint == name
    assert target.description.checkpoint_sha256 == hashlib.sha256(Path(name).read_bytes()).hexdigest()


def test_a_file_in_the_format_before_zip_is_read(user: User) -> None:
    user.write(TWO_LAYERS)
    torch.save(WEIGHTS, "old.pt", _use_new_zipfile_serialization=False)
    assert has_weights(user.load(checkpoint="old.pt"))


def test_a_compiled_model_takes_weights_of_a_plain_one(user: User) -> None:
    user.write(
        TWO_LAYERS
        + "    class Compiled(nn.Module):\n        def __init__(self): super().__init__(); self._orig_mod = nn.Linear(4, 3)\n        def forward(self, x): return self._orig_mod(x)\n    model = Compiled()"
    )
    torch.save({"weight": torch.ones(3, 4), "bias": torch.ones(3)}, "last.pt")
    target = user.load(checkpoint="last.pt")
    assert target.parameters["_orig_mod.weight"].sum().item() == 12


def test_safetensors_are_read(user: User) -> None:
    user.write(TWO_LAYERS)
    save_file(WEIGHTS, "last.safetensors")
    assert has_weights(user.load(checkpoint="last.safetensors"))


def shards(folder: Path) -> None:
    folder.mkdir()
    names = list(WEIGHTS)
    files = {"a.safetensors": names[:1], "b.safetensors": names[1:]}
    for file, part in files.items():
        save_file({name: WEIGHTS[name] for name in part}, folder / file)
    index = {"weight_map": {name: file for file, part in files.items() for name in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("name", ["run", "run/model.safetensors.index.json"])
def test_sharded_safetensors_are_read(user: User, name: str) -> None:
    user.write(TWO_LAYERS)
    shards(user.folder / "run")
    assert has_weights(user.load(checkpoint=name))


def test_every_shard_counts_for_the_hash(user: User) -> None:
    user.write(TWO_LAYERS)
    shards(user.folder / "run")
    before = user.load(checkpoint="run").description.checkpoint_sha256
    save_file({"0.weight": torch.zeros(5, 4)}, "run/a.safetensors")
    assert user.load(checkpoint="run").description.checkpoint_sha256 != before


def test_a_missing_shard_is_named(user: User) -> None:
    user.write(TWO_LAYERS)
    shards(user.folder / "run")
    (user.folder / "run" / "b.safetensors").unlink()
    assert "lists b.safetensors, which is not there" in user.fails(CheckpointError, checkpoint="run")


def test_a_directory_without_safetensors_is_told(user: User) -> None:
    user.write(TWO_LAYERS)
    (user.folder / "run").mkdir()
    (user.folder / "run" / "step 9.pt").touch()
    error = user.fails(CheckpointError, checkpoint="run")
    assert error == (
        "run holds 0 safetensors checkpoints\ngive one file: --checkpoint FILE, such as 'run/step 9.pt'"
    )


def test_a_json_that_is_no_index_is_told(user: User) -> None:
    user.write(TWO_LAYERS)
    (user.folder / "config.json").write_text("{}")
    assert "config.json is not an index of shards" in user.fails(CheckpointError, checkpoint="config.json")


def test_a_tied_tensor_may_be_saved_under_one_name(user: User) -> None:
    user.write(
        MODEL
        + "    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))\n    model[1].weight = model[0].weight\n"
        + "    data = [(inputs, targets)]"
    )
    save_file(
        {"0.weight": torch.ones(4, 4), "0.bias": torch.ones(4), "1.bias": torch.ones(4)}, "tied.safetensors"
    )
    target = user.load(checkpoint="tied.safetensors")
    assert target.parameters["0.weight"].sum().item() == 16
    assert target.facts.tied_parameters == (("0.weight", "1.weight"),)
    assert target.description.parameters == 24


def test_other_shapes_are_named_with_both(user: User) -> None:
    user.write(PLAIN)
    torch.save({"weight": torch.zeros(3, 9), "bias": torch.zeros(3)}, "last.pt")
    error = user.fails(CheckpointError, checkpoint="last.pt")
    assert error.startswith(
        "last.pt does not fit the model: weight is (3, 9) in it and (3, 4) in the model\n"
    )


def test_missing_and_extra_names_are_told_and_only_a_few(user: User) -> None:
    user.write(TWO_LAYERS)
    torch.save({"0.weight": WEIGHTS["0.weight"], "head.weight": torch.zeros(1)}, "last.pt")
    error = user.fails(CheckpointError, checkpoint="last.pt")
    assert "0.bias is missing in it; 1.weight is missing in it; 1.bias is missing in it; and 1 more" in error
    torch.save({**WEIGHTS, "head.weight": torch.zeros(1)}, "last.pt")
    assert "head.weight is not in the model" in user.fails(CheckpointError, checkpoint="last.pt")


def test_a_pickle_that_needs_code_is_refused_unless_trusted(user: User) -> None:
    content = {"model": WEIGHTS, "args": argparse.Namespace(lr=1)}
    user.write(TWO_LAYERS)
    torch.save(content, "last.pt")
    error = user.fails(CheckpointError, checkpoint="last.pt")
    assert "needs code to be read: argparse.Namespace" in error
    assert "--checkpoint last.pt --trust-checkpoint" in error
    assert has_weights(user.load(checkpoint="last.pt", trust_checkpoint=True))


def test_a_whole_pickled_model_is_read_when_trusted(user: User) -> None:
    assert has_weights(loaded(user, two_layers(), trust_checkpoint=True))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.98])
def test_a_truncated_file_is_refused(user: User, kept: float) -> None:
    user.write(TWO_LAYERS)
    torch.save(WEIGHTS, "last.pt")
    whole = Path("last.pt").read_bytes()
    Path("last.pt").write_bytes(whole[: int(len(whole) * kept)])
    assert "last.pt cannot be read as a checkpoint" in user.fails(CheckpointError, checkpoint="last.pt")


@pytest.mark.parametrize("name", ["noise.pt", "noise.safetensors"])
def test_a_file_of_anything_else_is_refused(user: User, name: str) -> None:
    user.write(TWO_LAYERS)
    Path(name).write_bytes(b"neither a pickle nor tensors")
    assert f"{name} cannot be read as a checkpoint" in user.fails(CheckpointError, checkpoint=name)


def test_a_checkpoint_without_weights_is_refused(user: User) -> None:
    user.write(TWO_LAYERS)
    torch.save({"step": 4}, "last.pt")
    assert "last.pt holds no weights by name" in user.fails(CheckpointError, checkpoint="last.pt")


def test_the_checkpoint_is_not_changed_by_training_the_target(user: User) -> None:
    target = loaded(user, WEIGHTS)
    before = Path("last.pt").read_bytes()
    with torch.no_grad():
        for parameter in target.parameters.values():
            parameter.zero_()
    assert Path("last.pt").read_bytes() == before
    assert has_weights(user.load(checkpoint="last.pt"))


def test_weights_that_are_not_finite_are_named(user: User) -> None:
    diverged = {**WEIGHTS, "1.bias": torch.tensor([1.0, float("nan"), 2.0])}
    user.write(TWO_LAYERS)
    torch.save(diverged, "last.pt")
    error = user.fails(CheckpointError, checkpoint="last.pt")
    assert "last.pt holds NaN or infinity in 1.bias" in error
    assert "an earlier checkpoint" in error


def test_a_buffer_may_hold_infinity(user: User) -> None:
    user.write(
        MODEL
        + "    class Net(nn.Linear):\n"
        + "        def __init__(self):\n"
        + "            super().__init__(4, 3)\n"
        + "            self.register_buffer('mask', torch.tensor([-torch.inf]))\n"
        + "    model, data = Net, TensorDataset(inputs, targets)\n"
    )
    torch.save({**nn.Linear(4, 3).state_dict(), "mask": torch.tensor([-torch.inf])}, "last.pt")
    assert user.load(checkpoint="last.pt").description.checkpoint == "last.pt"


def test_a_pipe_is_no_checkpoint(user: User) -> None:
    user.write(TWO_LAYERS)
    os.mkfifo("last.pt")
    error = user.fails(CheckpointError, checkpoint="last.pt")
    assert "last.pt: neither a file nor a directory" in error
