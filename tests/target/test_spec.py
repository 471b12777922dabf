"""Flags, bsadvisor.yaml, and what they merge to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bsadvisor.errors import CheckpointError, TargetError, UsageError
from bsadvisor.settings import TargetRequest
from bsadvisor.target.spec import Said, TargetSpec, read_spec
from tests.target.conftest import PLAIN, User

EVERY_KEY = """
    model: model.py:build
    checkpoint: last.pt
    data:
      loader: model.py:train_data
    loss: cross_entropy
    optimizer: {name: adamw, lr: 3e-4, betas: [0.9, 0.95], weight_decay: 0.1}
    batch_size: 256
    example: sequence
    hardware: {devices: 8}
    autocast: bfloat16
    clip_grad_norm: 1.0
    check:
      max_examples_over_minimum: 2.0
      max_steps_over_minimum: null
      learning_rate: range
      escape_steps: null
      memory: true
      max_drift: 2.0
      fail_on: error
"""

Yaml = Callable[[str], Path]


def spec(**flags: object) -> TargetSpec:
    return read_spec(TargetRequest(**flags))  # type: ignore[arg-type]


def usage_error(**flags: object) -> str:
    with pytest.raises(UsageError) as caught:
        spec(**flags)
    return f"{caught.value.message}\n{caught.value.remedy}"


def test_every_key_of_the_contract_is_read(user: User, yaml: Yaml) -> None:
    user.write(PLAIN)
    (user.folder / "last.pt").touch()
    yaml(EVERY_KEY)
    read = spec()
    assert (read.model.file, read.model.name) == (user.folder / "model.py", "build")
    assert read.checkpoint == user.folder / "last.pt"
    assert read.data is not None
    assert read.data.name == "train_data"
    assert read.loss == "cross_entropy"
    assert read.optimizer is not None
    assert read.optimizer.name == "adamw"
    assert read.optimizer.settings["betas"] == [0.9, 0.95]
    assert read.batch_size == Said(value=256, by="bsadvisor.yaml")
    assert read.learning_rate == Said(value=3e-4, by="bsadvisor.yaml")
    assert (read.example, read.num_devices, read.autocast, read.clip_grad_norm) == (
        "sequence",
        8,
        "bfloat16",
        1.0,
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            "batch_size: 8\nloss: mse\nbatch_size: 16",
            "bsadvisor.yaml:3: `batch_size` is given twice, on line 1",
        ),
        (
            "optimizer:\n  name: sgd\n  lr: 0.1\n  lr: 0.2",
            "bsadvisor.yaml:4: `optimizer.lr` is given twice, on line 3",
        ),
        ("data: {loader: a.py:b, loader: a.py:c}", "bsadvisor.yaml:1: `data.loader` is given twice"),
    ],
)
def test_a_key_given_twice_is_refused_with_both_lines(user: User, yaml: Yaml, text: str, place: str) -> None:
    user.write(PLAIN)
    yaml(text)
    with pytest.raises(UsageError) as caught:
        spec(target="model.py")
    assert place in caught.value.message and caught.value.exit_code == 2


def test_flags_win_over_the_yaml(user: User, yaml: Yaml) -> None:
    user.write(PLAIN)
    yaml("batch_size: 8\noptimizer: {name: sgd, lr: 0.1}\nloss: mse")
    read = spec(target="model.py", batch_size=16, learning_rate=0.5, loss="cross_entropy")
    assert read.batch_size == Said(value=16, by="--batch-size")
    assert read.learning_rate == Said(value=0.5, by="--lr")
    assert read.loss == "cross_entropy"


def test_settings_of_another_optimizer_do_not_apply_to_the_one_asked_for(user: User, yaml: Yaml) -> None:
    user.write(PLAIN)
    yaml("optimizer: {name: sgd, lr: 0.1}")
    read = spec(target="model.py", optimizer="adamw")
    assert read.optimizer is not None
    assert (read.optimizer.name, dict(read.optimizer.settings), read.learning_rate) == ("adamw", {}, None)


def test_the_yaml_beside_the_target_wins_over_the_one_here(user: User, yaml: Yaml) -> None:
    user.write(PLAIN, "there/model.py")
    yaml("batch_size: 8")
    assert spec(target="there/model.py").batch_size == Said(value=8, by="bsadvisor.yaml")
    user.write("    batch_size: 9", "there/bsadvisor.yaml")
    assert spec(target="there/model.py").batch_size == Said(value=9, by="bsadvisor.yaml")


def test_paths_in_the_yaml_are_relative_to_it(user: User) -> None:
    user.write(PLAIN, "there/model.py")
    config = user.write("    model: model.py", "there/other.yaml")
    assert spec(config=str(config)).model.file == user.folder / "there" / "model.py"


def test_the_name_in_the_yaml_counts_for_the_same_file(user: User, yaml: Yaml) -> None:
    user.write(PLAIN)
    yaml("model: model.py:build")
    assert spec(target="model.py").model.name == "build"
    assert spec(target="model.py:net").model.name == "net"


def test_no_target_at_all_says_what_to_type(user: User) -> None:
    assert "bsadvisor probe model.py" in usage_error()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("batch_sise: 3", "bsadvisor.yaml:1: unknown key `batch_sise`\ndid you mean `batch_size`?"),
        (
            "\noptimizer:\n  name: sgd\n  lrr: 1.0",
            "bsadvisor.yaml:4: unknown key `optimizer.lrr`\ndid you mean `lr`?",
        ),
        ("check: {fail_onn: note}", "did you mean `fail_on`?"),
        ("hardware: {zzz: 1}", "the keys here are: devices"),
        ("batch_size: many", "`batch_size` should be a valid integer, not 'many'"),
        ("batch_size: 0", "`batch_size` should be greater than or equal to 1, not 0"),
        ("batch_size: true", "`batch_size` should be a valid integer"),
        ("optimizer: adam", "`optimizer` should be a section with keys, not 'adam'"),
        ("optimizer: {lr: 0.1}", "`optimizer.name` is missing"),
        ("optimizer: {name: sgd, lr: .inf}", "`optimizer.lr` should be a finite number"),
        ("optimizer: {name: sgd, lr: -1}", "`optimizer.lr` should be greater than 0"),
        ("data: {loader: a.py:b, path: c}", "`data` holds either `loader`, or `format` and `path`"),
        ("data: {format: xls, path: c}", "`data.format` should be 'tokens', 'npz'"),
        ("data: {format: csv, path: c}", "data of format csv is not read by this version\ngive format: npz"),
        ("data: {loader: model.py}", "data.loader model.py: which name in which file?"),
        ("loss: hinge", "bsadvisor.yaml: loss hinge: not a loss\ngive cross_entropy or mse"),
        ("- a\n- b", "it should be a file with keys, not"),
        ("a: [1", "bsadvisor.yaml:2: not YAML"),
        ("a: " + "[" * 3000, "bsadvisor.yaml: not YAML: it cannot be parsed"),
        ("!!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_a_wrong_yaml_is_a_usage_error_that_names_the_key(
    user: User, yaml: Yaml, text: str, line: str
) -> None:
    user.write(PLAIN)
    yaml(text)
    assert line in usage_error(target="model.py")


def test_a_config_that_is_not_there_is_named(user: User) -> None:
    user.write(PLAIN)
    assert "gone.yaml" in usage_error(target="model.py", config="gone.yaml")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"batch_size": 0}, "--batch-size 0 is below 1"),
        ({"learning_rate": float("nan")}, "--lr nan"),
        ({"learning_rate": 0.0}, "--lr 0.0"),
        ({"data": "model.py"}, "--data model.py: which name in which file?"),
        ({"loss": "hinge"}, "--loss hinge: not a loss"),
    ],
)
def test_a_wrong_flag_is_a_usage_error(user: User, flags: dict[str, object], line: str) -> None:
    user.write(PLAIN)
    assert line in usage_error(target="model.py", **flags)


def test_a_missing_target_names_the_files_that_are_there(user: User) -> None:
    user.write(PLAIN, "train.py")
    assert user.fails(TargetError, "model.py") == "model.py: no such file\nPython files there: train.py"


def test_a_checkpoint_typed_as_the_target_is_told_its_flag(user: User) -> None:
    (user.folder / "last.pt").touch()
    assert "bsadvisor probe model.py --checkpoint last.pt" in user.fails(TargetError, "last.pt")


def test_a_directory_is_refused(user: User) -> None:
    (user.folder / "runs").mkdir()
    assert "runs is a directory" in user.fails(TargetError, "runs")


def test_a_missing_checkpoint_is_named_before_anything_runs(user: User) -> None:
    user.write("    raise AssertionError")
    assert "gone.pt: no such checkpoint" in user.fails(CheckpointError, checkpoint="gone.pt")


@pytest.mark.parametrize("flag", ["data", "loss"])
def test_a_missing_file_of_a_flag_is_told_like_a_missing_target(user: User, flag: str) -> None:
    user.write(PLAIN)
    error = user.fails(TargetError, **{flag: "other.py:name"})
    assert error == "other.py: no such file\nPython files there: model.py"


def test_a_name_that_no_file_can_have_is_told(user: User) -> None:
    assert "File name too long" in user.fails(TargetError, "x" * 5000 + ".py")


@pytest.mark.parametrize("rate", [1e-300, 1e300])
def test_a_learning_rate_beyond_all_reason_is_refused(user: User, rate: float) -> None:
    user.write(PLAIN + f"    LEARNING_RATE = {rate}\n")
    error = user.fails(UsageError)
    assert f"the learning rate {rate:.3g}, from LEARNING_RATE in model.py, is beyond all reason" in error
