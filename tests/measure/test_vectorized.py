"""Many losses in one call: the same as one by one, and refused where they are not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsadvisor.measure.gradients import gradients_of
from bsadvisor.measure.vectorized import Vectorized, stacked, vectorized
from tests.measure.test_gradients import Net, table

ROWS = 3

LossOf = Callable[[nn.Module, Tensor], Tensor]


def entropy(model: nn.Module, batch: Tensor) -> Tensor:
    return F.cross_entropy(model(batch[:, :-1]), batch[:, -1].long())


def net(model: nn.Module | None = None, loss: LossOf = entropy) -> Net:
    torch.manual_seed(0)
    return Net(model or nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), table(), loss)


def batches(count: int = ROWS, size: int = 4) -> list[Any]:
    return list(table()[: count * size].split(size))


def fast(problem: Net) -> Vectorized:
    found = vectorized(problem, batches())
    assert found is not None
    return found


@pytest.mark.parametrize("own_parameters", [False, True])
@pytest.mark.parametrize("own_batch", [False, True])
def test_losses_and_gradients_are_those_of_one_call_each(own_parameters: bool, own_batch: bool) -> None:
    problem, data = net(), batches()
    origin = {name: parameter.detach().clone() for name, parameter in problem.parameters.items()}
    shifts = [0.0, 0.1, -0.3] if own_parameters else [0.0] * ROWS
    chosen = [data[row if own_batch else 0] for row in range(ROWS)]
    expected = []
    for shift, batch in zip(shifts, chosen, strict=True):
        with torch.no_grad():
            for name, parameter in problem.parameters.items():
                parameter.copy_(origin[name] + shift)
        loss = problem.loss(batch)
        expected.append((loss.detach(), gradients_of(loss, problem.parameters)))
    with torch.no_grad():
        for name, parameter in problem.parameters.items():
            parameter.copy_(origin[name])
    moved = {name: torch.stack([value + shift for shift in shifts]) for name, value in origin.items()}
    given = moved if own_parameters else origin
    batch = stacked(data) if own_batch else data[0]
    if not own_parameters and not own_batch:
        pytest.skip("nothing is stacked")
    shape = {"stacked_parameters": own_parameters, "stacked_batch": own_batch}
    losses, gradients = fast(problem).gradients(given, batch, **shape)
    torch.testing.assert_close(fast(problem).losses(given, batch, **shape), losses)
    for row, (loss, own) in enumerate(expected):
        torch.testing.assert_close(losses[row], loss)
        for name, gradient in own.items():
            torch.testing.assert_close(gradients[name][row], gradient)
    assert not losses.requires_grad
    assert all(parameter.grad is None for parameter in problem.parameters.values())


def test_tied_weights_and_parameters_out_of_reach_are_served() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.unused = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(2, 2)
            self.second.weight = self.first.weight

        def forward(self, inputs: Tensor) -> Tensor:
            hidden: Tensor = self.second(self.first(inputs).relu())
            return hidden

    problem = net(Tied())
    assert fast(problem).reached == {"first.weight", "first.bias", "second.bias"}


class Remembers(nn.Module):
    """A linear layer with a habit."""

    count: Tensor

    def __init__(self, habit: str) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.habit = habit
        self.calls = 0
        self.history: list[Any] = []
        self.register_buffer("count", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.layer(inputs)
        if self.habit == "counts":
            self.calls += 1
        elif self.habit == "writes a buffer":
            self.count.add_(1)
        elif self.habit == "lists":
            self.history.append(1)
        elif self.habit == "looks":
            out = out * 2 if float(out.detach().sum()) > 0 else out
        elif self.habit == "draws":
            out = out * random.random()
        elif self.habit == "draws with numpy":
            out = out * float(np.random.rand())
        elif self.habit == "works":
            out = out.expand(30_000, -1, -1).tanh().mean(0)
        return out


def _sparse() -> nn.Module:
    class Looked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.Embedding(4, 3, sparse=True)

        def forward(self, inputs: Tensor) -> Tensor:
            found: Tensor = self.rows((inputs[:, 0] > 0).long())
            return found

    return Looked()


def _hooked() -> nn.Module:
    model = nn.Linear(6, 3)
    model.weight.register_hook(lambda gradient: 2 * gradient)
    return model


REFUSED: dict[str, Callable[[], nn.Module]] = {
    **{
        habit: lambda habit=habit: Remembers(habit)  # type: ignore[misc]
        for habit in ("counts", "writes a buffer", "lists", "looks", "draws", "draws with numpy", "works")
    },
    "dropout": lambda: nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5)),
    "batch norm": lambda: nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3)),
    "sparse gradients": _sparse,
    "a hook on a gradient": _hooked,
    "16-bit weights": lambda: nn.Linear(6, 3, dtype=torch.bfloat16),
    "many parameters": lambda: nn.Sequential(nn.Linear(6, 600), nn.Linear(600, 600), nn.Linear(600, 3)),
    "compiled": lambda: _compiled(),
}


def _compiled() -> nn.Module:
    model = nn.Linear(6, 3)
    model.compile(backend="eager")
    return model


@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_where_it_is_not_the_same_or_does_not_pay(what: str) -> None:
    problem = net(REFUSED[what]())
    state = {name: value.clone() for name, value in problem.model.state_dict().items()}
    generator = torch.get_rng_state()
    assert vectorized(problem, batches()) is None
    assert torch.equal(torch.get_rng_state(), generator)
    for name, value in problem.model.state_dict().items():
        assert torch.equal(value, state[name])


def test_a_plain_layer_beside_the_refused_ones_is_served() -> None:
    assert vectorized(net(Remembers("none")), batches()) is not None
    assert vectorized(net(nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5).eval())), batches()) is not None


def test_a_loss_that_takes_parameters_by_the_back_door_is_refused() -> None:
    model = nn.Linear(6, 3)
    weight = model.weight
    assert (
        vectorized(net(model, lambda model, batch: F.linear(batch[:, :-1], weight).sum()), batches()) is None
    )


def test_only_tensors_of_one_shape_are_stacked() -> None:
    one, two = {"x": torch.zeros(2, 3), "y": torch.zeros(2)}, {"x": torch.ones(2, 3), "y": torch.ones(2)}
    found = stacked([one, two])
    assert found is not None
    assert torch.equal(found["x"][1], two["x"])
    assert stacked([one, {"x": torch.ones(1, 3), "y": torch.ones(2)}]) is None
    assert stacked([one, {"x": torch.ones(2, 3)}]) is None
    assert stacked([(torch.zeros(2), "a"), (torch.zeros(2), "b")]) is None
    assert vectorized(net(), batches(1)) is None
