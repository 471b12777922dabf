"""The D of every optimizer is the one that it really steps with, and nothing is guessed of those not known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bsadvisor.target.optimizer_families import kind_of
from bsadvisor.target.second_moments import SecondMoments, find_second_moments
from bsadvisor.values import OptimizerFamily
from tests.lion import Lion
from tests.target.conftest import PLAIN, User

RATE = 1e-3
Make = Callable[[list[nn.Parameter]], Optimizer]


class Mine(torch.optim.AdamW):
    """Unknown by name; known by what it keeps."""


class Rotated(torch.optim.AdamW):
    """Keeps second moments of other coordinates than the gradient's, as SOAP does."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step()
        for entries in self.state.values():
            entries["Q"] = torch.eye(3)


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3))


def train(make: Make, steps: int = 9) -> tuple[nn.Module, Optimizer, list[Tensor]]:
    """The net, its optimizer, and the parameters before the last step."""
    model = net()
    optimizer = make(list(model.parameters()))
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().sum().backward()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer.step()
    return model, optimizer, before


def find(optimizer: Optimizer, model: nn.Module, name: str | None = None) -> SecondMoments:
    return find_second_moments(name or type(optimizer).__name__.lower(), model, optimizer, None)


def unbiased_mean(optimizer: Optimizer, weights: Tensor) -> Tensor:
    state = optimizer.state[weights]
    if "exp_avg" not in state:
        assert weights.grad is not None
        return weights.grad
    first = float(optimizer.param_groups[0]["betas"][0])
    mean: Tensor = state["exp_avg"] / (1 - first ** float(state["step"]))
    return mean


KNOWN: dict[str, Make] = {
    "adam": lambda p: torch.optim.Adam(p, lr=RATE),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=RATE, amsgrad=True),
    "radam": lambda p: torch.optim.RAdam(p, lr=RATE),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=RATE),
    "centred": lambda p: torch.optim.RMSprop(p, lr=RATE, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=RATE, lr_decay=0.3, initial_accumulator_value=0.1),
    "adamax": lambda p: torch.optim.Adamax(p, lr=RATE),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=RATE, d=1e9),
    "adafactor, late": lambda p: torch.optim.Adafactor(p, lr=0.9, d=1e9, eps=(None, 0.5)),
    "mine": lambda p: Mine(p, lr=RATE, weight_decay=0.0),
}


@pytest.mark.parametrize("name", list(KNOWN))
def test_the_step_that_was_taken_is_d_times_the_direction(name: str) -> None:
    model, optimizer, before = train(KNOWN[name])
    found = find(optimizer, model)
    assert (found.state, found.problem, found.relative_rates) == ("loaded", None, None)
    assert found.preconditioner is not None
    rate = optimizer.param_groups[0]["lr"]
    for old, (key, new) in zip(before, model.named_parameters(), strict=True):
        scale = found.preconditioner[key]
        if name.startswith("adafactor"):  # its size is that before the step, which rescales a little
            scale = scale * relative_size(optimizer, old, new)
        step = rate * scale * unbiased_mean(optimizer, new)
        assert torch.allclose(step, old - new.detach(), rtol=1e-3, atol=1e-6)


def relative_size(optimizer: Optimizer, old: Tensor, new: Tensor) -> float:
    least = float(optimizer.param_groups[0]["eps"][1])
    sizes = [max(least, float(part.detach().square().mean().sqrt())) for part in (old, new)]
    return sizes[0] / sizes[1]


def test_nadam_divides_by_the_same_root_as_adam() -> None:
    model, optimizer, _ = train(lambda p: torch.optim.NAdam(p, lr=RATE))
    scales = find(optimizer, model).preconditioner
    assert scales is not None
    for key, weights in model.named_parameters():
        root = (optimizer.state[weights]["exp_avg_sq"] / (1 - 0.999**9)).sqrt()
        assert torch.allclose(scales[key], 1 / (root + 1e-8), rtol=1e-5)


def test_radam_does_not_divide_while_its_rectification_is_not_defined() -> None:
    model, optimizer, before = train(lambda p: torch.optim.RAdam(p, lr=RATE), steps=4)
    scales = find(optimizer, model).preconditioner
    assert scales is not None
    for old, (key, new) in zip(before, model.named_parameters(), strict=True):
        assert torch.equal(scales[key], torch.ones_like(new))
        assert torch.allclose(RATE * unbiased_mean(optimizer, new), old - new.detach(), atol=1e-7)


def test_the_adafactor_of_transformers_is_read_as_well() -> None:
    """Rows and columns of the mean squares, for a matrix; its learning rate can be none."""
    model = net()
    weights, bias = list(model.parameters())[:2]
    squares = torch.rand(5, 4) * torch.rand(5, 1)
    factored = {"exp_avg_sq_row": squares.mean(1), "exp_avg_sq_col": squares.mean(0), "RMS": 0.1, "step": 7}
    whole = {"exp_avg_sq": torch.full((5,), 4.0), "RMS": 0.1, "step": 7}
    group = {"params": [0, 1, 2, 3], "lr": None, "scale_parameter": True, "eps": (1e-30, 1e-3)}
    saved = {"state": {0: factored, 1: whole}, "param_groups": [group]}
    scales = find_second_moments("adafactor", model, None, saved).preconditioner
    assert scales is not None
    product = torch.outer(squares.mean(1), squares.mean(0)) / squares.mean()
    size = float(weights.detach().square().mean().sqrt())
    assert torch.allclose(scales["0.weight"], size / product.sqrt(), rtol=1e-4)
    assert torch.allclose(
        scales["0.bias"], bias.detach().square().mean().sqrt() / 2 * torch.ones(5), rtol=1e-4
    )


@pytest.mark.parametrize("adaptive", [False, True])
def test_learning_rates_of_groups_enter_relative_to_the_main_one(adaptive: bool) -> None:
    made: Any = torch.optim.AdamW if adaptive else torch.optim.SGD

    def grouped(p: list[nn.Parameter]) -> Optimizer:
        optimizer: Optimizer = made([{"params": p[:2], "lr": RATE / 4}, {"params": p[2:], "lr": RATE}])
        return optimizer

    model, optimizer, _ = train(grouped)
    found = find(optimizer, model)
    plain = {key: torch.ones_like(part) for key, part in model.named_parameters()}
    if adaptive:
        for group in optimizer.param_groups:
            group["lr"] = RATE
        same = find(optimizer, model)
        assert same.relative_rates is None and same.preconditioner is not None
        plain = same.preconditioner
    assert found.preconditioner is not None
    assert found.relative_rates == {"0.weight": 0.25, "0.bias": 0.25, "1.weight": 1.0, "1.bias": 1.0}
    for key, scale in found.preconditioner.items():
        assert torch.allclose(scale, plain[key] * found.relative_rates[key])


def test_a_group_at_learning_rate_zero_counts_for_next_to_nothing() -> None:
    model = net()
    first, *others = model.children()
    groups: Any = [{"params": list(first.parameters()), "lr": 0.0}, {"params": list(others[0].parameters())}]
    found = find(torch.optim.SGD(groups, lr=RATE), model)
    assert found.preconditioner is not None
    assert 0 < float(found.preconditioner["0.weight"].max()) < 1e-5


def test_state_that_was_made_but_never_stepped_is_a_missing_one() -> None:
    """Some optimizers make it beforehand; all zeros would be the same D everywhere."""
    model, optimizer, _ = train(KNOWN["adam"])
    for entries in optimizer.state.values():
        for value in entries.values():
            value.zero_()
    assert find(optimizer, model).state == "missing"
    assert find(optimizer, model).preconditioner is None


def test_quantised_state_is_refused_in_words() -> None:
    model, optimizer, _ = train(KNOWN["adam"])
    for entries in optimizer.state.values():
        entries["state2"] = entries.pop("exp_avg_sq").to(torch.uint8)
    found = find(optimizer, model, "adamw8bit")
    assert (found.state, found.problem) == ("mismatch", "its `state2` is quantised, which is not read here")


def test_sign_type_optimizers_have_no_second_moments_but_their_state_must_fit() -> None:
    model, optimizer, _ = train(Lion)
    found = find(optimizer, model)
    assert (found.kind, found.state, found.preconditioner) == ("sign", "not_needed", None)
    optimizer.state[next(model.parameters())]["exp_avg"] = torch.zeros(2)
    assert find(optimizer, model).problem == "0.weight is (5, 4), its state (2,)"


@pytest.mark.parametrize(
    ("name", "keys", "kind"),
    [
        ("mine", ["step", "exp_avg", "exp_avg_sq"], "adam"),
        ("mine", ["exp_avg", "exp_avg_sq", "Q", "GG"], None),  # SOAP
        ("mine", ["exp_avg"], "sign"),
        ("mine", ["momentum_buffer"], None),  # Muon, and SGD under another name
        ("mine", ["step", "square_avg", "momentum_buffer"], "rmsprop"),
        ("mine", ["step", "row_var", "col_var"], "adafactor"),
        ("muon", [], None),
        ("sgd", ["momentum_buffer"], "gradient"),
        ("deepspeedcpuadam", [], "adam"),
        (None, [], None),
    ],
)
def test_an_optimizer_is_known_by_name_or_else_by_all_that_it_keeps(
    name: str | None, keys: list[str], kind: str | None
) -> None:
    assert kind_of(name, keys) == kind


@pytest.mark.parametrize(
    ("make", "family"), [(Lion, "adam"), (Mine, "adam"), (Rotated, "other"), (torch.optim.Adadelta, "other")]
)
def test_a_checkpoint_with_an_optimizer_of_their_own(user: User, make: Make, family: OptimizerFamily) -> None:
    torch.manual_seed(1)
    model = nn.Linear(4, 3)
    optimizer = make(list(model.parameters()))
    model(torch.randn(8, 4)).square().sum().backward()
    optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "last.pt")
    user.write(
        PLAIN
        + f"    class {make.__name__}(torch.optim.Optimizer):  # type: ignore\n"
        + "        def __init__(self, params, lr=0.01): super().__init__(params, dict(lr=lr, betas=(0.9, 0.99)))\n"
        + f"    optimizer = {make.__name__}"
    )
    details = user.load(checkpoint="last.pt").description.optimizer_details
    assert details is not None
    assert (details.family, details.signed) == (family, make is Lion)


def test_dampening_and_trust_ratios_are_noticed(user: User) -> None:
    user.write(
        PLAIN + "    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, dampening=0.5)"
    )
    details = user.load().description.optimizer_details
    assert details is not None and (details.dampening, details.trust_ratios) == (0.5, False)
    user.write(PLAIN + "    class FusedLAMB(torch.optim.Adam): pass\n    optimizer = FusedLAMB")
    details = user.load().description.optimizer_details
    assert details is not None and (details.family, details.trust_ratios) == ("adam", True)


def test_coordinates_without_any_gradient_get_the_usual_scale() -> None:
    model, optimizer, _ = train(KNOWN["adamax"])
    optimizer.state[next(model.parameters())]["exp_inf"][0] = 1e-8  # nothing but its epsilon
    scales = find(optimizer, model).preconditioner
    assert scales is not None
    unseen, seen = scales["0.weight"][0], scales["0.weight"][1:]
    assert bool((unseen == unseen[0]).all())
    assert float(seen.min()) < float(unseen[0]) < float(seen.max())
