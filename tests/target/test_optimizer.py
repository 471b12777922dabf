"""The optimizer in use: its settings, its learning rate, its second moments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bsadvisor.errors import TargetError, UsageError
from bsadvisor.target.factory import Target
from tests.target.conftest import PLAIN, User

Build = Callable[[list[nn.Parameter]], torch.optim.Optimizer]

OPTIMIZERS: dict[str, Build] = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.9), eps=1e-3, weight_decay=0),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "centered": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01),
}
adamw = OPTIMIZERS["adamw"]


def train(build: Build, steps: int = 3) -> tuple[nn.Linear, torch.optim.Optimizer, list[Tensor]]:
    """The model of PLAIN after a few steps, its optimizer, and the parameters before the last step."""
    torch.manual_seed(1)
    model = nn.Linear(4, 3)
    optimizer = build(list(model.parameters()))
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().sum().backward()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer.step()
    return model, optimizer, before


def save(build: Build = adamw, **changed: Any) -> None:
    """Write a checkpoint of it, with some settings changed since."""
    model, optimizer, _ = train(build)
    for group in optimizer.param_groups:
        group.update(changed)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "last.pt")


def probed(user: User, more: str = "", **flags: Any) -> Target:
    user.write(PLAIN + more)
    return user.load(checkpoint="last.pt", **flags)


# --- second moments -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_the_preconditioner_times_the_momentum_is_the_step_that_was_taken(user: User, name: str) -> None:
    model, optimizer, before = train(OPTIMIZERS[name])
    save(OPTIMIZERS[name])
    target = probed(user)
    assert target.facts.optimizer_state == "loaded"
    assert target.preconditioner is not None
    for old, (key, new) in zip(before, model.named_parameters(), strict=True):
        assert new.grad is not None
        state, direction = optimizer.state[new], new.grad
        if "exp_avg" in state:
            direction = state["exp_avg"] / (1 - optimizer.param_groups[0]["betas"][0] ** 3)
        scale = target.preconditioner[key]
        assert scale.dtype == torch.float32
        assert bool((scale > 0).all())
        assert torch.allclose(0.01 * scale * direction, old - new, rtol=1e-3, atol=1e-7)


def test_sgd_needs_no_state(user: User) -> None:
    save(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True))
    target = probed(user)
    assert (target.preconditioner, target.facts.optimizer_state) == (None, "not_needed")
    details = target.description.optimizer_details
    assert details is not None
    assert (details.family, details.momentum, details.nesterov) == ("sgd", 0.9, True)


def test_weights_without_optimizer_state_are_a_missing_state(user: User) -> None:
    torch.save(nn.Linear(4, 3).state_dict(), "last.pt")
    target = probed(user, "    def optimizer(params): return torch.optim.AdamW(params, lr=0.2)")
    assert (target.preconditioner, target.facts.optimizer_state) == (None, "missing")
    assert target.description.optimizer == "adamw"


GROUPED = """
    def optimizer(params):
        biases = [p for p in params if p.ndim == 1]
        weights = [p for p in params if p.ndim == 2]
        return torch.optim.AdamW([{"params": biases, "weight_decay": 0}, {"params": weights}], lr=0.01)
"""


def two_groups(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    weight, bias = params
    return torch.optim.AdamW([{"params": [bias]}, {"params": [weight]}], lr=0.01)


def test_groups_are_matched_by_the_code_that_made_them(user: User) -> None:
    save(two_groups)
    target = probed(user, GROUPED)
    assert target.facts.optimizer_state == "loaded"
    assert target.preconditioner is not None
    _, optimizer, _ = train(two_groups)
    (bias,) = optimizer.param_groups[0]["params"]
    second = optimizer.state[bias]["exp_avg_sq"] / (1 - 0.999**3)
    assert torch.allclose(target.preconditioner["bias"], 1 / (second.sqrt() + 1e-8))


@pytest.mark.parametrize(
    ("build", "more", "problem"),
    [
        (two_groups, "", "it has 2 groups, whose order only the code that made them knows"),
        (adamw, GROUPED, "its groups hold 2 parameters, those of the model 1 + 1"),
        (lambda p: adamw(p[:1]), "", "its groups hold 1 parameters, those of the model 2"),
        (lambda p: adamw(p[::-1]), "", "weight is (3, 4), its state (3,)"),
    ],
)
def test_state_that_does_not_match_is_told_in_words(
    user: User, build: Build, more: str, problem: str
) -> None:
    save(build)
    target = probed(user, more)
    assert (target.preconditioner, target.facts.optimizer_state) == (None, "mismatch")
    assert target.facts.optimizer_state_problem == problem


def test_state_of_another_optimizer_is_a_mismatch(user: User) -> None:
    save(OPTIMIZERS["rmsprop"])
    target = probed(user, optimizer="adamw")
    assert target.facts.optimizer_state_problem == "it holds no `exp_avg_sq`, which adamw keeps"


def test_frozen_parameters_that_the_optimizer_never_saw_are_left_out(user: User) -> None:
    save(lambda p: adamw(p[:1]))
    target = probed(user, "    model.bias.requires_grad_(False)")
    assert target.preconditioner is not None
    assert list(target.preconditioner) == ["weight"]
    assert target.facts.frozen_parameters == ("bias",)


def test_a_parameter_that_never_had_a_gradient_gets_the_median_scale(user: User) -> None:
    model, optimizer, _ = train(adamw)
    state = optimizer.state_dict()
    del state["state"][1]
    torch.save({"model": model.state_dict(), "optimizer": state}, "last.pt")
    scales = probed(user).preconditioner
    assert scales is not None
    assert torch.allclose(scales["bias"], scales["weight"].median().expand(3))


def test_coordinates_that_never_had_a_gradient_do_not_outweigh_all_others(user: User) -> None:
    model, optimizer, _ = train(adamw)
    state = optimizer.state_dict()
    state["state"][0]["exp_avg_sq"][:, 0] = 0  # as the row of an embedding that no batch has used
    torch.save({"model": model.state_dict(), "optimizer": state}, "last.pt")
    scales = probed(user).preconditioner
    assert scales is not None
    seen = scales["weight"][:, 1:]
    assert float(scales["weight"][:, 0].max()) <= float(seen.max())
    assert torch.isfinite(scales["weight"]).all()


def test_state_that_the_file_loaded_itself_counts(user: User) -> None:
    save()
    user.write(
        PLAIN
        + "    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)\n"
        + "    optimizer.load_state_dict(torch.load('last.pt')['optimizer'])"
    )
    assert user.load().facts.optimizer_state == "loaded"


def test_the_users_optimizer_is_not_touched(user: User) -> None:
    save()
    target = probed(user, "    optimizer = torch.optim.AdamW(model.parameters(), lr=0.7)")
    theirs = target.code.load(user.folder / "model.py").optimizer
    assert len(theirs.state) == 0
    assert theirs.param_groups[0]["lr"] == 0.7
    assert theirs.param_groups[0]["params"][0] is target.parameters["weight"]


# --- which, and how fast ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "flags", "name", "rate", "by"),
    [
        ("", {}, "adamw", 0.01, "checkpoint"),
        (
            "optimizer = torch.optim.Adam(model.parameters(), lr=0.2)",
            {},
            "adam",
            0.2,
            "optimizer in model.py",
        ),
        ("opt = torch.optim.Adam(model.parameters(), lr=0.2)", {}, "adam", 0.2, "optimizer in model.py"),
        ("optimizer = torch.optim.RAdam", {}, "radam", 1e-3, "optimizer in model.py"),
        (
            "LEARNING_RATE = 0.3\n    optimizer = torch.optim.Adam",
            {},
            "adam",
            0.3,
            "LEARNING_RATE in model.py",
        ),
        ("LEARNING_RATE = 0.3", {"learning_rate": 0.4}, "adamw", 0.4, "--lr"),
        ("optimizer = torch.optim.Adam", {"optimizer": "SGD"}, "sgd", 0.01, "checkpoint"),
    ],
)
def test_name_and_learning_rate_come_from_whoever_is_first_in_the_contract(
    user: User, more: str, flags: dict[str, Any], name: str, rate: float, by: str
) -> None:
    save()
    about = probed(user, f"    {more}", **flags).description
    assert (about.optimizer, about.learning_rate, about.anchor.learning_rate_from) == (name, rate, by)


def test_the_yaml_settles_name_settings_and_learning_rate(user: User, yaml: Callable[[str], Path]) -> None:
    save()
    yaml("optimizer: {name: AdamW, lr: 0.5, weight_decay: 0.3}")
    about = probed(user).description
    assert (about.optimizer, about.learning_rate, about.anchor.learning_rate_from) == (
        "adamw",
        0.5,
        "bsadvisor.yaml",
    )
    details = about.optimizer_details
    assert details is not None
    assert (details.weight_decay, details.betas, details.epsilon) == (0.3, (0.8, 0.9), 1e-3)


def test_settings_and_the_step_come_from_the_checkpoint(user: User) -> None:
    save()
    details = probed(user, optimizer="adamw").description.optimizer_details
    assert details is not None
    assert (details.family, details.betas, details.epsilon, details.step) == ("adam", (0.8, 0.9), 1e-3, 3)
    assert details.state_loaded


def test_settings_of_another_family_are_not_carried_over(user: User) -> None:
    save(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.5))
    details = probed(user, optimizer="adamw").description.optimizer_details
    assert details is not None
    assert (details.weight_decay, details.betas) == (0.01, (0.9, 0.999))


@pytest.mark.parametrize(
    ("build", "name"),
    [(build, name) for name, build in OPTIMIZERS.items() if name not in ("amsgrad", "centered")]
    + [
        (lambda p: torch.optim.SGD(p, lr=0.1), "sgd"),
        (lambda p: torch.optim.NAdam(p), "nadam"),
        (lambda p: torch.optim.Adadelta(p), None),
    ],
)
def test_the_checkpoint_alone_tells_the_optimizer(user: User, build: Build, name: str | None) -> None:
    save(build)
    assert probed(user).description.optimizer == name


def test_a_decayed_learning_rate_is_told_and_its_peak_is_the_anchor(user: User) -> None:
    save(initial_lr=0.01, lr=0.002)
    target = probed(user)
    assert (target.description.learning_rate, target.facts.learning_rate_now) == (0.01, 0.002)
    assert probed(user, learning_rate=0.5).facts.learning_rate_now is None


def test_of_several_learning_rates_the_largest_is_the_anchor(user: User) -> None:
    user.write(
        PLAIN
        + "    optimizer = torch.optim.SGD([{'params': [model.weight], 'lr': 0.1}, {'params': [model.bias], 'lr': 0.3}])"
    )
    assert user.load().description.learning_rate == 0.3


def test_no_learning_rate_anywhere_is_none(user: User) -> None:
    user.write(PLAIN)
    about = user.load().description
    assert (about.optimizer, about.optimizer_details, about.learning_rate) == (None, None, None)
    assert about.anchor.learning_rate_from is None


def test_an_optimizer_of_their_own_is_of_no_known_family(user: User) -> None:
    user.write(
        PLAIN
        + "    class Mine(torch.optim.SGD): pass\n    def optimizer(params): return Mine(params, lr=0.1)"
    )
    about = user.load().description
    assert about.optimizer == "mine"
    assert about.optimizer_details is not None
    assert about.optimizer_details.family == "other"


def test_an_unknown_name_is_a_usage_error(user: User) -> None:
    user.write(PLAIN)
    assert "there is no optimizer `adamv` in torch.optim\ndid you mean adam" in user.fails(
        UsageError, optimizer="adamv"
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return params", "`optimizer` returned a list, not a torch.optim.Optimizer"),
        (
            "return torch.optim.SGD(params.parameters())",
            "`optimizer` failed at model.py:10 in optimizer: AttributeError",
        ),
    ],
)
def test_a_factory_that_fails_is_told(user: User, body: str, message: str) -> None:
    user.write(PLAIN + f"    def optimizer(params):\n        {body}")
    assert message in user.fails(TargetError)
