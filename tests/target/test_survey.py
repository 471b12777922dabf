"""The checkpoints of a run: which model, which step, which order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from bsadvisor.errors import BsadvisorError, CheckpointError
from bsadvisor.settings import TargetRequest
from bsadvisor.target.survey import Survey, survey
from tests.target.conftest import PLAIN, User


@pytest.fixture
def runner(user: User) -> User:
    user.write(PLAIN)
    (user.folder / "runs").mkdir()
    return user


def save(user: User, name: str, seed: int, outputs: int = 3, **more: Any) -> str:
    torch.manual_seed(seed)
    weights = torch.nn.Linear(4, outputs).state_dict()
    torch.save({"model": weights, **more}, user.folder / "runs" / name)
    return f"runs/{name}"


def look(user: User, paths: Sequence[str]) -> Survey:
    return survey(TargetRequest(target="model.py"), paths, notify=user.told.append)


def steps(found: Survey) -> list[int]:
    return [checkpoint.step for checkpoint in found.checkpoints]


def test_recorded_steps_come_before_names_and_decide_the_order(runner: User) -> None:
    paths = [save(runner, f"step-{n}.pt", n, step=1000 * n) for n in (1, 10, 2)]
    found = look(runner, paths)
    assert (steps(found), found.step_from, found.reordered) == ([1000, 2000, 10000], "checkpoint", True)
    assert [checkpoint.path for checkpoint in found.checkpoints][1:] == ["runs/step-2.pt", "runs/step-10.pt"]


@pytest.mark.parametrize("key", ["global_step", "step", "iteration", "iter_num"])
def test_every_usual_key_is_read_also_as_a_tensor(runner: User, key: str) -> None:
    counts: list[Any] = [5, torch.tensor(7)]
    found = look(
        runner,
        [
            save(runner, f"{c}.pt", n, **{key: count})
            for n, (c, count) in enumerate(zip("ab", counts, strict=True))
        ],
    )
    assert (steps(found), found.step_from) == ([5, 7], "checkpoint")


def test_the_optimizers_own_count_comes_next(runner: User) -> None:
    def state(count: int) -> dict[str, Any]:
        model = torch.nn.Linear(4, 3)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.25)
        for _ in range(count):
            model(torch.ones(1, 4)).sum().backward()
            optimizer.step()
        return optimizer.state_dict()

    found = look(runner, [save(runner, f"step-{9 - n}.pt", n, optimizer=state(n)) for n in (3, 2)])
    assert (steps(found), found.step_from) == ([2, 3], "optimizer")
    assert [checkpoint.learning_rate for checkpoint in found.checkpoints] == [0.25, 0.25]


def test_then_the_names_say_it(runner: User) -> None:
    found = look(runner, [save(runner, f"step-{n}.pt", n) for n in (100, 1000, 200)])
    assert (steps(found), found.step_from) == ([100, 200, 1000], "name")


@pytest.mark.parametrize("names", [["epoch-2.pt", "epoch-10.pt"], ["a.pt", "b.pt"]])
def test_where_nobody_knows_the_order_of_names_counts(runner: User, names: list[str]) -> None:
    found = look(runner, [save(runner, name, seed) for seed, name in enumerate(reversed(names))])
    assert [checkpoint.path for checkpoint in found.checkpoints] == [f"runs/{name}" for name in names]
    assert (steps(found), found.step_from) == ([1, 2], "order")


def test_a_step_that_two_checkpoints_share_tells_nothing(runner: User) -> None:
    found = look(runner, [save(runner, f"step-{n}.pt", n, step=7) for n in (10, 20)])
    assert (steps(found), found.step_from) == ([10, 20], "name")


def test_a_copy_is_left_out_and_named(runner: User) -> None:
    one, two = save(runner, "step-1.pt", 1), save(runner, "step-2.pt", 2)
    (runner.folder / "runs" / "last.pt").write_bytes((runner.folder / two).read_bytes())
    found = look(runner, [one, two, "runs/last.pt", one])
    assert steps(found) == [1, 2]
    assert found.doubles == (("runs/last.pt", two), (one, one))


def test_a_checkpoint_of_another_model_is_refused_by_name(runner: User) -> None:
    paths = [save(runner, "step-1.pt", 1), save(runner, "step-2.pt", 2, outputs=5)]
    with pytest.raises(CheckpointError, match=r"runs/step-2\.pt does not fit the model") as caught:
        look(runner, paths)
    assert caught.value.exit_code == 4


def test_a_missing_file_is_refused_by_name(runner: User) -> None:
    with pytest.raises(BsadvisorError, match=r"runs/step-3\.pt: no such checkpoint"):
        look(runner, [save(runner, "step-1.pt", 1), "runs/step-3.pt"])


def test_the_users_random_state_is_left_alone(runner: User) -> None:
    paths = [save(runner, "step-1.pt", 1)]
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    look(runner, paths)
    assert torch.equal(torch.rand(1), expected)
