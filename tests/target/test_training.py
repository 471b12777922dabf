"""The optimizer in use can be made again and again, at other learning rates, and is never touched."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bsadvisor.target.factory import Target
from tests.target.conftest import PLAIN, User

ADAMW = """
    def optimizer(parameters):
        return torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.2)
"""


def saved(user: User, optimizer: Any, target: Target, steps: int = 3) -> None:
    """A checkpoint after a few steps."""
    for _ in range(steps):
        for parameter in target.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    state = {"model": target.model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, user.folder / "last.pt")


def groups(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return optimizer.param_groups[0]


def test_the_users_factory_makes_every_optimizer(user: User) -> None:
    user.write(PLAIN + ADAMW)
    training = user.load().training
    one, other = training.optimizer(0.5), training.optimizer(0.25)
    assert type(one) is torch.optim.AdamW and one is not other
    assert groups(one)["lr"] == 0.5 and groups(other)["lr"] == 0.25
    assert groups(one)["weight_decay"] == 0.2
    assert training.known and not training.has_state


def test_averages_of_squares_forget_after_the_same_examples(user: User) -> None:
    user.write(PLAIN + ADAMW)
    made = user.load().training.optimizer(0.5, batch_factor=4)
    assert groups(made)["betas"] == (0.9, pytest.approx(0.99**4))


def test_saved_state_is_gone_on_from_and_copied(user: User) -> None:
    user.write(PLAIN + ADAMW)
    target = user.load()
    saved(user, torch.optim.AdamW(target.model.parameters(), lr=7e-3, betas=(0.9, 0.99)), target)
    training = user.load(checkpoint="last.pt").training
    assert training.has_state
    one, other = training.optimizer(0.5), training.optimizer(0.5)
    first = groups(one)["params"][0]
    assert float(one.state[first]["step"]) == 3
    first.grad = torch.ones_like(first)
    one.step()
    assert float(one.state[first]["step"]) == 4 and float(other.state[first]["step"]) == 3
    assert float(training.optimizer(0.5).state[first]["step"]) == 3


def test_state_that_does_not_fit_is_left_out(user: User) -> None:
    user.write(PLAIN + ADAMW)
    target = user.load()
    other = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], lr=1.0)
    state = {"model": target.model.state_dict(), "optimizer": other.state_dict()}
    torch.save(state, user.folder / "last.pt")
    training = user.load(checkpoint="last.pt").training
    assert not training.has_state
    assert not training.optimizer(0.1).state


def test_groups_keep_the_ratio_of_their_learning_rates(user: User) -> None:
    user.write(
        PLAIN
        + """
    def optimizer(parameters):
        first, *others = parameters
        return torch.optim.SGD([{"params": [first], "lr": 0.1}, {"params": others, "lr": 0.02}], lr=1.0)
"""
    )
    made = user.load().training.optimizer(1.0)
    assert [group["lr"] for group in made.param_groups] == [1.0, pytest.approx(0.2)]


def test_a_decayed_rate_is_stated_at_its_peak(user: User) -> None:
    user.write(
        PLAIN
        + """
    def optimizer(parameters):
        return torch.optim.SGD([{"params": parameters, "lr": 0.01, "initial_lr": 0.1}])
"""
    )
    assert groups(user.load().training.optimizer(0.5))["lr"] == 0.5


def test_an_instance_is_copied_with_its_state_and_left_alone(user: User) -> None:
    user.write(PLAIN + "    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)\n")
    target = user.load()
    made = target.training.optimizer(0.5)
    first = groups(made)["params"][0]
    first.grad = torch.ones_like(first)
    made.step()
    again = target.training.optimizer(0.5)
    assert groups(again)["momentum"] == 0.9 and not again.state
    assert first is groups(again)["params"][0]


def test_an_optimizer_by_name_takes_what_is_known(user: User) -> None:
    user.write(PLAIN)
    training = user.load(optimizer="sgd").training
    assert type(training.optimizer(0.3)) is torch.optim.SGD and training.known


def test_without_an_optimizer_adamw_stands_in(user: User) -> None:
    user.write(PLAIN)
    training = user.load().training
    assert not training.known and type(training.optimizer(0.3)) is torch.optim.AdamW


def test_clipping_is_handed_on(user: User, yaml: Any) -> None:
    user.write(PLAIN)
    yaml("model: model.py\nclip_grad_norm: 0.5\n")
    assert user.load(None).training.clip_grad_norm == 0.5


@pytest.mark.parametrize("kind", ["AdamW", "Adam", "NAdam", "SGD", "RMSprop", "Adagrad"])
def test_an_optimizer_of_the_file_is_made_again_with_its_settings(user: User, kind: str) -> None:
    user.write(PLAIN + f"\noptimizer = torch.optim.{kind}(model.parameters(), lr=1e-3, weight_decay=0.2)\n")
    made = user.load().training.optimizer(0.5)
    assert type(made) is getattr(torch.optim, kind)
    assert groups(made)["lr"] == 0.5 and groups(made)["weight_decay"] == 0.2


def test_an_optimizer_that_is_only_named_takes_what_the_checkpoint_says(user: User) -> None:
    user.write(PLAIN)
    target = user.load()
    saved(user, torch.optim.AdamW(target.model.parameters(), lr=7e-3, weight_decay=0.3), target)
    made = user.load(checkpoint="last.pt", optimizer="adamw").training.optimizer(0.5)
    assert groups(made)["weight_decay"] == 0.3
