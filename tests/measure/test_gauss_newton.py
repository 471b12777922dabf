"""Gauss-Newton products against J'LJ built row by row, for every form of output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from bsadvisor.measure.gauss_newton import GaussNewton, NoOutputError
from bsadvisor.measure.hessian import Hessian
from tests.measure.dense import dense_gauss_newton, dense_hessian
from tests.measure.test_gradients import Net, table
from tests.measure.test_hessian import cross_entropy, relative, vectors
from tests.worlds import quadratic


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor
    name: str = "net"


class Pair(NamedTuple):
    logits: Tensor
    hidden: Tensor


FORMS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tensor": lambda logits, hidden: logits,
    "dict with a loss": lambda logits, hidden: {"loss": logits.square().mean(), "logits": logits},
    "dict": lambda logits, hidden: {"logits": logits, "hidden": hidden},
    "twice the same": lambda logits, hidden: [logits, (logits, None)],
    "named tuple": Pair,
    "dataclass": Output,
}


class Former(nn.Module):
    """Logits in some form, often beside the hidden state that they were made of."""

    def __init__(self, form: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form = FORMS[form]
        self.into, self.head = nn.Linear(6, 4).double(), nn.Linear(4, 3).double()

    def forward(self, inputs: Tensor) -> Any:
        hidden = self.into(inputs).tanh()
        return self.form(self.head(hidden), hidden)


def logits_of(output: Any) -> Tensor:
    while not isinstance(output, Tensor):
        if isinstance(output, dict):
            output = output["logits"]
        else:
            output = output.logits if hasattr(output, "logits") else output[0]
    return output


def classify(model: Any, batch: Tensor) -> Tensor:
    return cross_entropy(lambda inputs: logits_of(model(inputs)), batch)


@pytest.mark.parametrize("form", list(FORMS))
def test_products_are_those_of_the_dense_matrix(form: str) -> None:
    model, batch = Former(form), table(12).double()
    matrix = dense_gauss_newton(
        model,
        lambda call: logits_of(call(batch[:, :-1])).flatten(),
        lambda flat: nn.functional.cross_entropy(flat.view(-1, 3), batch[:, -1].long()),
    )
    gauss_newton = GaussNewton(problem=Net(model, batch, classify), seed=0)
    found = gauss_newton.multiply(batch, 0, vectors(gauss_newton))
    for vector, product in zip(vectors(gauss_newton), found.products, strict=True):
        assert relative(product, matrix @ vector) < 1e-5
    assert relative(matrix, dense_hessian(model, classify, batch)) > 0.05  # it is another matrix
    assert relative(found.gradient, gauss_newton.gradient(batch, 0)) < 1e-9


def test_a_loss_of_an_output_and_of_what_it_was_made_of_counts_each_once() -> None:
    def loss(model: Any, batch: Tensor) -> Tensor:
        output = model(batch[:, :-1])
        extra: Tensor = (output.hidden.exp() * output.logits.sum()).mean()
        return classify(lambda inputs: output, batch) + extra

    def of_outputs(flat: Tensor) -> Tensor:
        logits, hidden = flat[: 12 * 3].view(-1, 3), flat[12 * 3 :].view(-1, 4)
        return loss(lambda inputs: Output(logits, hidden), batch)

    def outputs(call: Any) -> Tensor:
        found = call(batch[:, :-1])
        return torch.cat([found.logits.flatten(), found.hidden.flatten()])

    model, batch = Former("dataclass"), table(12).double()
    matrix = dense_gauss_newton(model, outputs, of_outputs)
    gauss_newton = GaussNewton(problem=Net(model, batch, loss), seed=0)
    (vector,) = vectors(gauss_newton, 1)
    found = gauss_newton.multiply(batch, 0, [vector])
    assert relative(found.products[0], matrix @ vector) < 1e-5
    assert relative(found.gradient, gauss_newton.gradient(batch, 0)) < 1e-9


def test_two_calls_of_the_model_are_one_output() -> None:
    def contrast(model: Any, batch: Tensor) -> Tensor:
        first, second = model(batch[:, :-1]), model(batch[:, :-1].flip(0))
        product: Tensor = first * second
        return product.square().mean()

    def of_outputs(flat: Tensor) -> Tensor:
        product: Tensor = flat.view(2, -1, 3).prod(0)
        return product.square().mean()

    def outputs(call: Any) -> Tensor:
        return torch.cat([call(batch[:, :-1]).flatten(), call(batch[:, :-1].flip(0)).flatten()])

    model, batch = Former("tensor"), table(6).double()
    matrix = dense_gauss_newton(model, outputs, of_outputs)
    gauss_newton = GaussNewton(problem=Net(model, batch, contrast), seed=0)
    (vector,) = vectors(gauss_newton, 1)
    assert relative(gauss_newton.multiply(batch, 0, [vector]).products[0], matrix @ vector) < 1e-5


def test_scale_and_divisor_are_those_of_the_hessian() -> None:
    """A model that is linear in its weights has no curvature of its own: the two matrices are one."""
    torch.manual_seed(0)
    model, batch = nn.Linear(6, 3).double(), table(16).double()
    total = Net(model, batch, lambda model, batch: len(batch) * cross_entropy(model, batch))
    scale = torch.linspace(0.1, 3, 21, dtype=torch.float64)
    hessian = Hessian(problem=total, seed=0, divide_by=16, scale=scale)
    gauss_newton = GaussNewton(problem=total, seed=0, divide_by=16, scale=scale)
    wanted = hessian.multiply(batch, 0, vectors(hessian))
    found = gauss_newton.multiply(batch, 0, vectors(hessian))
    assert relative(found.gradient, wanted.gradient) < 1e-9
    assert all(relative(*pair) < 1e-9 for pair in zip(found.products, wanted.products, strict=True))
    plain = replace(hessian, scale=None)
    assert relative(found.gradient, scale * plain.gradient(batch, 0)) < 1e-9


def test_an_output_that_the_loss_is_linear_in_bends_nothing() -> None:
    def loss(model: Any, batch: Tensor) -> Tensor:
        output = model(batch[:, :-1])
        value: Tensor = output.logits.square().mean() + output.hidden.mean()
        return value

    def of_outputs(flat: Tensor) -> Tensor:
        return flat.square().mean()

    model, batch = Former("dataclass"), table(12).double()
    matrix = dense_gauss_newton(model, lambda call: call(batch[:, :-1]).logits.flatten(), of_outputs)
    gauss_newton = GaussNewton(problem=Net(model, batch, loss), seed=0)
    (vector,) = vectors(gauss_newton, 1)
    assert relative(gauss_newton.multiply(batch, 0, [vector]).products[0], matrix @ vector) < 1e-5
    linear = Net(model, batch, lambda model, batch: model(batch[:, :-1]).logits.mean())
    assert not GaussNewton(problem=linear, seed=0).multiply(batch, 0, [vector]).products[0].any()


def test_running_statistics_and_gradients_stay() -> None:
    torch.manual_seed(0)
    model, batch = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)), table(16)
    before = {name: part.clone() for name, part in model.state_dict().items()}
    gauss_newton = GaussNewton(problem=Net(model, batch), seed=0)
    gauss_newton.multiply(batch, 0, vectors(gauss_newton, 1))
    assert all(torch.equal(part, before[name]) for name, part in model.state_dict().items())
    assert all(part.grad is None for part in model.parameters())
    assert not model._forward_hooks


def test_a_loss_without_the_models_output_has_no_gauss_newton_matrix() -> None:
    world = quadratic()
    gauss_newton = GaussNewton(problem=world, seed=0)
    with pytest.raises(NoOutputError):
        gauss_newton.multiply(next(world.data.fetch([range(4)])), 0, [world.position])
