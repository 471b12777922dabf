"""The whole target: its pair in use, its device, what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bsadvisor.errors import TargetError, UsageError
from bsadvisor.target.device import find_device
from tests.target.conftest import MODEL, PLAIN, User

LOADER = PLAIN + "    data = DataLoader(data, batch_size=7, shuffle=True)\n"


@pytest.mark.parametrize(
    ("more", "yaml_text", "flags", "size", "by"),
    [
        ("BATCH_SIZE = 9", "batch_size: 10", {"batch_size": 11}, 11, "--batch-size"),
        ("BATCH_SIZE = 9", "batch_size: 10", {}, 10, "bsadvisor.yaml"),
        ("BATCH_SIZE = 9", "", {}, 9, "BATCH_SIZE in model.py"),
        ("", "", {}, 7, "DataLoader.batch_size in model.py"),
    ],
)
def test_the_batch_size_comes_from_whoever_is_first_in_the_contract(
    user: User,
    yaml: Callable[[str], Path],
    more: str,
    yaml_text: str,
    flags: dict[str, Any],
    size: int,
    by: str,
) -> None:
    user.write(LOADER + f"    {more}")
    yaml(yaml_text)
    target = user.load(**flags)
    assert (target.description.batch_size, target.description.anchor.batch_size_from) == (size, by)
    assert target.facts.batch_size_assumed == by.startswith("DataLoader")
    assert target.facts.loader_shuffles is True


@pytest.mark.parametrize(
    ("more", "flags", "told"),
    [
        ("batch_size = 64", {}, ["batch_size = 64: --batch-size or BATCH_SIZE"]),
        ("lr = 3e-4", {}, ["lr = 0.0003: --lr or LEARNING_RATE"]),
        (
            "LR, Learning_Rate = 0.5, 0.1",
            {},
            ["LR = 0.5: --lr or LEARNING_RATE", "Learning_Rate = 0.1: --lr or LEARNING_RATE"],
        ),
        ("batch_size, lr = 64, 0.1", {"batch_size": 8, "learning_rate": 1.0}, []),
        ("batch_size, BATCH_SIZE, lr, LEARNING_RATE = 64, 8, 0.1, 1.0", {}, []),
        ("lr = 0.1\n    optimizer = torch.optim.SGD(model.parameters(), lr=lr)", {}, []),
        ("batch_size, lr, bs = '64', True, 0", {}, []),
        ("batch_size = 7\n    data = DataLoader(data, batch_size=batch_size)", {}, []),
        (
            "batch_size = 56\n    data = DataLoader(data, batch_size=batch_size // 8)",
            {},
            ["batch_size = 56: --batch-size or BATCH_SIZE"],
        ),
    ],
)
def test_numbers_under_other_names_are_pointed_out_where_nothing_else_gives_them(
    user: User, more: str, flags: dict[str, Any], told: list[str]
) -> None:
    user.write(PLAIN + f"    {more}")
    found = user.load(**flags).facts.unread
    assert [f"{one.name} = {one.value:g}: {one.flag} or {one.wanted}" for one in found] == told
    assert all(one.file == "model.py" for one in found)


def test_no_batch_size_anywhere_is_none(user: User) -> None:
    user.write(PLAIN)
    target = user.load()
    assert target.description.batch_size is None
    assert target.per_device_batch is None
    assert not target.facts.batch_size_assumed


@pytest.mark.parametrize(("batch_size", "devices", "each"), [(64, 8, 8), (4, 8, 1), (64, 1, 64)])
def test_every_device_takes_its_share_of_the_batch(
    user: User, yaml: Callable[[str], Path], batch_size: int, devices: int, each: int
) -> None:
    user.write(PLAIN)
    yaml(f"batch_size: {batch_size}\nhardware: {{devices: {devices}}}")
    target = user.load()
    assert target.per_device_batch == each
    assert target.facts.num_devices == devices


@pytest.mark.parametrize(
    ("constant", "message"),
    [
        ("BATCH_SIZE = 0", "BATCH_SIZE in model.py is 0\nmake it a whole number above 0"),
        ("BATCH_SIZE = 10**20", "BATCH_SIZE in model.py is 100000000000000000000\nmake it a whole number"),
        ("BATCH_SIZE = 10**400", "BATCH_SIZE in model.py is 10000"),
        ("BATCH_SIZE = 3.5", "BATCH_SIZE in model.py is 3.5"),
        ("BATCH_SIZE = True", "BATCH_SIZE in model.py is True"),
        ("LEARNING_RATE = '1'", "LEARNING_RATE in model.py is '1'\nmake it a finite number above 0"),
        ("LEARNING_RATE = float('nan')", "LEARNING_RATE in model.py is nan"),
    ],
)
def test_a_constant_that_makes_no_sense_is_told(user: User, constant: str, message: str) -> None:
    user.write(PLAIN + f"    {constant}")
    assert message in user.fails(TargetError)


def test_complex_parameters_are_refused(user: User) -> None:
    user.write(PLAIN.replace("nn.Linear(4, 3)", "nn.Linear(4, 3, dtype=torch.complex64)"))
    assert "weight is complex: only real parameters can be measured" in user.fails(TargetError)


def test_a_frozen_model_is_refused(user: User) -> None:
    user.write(PLAIN + "    model.requires_grad_(False)")
    assert "all 2 parameters of the model are frozen" in user.fails(TargetError)


def test_a_model_without_parameters_is_refused(user: User) -> None:
    user.write(MODEL + "    model = nn.Flatten()\n    data = TensorDataset(inputs, targets)")
    assert "the model has no parameters" in user.fails(TargetError)


@pytest.mark.parametrize("name", ["cuda:99", "meta", "gpu"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(TargetError) as caught:
        find_device(name)
    assert f"no device `{name}`" in caught.value.message
    assert caught.value.remedy.endswith("cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "name"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_best_device_is_found(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert find_device(None) == torch.device(name)
    assert find_device("cpu") == torch.device("cpu")
    if cuda:
        assert find_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_the_dtype_casts_weights_and_inputs(user: User, dtype: str) -> None:
    user.write(PLAIN)
    target = user.load(dtype=dtype)
    assert {str(parameter.dtype) for parameter in target.parameters.values()} == {f"torch.{dtype}"}
    assert target.description.dtype == dtype
    assert str(target.loss(next(target.data.fetch([range(8)]))).dtype) == f"torch.{dtype}"


def test_inputs_follow_a_model_of_low_precision(user: User) -> None:
    user.write(PLAIN + "    model = model.bfloat16()")
    target = user.load()
    assert target.loss(next(target.data.fetch([range(8)]))).dtype == torch.bfloat16


def test_an_unknown_dtype_is_a_usage_error(user: User) -> None:
    user.write(PLAIN)
    assert "did you mean bfloat16?" in user.fails(UsageError, dtype="bfloat")


def test_autocast_computes_in_the_type_asked_for(user: User, yaml: Callable[[str], Path]) -> None:
    user.write(PLAIN + "    def loss(model, batch): return model(batch[0]).sum()")
    yaml("autocast: bfloat16")
    target = user.load()
    assert target.parameters["weight"].dtype == torch.float32
    assert target.loss(next(target.data.fetch([range(8)]))).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("data", "word", "tokens"),
    [
        ("[(inputs, targets)]", "example", None),
        ("[(torch.zeros(8, 3, 5, 5), targets[:8])]", "image", None),
        ("[(torch.zeros(8, 5), torch.tensor([[1, 2, -100, -100]] * 8))]", "sequence", 2.0),
    ],
)
def test_an_example_is_called_what_it_is(user: User, data: str, word: str, tokens: float | None) -> None:
    user.write(
        MODEL
        + f"    model = nn.Linear(4, 3)\n    data = {data}\n    def loss(model, batch): return model.weight.sum()"
    )
    about = user.load().description
    assert (about.example, about.tokens_per_example) == (word, tokens)


def test_the_yaml_calls_an_example_what_it_likes(user: User, yaml: Callable[[str], Path]) -> None:
    user.write(PLAIN)
    yaml("example: row\nclip_grad_norm: 2")
    target = user.load()
    assert target.description.example == "row"
    assert target.facts.clip_grad_norm == 2.0


def test_the_users_files_are_as_before(user: User) -> None:
    user.write(PLAIN)
    before = {path: path.read_bytes() for path in user.folder.rglob("*") if path.is_file()}
    user.load()
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.device
def test_everything_is_on_the_accelerator(user: User) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    user.write(
        LOADER
        + "    loss = nn.CrossEntropyLoss(weight=torch.ones(3))\n"
        + "    optimizer = torch.optim.AdamW(model.parameters())\n"
        + "    loss(model(inputs), targets).backward()\n    optimizer.step()"
    )
    target = user.load(device="cuda")
    assert target.parameters["weight"].is_cuda
    assert target.preconditioner is not None
    assert target.preconditioner["weight"].is_cuda
    batch = next(target.data.fetch([range(8)]))
    assert batch[0].is_pinned()
    target.loss(batch).backward()
    assert target.parameters["weight"].grad is not None
