"""The user's files: imported, searched by name, and their failures told."""

from __future__ import annotations

import random
import shlex
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from bsadvisor.errors import DataError, TargetError
from bsadvisor.target import user_code
from tests.target.conftest import MODEL, PLAIN, User


def test_a_plain_file_loads(user: User) -> None:
    user.write(PLAIN)
    target = user.load()
    assert target.model.training
    assert set(target.parameters) == {"weight", "bias"}
    assert target.description.model == "model.py"
    assert (target.description.parameters, target.description.trainable_parameters) == (15, 15)
    assert target.description.checkpoint is None
    assert target.description.dataset_size == 40


@pytest.mark.parametrize(
    "definition",
    [
        "def model(): return nn.Linear(4, 3)",
        "class model(nn.Linear):\n        def __init__(self): super().__init__(4, 3)",
        "model = nn.Linear(4, 3)",
    ],
)
def test_a_model_may_be_an_instance_a_class_or_a_function(user: User, definition: str) -> None:
    user.write(MODEL + f"    {definition}\n    data = TensorDataset(inputs, targets)")
    assert isinstance(user.load().model, nn.Linear)


def test_another_name_picks_another_model(user: User) -> None:
    user.write(PLAIN + "    net = nn.Sequential(nn.Linear(4, 3))")
    assert isinstance(user.load("model.py:net").model, nn.Sequential)


def test_the_file_is_not_main_and_sees_only_itself_in_argv(user: User) -> None:
    user.write(
        PLAIN
        + "    import sys\n    assert __name__ != '__main__'\n    assert sys.argv[1:] == [], sys.argv\n    assert sys.argv[0].endswith('model.py')"
    )
    argv, path = list(sys.argv), list(sys.path)
    user.load()
    assert (sys.argv, sys.path) == (argv, path)


def test_modules_beside_the_file_can_be_imported_then_and_later(user: User) -> None:
    user.write("    value = 1.0", "beside_a.py")
    user.write("    value = 2.0", "beside_b.py")
    user.write(
        PLAIN
        + "    import beside_a\n"
        + "    def loss(model, batch):\n        from beside_b import value\n        return (model(batch[0]) * value * beside_a.value).mean()"
    )
    target = user.load()
    path = list(sys.path)
    assert target.loss(next(target.data.fetch([range(4)]))).ndim == 0
    assert sys.path == path


def test_what_the_file_adds_to_the_path_stays_there_for_it(user: User) -> None:
    user.write("    value = 2.0", "lib/far_away.py")
    user.write(
        PLAIN
        + "    import sys, pathlib\n    sys.path.append(str(pathlib.Path(__file__).parent / 'lib'))\n"
        + "    def loss(model, batch):\n        import far_away\n        return model(batch[0]).mean() * far_away.value"
    )
    target = user.load()
    assert target.loss(next(target.data.fetch([range(4)]))).ndim == 0


def test_random_state_is_as_before_and_the_model_the_same_each_time(user: User) -> None:
    user.write(
        PLAIN.replace("torch.manual_seed(3)", "import random, numpy; random.random(); numpy.random.rand()")
    )
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    first = user.load().parameters["weight"]
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    torch.rand(1)
    assert torch.equal(first, user.load().parameters["weight"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x = 1\n    raise ValueError('no luck')", "model.py failed at model.py:2: ValueError: no luck"),
        (
            "def f():\n        return 1 / 0\n    f()",
            "at model.py:2 in f: ZeroDivisionError: division by zero",
        ),
        ("import sys\n    sys.exit(3)", "at model.py:2: SystemExit: 3"),
        ("x = (", "at model.py:1: SyntaxError"),
        ("import torch\n    torch.zeros(2) @ torch.zeros(3)", "at model.py:2: RuntimeError: "),
    ],
)
def test_a_file_that_fails_to_import_is_told_with_its_last_line(user: User, text: str, line: str) -> None:
    user.write(f"    {text}")
    assert line in user.fails(TargetError)


def test_a_failing_model_function_is_told(user: User) -> None:
    user.write(MODEL + "    def model():\n        return nn.Linear('a', 3)")
    assert "`model` failed at model.py:8 in model: TypeError" in user.fails(TargetError)


def test_a_slow_import_is_told_to_guard_its_training_loop(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.write(PLAIN)
    user.load()
    assert user.told == []
    monkeypatch.setattr(user_code, "SLOW_IMPORT_SECONDS", 0.05)
    user.write(PLAIN + "    import time\n    time.sleep(0.5)")
    user.load()
    assert len(user.told) == 1
    assert "if __name__ == '__main__':" in user.told[0]


def test_the_warning_of_a_slow_import_is_off_once_it_is_over(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_code, "SLOW_IMPORT_SECONDS", 0.3)
    user.write("    value = 1")
    user_code.UserCode(notify=user.told.append).load(user.folder / "model.py")
    time.sleep(0.4)
    assert user.told == []


def test_candidates_are_named_with_the_command_to_type(user: User) -> None:
    user.write(
        MODEL + "    class Net(nn.Linear): pass\n    net = Net(4, 3)\n    criterion = nn.MSELoss()",
        "train.py",
    )
    assert user.fails(TargetError, "train.py") == (
        "train.py defines no `model`\n"
        "bsadvisor probe train.py:net   (train.py has: net, a Net instance; Net, a class)"
    )


def test_the_last_class_without_arguments_is_the_likeliest(user: User) -> None:
    user.write(
        MODEL
        + "    class Block(nn.Module): pass\n    class Net(nn.Module): pass\n    class Sized(nn.Linear): pass",
        "train.py",
    )
    assert "bsadvisor probe train.py:Net " in user.fails(TargetError, "train.py")


def test_a_function_that_may_train_is_no_candidate(user: User) -> None:
    user.write("    def train(): pass\n    def build_net(): pass")
    error = user.fails(TargetError)
    assert "model.py:build_net" in error
    assert "train" not in error


@pytest.mark.parametrize(
    ("block", "where"),
    [("def main():", "main (line 8)"), ("if __name__ == '__main__':", "the main guard (line 8)")],
)
def test_a_model_made_where_only_a_run_reaches_is_found(user: User, block: str, where: str) -> None:
    user.write(MODEL + f"    {block}\n        model = nn.Linear(4, 3)")
    assert f"it is assigned inside {where}" in user.fails(TargetError)


def test_a_model_that_wants_arguments_is_refused(user: User) -> None:
    user.write(MODEL + "    def model(width, depth=2): pass")
    error = user.fails(TargetError)
    assert "`model` in model.py wants arguments: width" in error
    assert "def build(): return model(...)" in error


def test_a_model_function_that_returns_something_else_is_refused(user: User) -> None:
    user.write("    def model(): return {}, 1")
    assert "returned a tuple, not a torch.nn.Module" in user.fails(TargetError)


def test_a_model_that_is_something_else_is_refused(user: User) -> None:
    user.write("    model = {}")
    assert "`model` in model.py is a dict" in user.fails(TargetError)


def test_the_only_loader_is_the_data(user: User) -> None:
    user.write(
        MODEL
        + "    from torch.utils import data\n    model = nn.Linear(4, 3)\n"
        + "    loader = DataLoader(TensorDataset(inputs, targets), batch_size=5)"
    )
    assert user.load().description.batch_size == 5


def test_a_tensor_left_over_from_a_loop_is_not_the_data(user: User) -> None:
    user.write(
        MODEL
        + "    model = nn.Linear(4, 3)\n    loader = DataLoader(TensorDataset(inputs, targets))\n"
        + "    for data, target in loader: pass"
    )
    assert user.load().description.dataset_size == 40


def test_two_loaders_are_candidates_training_first(user: User) -> None:
    user.write(
        MODEL
        + "    model = nn.Linear(4, 3)\n"
        + "    test_loader = DataLoader(TensorDataset(inputs, targets))\n"
        + "    train_loader = DataLoader(TensorDataset(inputs, targets))"
    )
    assert "bsadvisor probe model.py --data model.py:train_loader " in user.fails(DataError)
    assert user.load(data="model.py:train_loader").description.dataset_size == 40


def test_no_data_at_all_says_what_to_write(user: User) -> None:
    user.write(MODEL + "    model = nn.Linear(4, 3)")
    assert "model.py defines no `data`\nadd the training data" in user.fails(DataError)


def test_a_named_thing_that_is_not_there_is_told(user: User) -> None:
    user.write(PLAIN)
    assert "model.py defines no `nothing`\nnames there: " in user.fails(TargetError, data="model.py:nothing")


def test_data_may_be_in_another_file_and_a_function(user: User) -> None:
    user.write(MODEL + "    model = nn.Linear(4, 3)")
    user.write(MODEL + "    def train(): return TensorDataset(inputs, targets)", "rows.py")
    assert user.load(data="rows.py:train").description.dataset_size == 40


def test_a_failing_data_function_is_told(user: User) -> None:
    user.write(MODEL + "    model = nn.Linear(4, 3)\n    def data(): raise OSError('gone')")
    assert "`data` failed at model.py:8 in data: OSError: gone" in user.fails(TargetError)


def test_a_loader_made_where_only_a_run_reaches_is_found(user: User) -> None:
    user.write(
        MODEL
        + "    import torch.utils.data as tud\n    model = nn.Linear(4, 3)\n"
        + "    def main():\n        train = tud.DataLoader(TensorDataset(inputs, targets))"
    )
    error = user.fails(DataError)
    assert "a DataLoader is made inside main (line 10)" in error
    assert "def data(): ...; return DataLoader(...)" in error


def test_commands_can_be_typed_whatever_the_file_is_called(user: User) -> None:
    user.write(MODEL + "    net = nn.Linear(4, 3)", "my model.py")
    assert "bsadvisor probe 'my model.py:net'" in user.fails(TargetError, "my model.py")
    user.write(
        MODEL + "    model = nn.Linear(4, 3)\n    a, b = [DataLoader(inputs) for _ in '12']", "it's.py"
    )
    error = user.fails(DataError, "it's.py")
    command = next(line for line in error.splitlines() if line.startswith("bsadvisor")).split("   (")[0]
    assert shlex.split(command) == ["bsadvisor", "probe", "it's.py", "--data", "it's.py:a"]


def test_data_that_wants_arguments_is_told_the_flag_for_another(user: User) -> None:
    user.write(MODEL + "    model = nn.Linear(4, 3)\n    def data(split): return inputs")
    assert "and name it: --data model.py:build" in user.fails(TargetError)


@pytest.mark.parametrize("raised", ["GeneratorExit", "type('Own', (BaseException,), {})"])
def test_whatever_the_file_raises_is_an_error_of_the_file(user: User, raised: str) -> None:
    user.write(f"    raise {raised}")
    assert "importing model.py failed at model.py:1" in user.fails(TargetError)


def test_a_file_in_another_encoding_is_searched_too(user: User) -> None:
    (user.folder / "model.py").write_bytes(b"# -*- coding: latin-1 -*-\nword = '\xe9'\n")
    assert "model.py defines no `model`" in user.fails(TargetError)
