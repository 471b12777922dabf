"""Products against a dense Hessian, exact and by differences, and the choice between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bsadvisor.measure.hessian import Hessian, Method, choose_method, double_backward_allowed
from tests.measure.dense import dense_hessian
from tests.measure.test_gradients import Net, table

METHODS: list[Method] = ["exact", "finite_differences"]


def cross_entropy(model: Any, batch: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(batch[:, :-1]), batch[:, -1].long())


def bent() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def vectors(hessian: Hessian, count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(hessian.num_parameters, generator=generator, dtype=torch.float64).to(hessian.like)
        for _ in range(count)
    ]


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("method", METHODS)
def test_products_are_those_of_the_dense_hessian(method: Method) -> None:
    model, batch = bent(), table(16).double()
    hessian = Hessian(problem=Net(model, batch), seed=0, method=method)
    found = hessian.multiply(batch, 0, vectors(hessian))
    matrix = dense_hessian(model, cross_entropy, batch)
    for vector, product in zip(vectors(hessian), found.products, strict=True):
        assert relative(product, matrix @ vector) < 1e-5
    assert relative(found.gradient, hessian.gradient(batch, 0)) < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_in_scaled_coordinates_the_hessian_is_d_h_d(method: Method) -> None:
    model, batch = bent(), table(16).double()
    plain = Hessian(problem=Net(model, batch), seed=0, method=method)
    scale = torch.linspace(0.1, 3.0, plain.num_parameters, dtype=torch.float64)
    hessian = replace(plain, scale=scale)
    (vector,) = vectors(hessian, 1)
    found = hessian.multiply(batch, 0, [vector])
    matrix = dense_hessian(model, cross_entropy, batch)
    assert relative(found.products[0], scale * (matrix @ (scale * vector))) < 1e-5
    assert relative(found.gradient, scale * plain.gradient(batch, 0)) < 1e-5
    assert torch.equal(hessian.displacement(vector), scale * vector)


@pytest.mark.parametrize("method", METHODS)
def test_a_summed_loss_is_divided(method: Method) -> None:
    model, batch = bent(), table(16).double()
    total = Net(model, batch, lambda model, batch: len(batch) * cross_entropy(model, batch))
    hessian = Hessian(problem=total, seed=0, divide_by=16, method=method)
    (vector,) = vectors(hessian, 1)
    matrix = dense_hessian(model, cross_entropy, batch)
    assert relative(hessian.multiply(batch, 0, [vector]).products[0], matrix @ vector) < 1e-5
    assert float(hessian.loss(batch, 0)) == pytest.approx(cross_entropy(model, batch).item())


def test_two_calls_of_the_model_in_one_loss_are_both_differentiated() -> None:
    def contrast(model: Any, batch: Tensor) -> Any:
        return (model(batch[:, :-1]) * model(batch[:, :-1].flip(0))).square().mean()

    model, batch = bent(), table(8).double()
    hessian = Hessian(problem=Net(model, batch, contrast), seed=0)
    (vector,) = vectors(hessian, 1)
    matrix = dense_hessian(model, contrast, batch)
    assert relative(hessian.multiply(batch, 0, [vector]).products[0], matrix @ vector) < 1e-5


def test_differences_in_float32_are_good_to_a_percent() -> None:
    batch = table(16)
    hessian = Hessian(problem=Net(bent().float(), batch), seed=0)
    differences = replace(hessian, method="finite_differences")
    (vector,) = vectors(hessian, 1)
    wanted = hessian.multiply(batch, 0, [vector]).products[0]
    for size in (1e-3, 1.0, 1e3):  # the length of a vector does not matter
        found = differences.multiply(batch, 0, [size * vector]).products[0]
        assert relative(found / size, wanted) < 0.01


@pytest.mark.parametrize("method", METHODS)
def test_no_vectors_and_a_zero_vector_are_products_too(method: Method) -> None:
    batch = table(16)
    hessian = Hessian(problem=Net(bent().float(), batch), seed=0, method=method)
    assert hessian.multiply(batch, 0, []).products == []
    found = hessian.multiply(batch, 0, [torch.zeros(hessian.num_parameters)])
    assert not found.products[0].any()
    assert torch.equal(found.gradient, hessian.gradient(batch, 0))


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_is_linear_in_the_weights_has_no_curvature(method: Method) -> None:
    batch = table(16).double()
    net = Net(nn.Linear(6, 3).double(), batch, lambda model, batch: model(batch[:, :-1]).mean())
    hessian = Hessian(problem=net, seed=0, method=method)
    (vector,) = vectors(hessian, 1)
    found = hessian.multiply(batch, 0, [vector])
    assert float(found.products[0].norm()) < 1e-9 * float(found.gradient.norm())
    assert choose_method(hessian, [batch[:2]]) == ("exact", None)


@pytest.mark.parametrize("method", METHODS)
def test_frozen_unused_and_tied_weights_are_multiplied(method: Method) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.unused, self.frozen = nn.Linear(6, 6), nn.Linear(2, 2), nn.Linear(6, 6)
            self.again = nn.Linear(6, 6)
            self.again.weight = self.into.weight
            self.frozen.requires_grad_(False)

        def forward(self, inputs: Tensor) -> Any:
            hidden: Tensor = self.frozen(self.into(inputs).tanh())
            return self.again(hidden.tanh())[:, :3]

    torch.manual_seed(0)
    model, batch = Tied().double(), table(16).double()
    hessian = Hessian(problem=Net(model, batch), seed=0, method=method)
    assert hessian.num_parameters == 36 + 6 + 6 + 6
    (vector,) = vectors(hessian, 1)
    matrix = dense_hessian(model, cross_entropy, batch)
    assert relative(hessian.multiply(batch, 0, [vector]).products[0], matrix @ vector) < 1e-5
    assert all(part.grad is None for part in model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_products_with_one_number_share_their_dropout_mask(method: Method) -> None:
    batch = table(16)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 30), nn.Tanh(), nn.Dropout(0.5), nn.Linear(30, 3))
    hessian = Hessian(problem=Net(model, batch), seed=3, method=method)
    (vector,) = vectors(hessian, 1)
    first, again, other = (hessian.multiply(batch, number, [vector]).products[0] for number in (4, 4, 5))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(hessian.loss(batch, 4), hessian.loss(batch, 4))


@pytest.mark.parametrize("method", METHODS)
def test_running_statistics_stay_and_products_use_those_of_the_batch(method: Method) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double()
    batch = table(16).double()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    hessian = Hessian(problem=Net(model, batch), seed=0, method=method)
    (vector,) = vectors(hessian, 1)
    found = hessian.multiply(batch, 0, [vector]).products[0]
    hessian.gradient(batch, 0), hessian.loss(batch, 0)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    # Without its buffers, so that the dense reference may leave them alone.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean = module.running_var = module.num_batches_tracked = None
    matrix = dense_hessian(model, cross_entropy, batch)
    assert relative(found, matrix @ vector) < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_sparse_gradients_of_embeddings_are_multiplied(method: Method) -> None:
    def loss(model: Any, batch: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(batch[:, 0].long()), batch[:, 1].long())

    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Tanh(), nn.Linear(4, 3)).double()
    batch = torch.tensor([[1.0, 0.0], [3.0, 2.0], [1.0, 1.0]], dtype=torch.float64)
    hessian = Hessian(problem=Net(model, batch, loss), seed=0, method=method)
    (vector,) = vectors(hessian, 1)
    setattr(model[0], "sparse", False)  # noqa: B010
    matrix = dense_hessian(model, loss, batch)
    setattr(model[0], "sparse", True)  # noqa: B010
    assert relative(hessian.multiply(batch, 0, [vector]).products[0], matrix @ vector) < 1e-5


# --- the choice of the method ---


class Once(torch.autograd.Function):
    """A fused kernel with a backward of its own that has no derivative."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        result = inputs.tanh()
        ctx.save_for_backward(result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Any:
        (result,) = ctx.saved_tensors
        return slope * (1 - result.square())


class Silent(Once):
    """Its backward takes the saved tensor for a constant."""

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        (result,) = ctx.saved_tensors
        return slope * (1 - result.detach().square())


class Raising(Once):
    """Its backward refuses to be differentiated."""

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise AssertionError("no second derivative\nsorry")
        (result,) = ctx.saved_tensors
        return slope * (1 - result.square())


class Right(Once):
    """Its backward is differentiable."""

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        (result,) = ctx.saved_tensors
        return slope * (1 - result.square())


class Custom(nn.Module):
    functions: ClassVar = {kind.__name__: kind for kind in (Once, Silent, Raising, Right)}

    def __init__(self, kind: str, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.layers = nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, width))
        self.head = nn.Linear(width, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        activation: Any = self.functions[self.kind].apply
        result: Tensor = self.head(activation(self.layers(inputs)))
        return result


def chosen(
    model: nn.Module, loss: Callable[[Any, Tensor], Tensor] | None = None
) -> tuple[Method, str | None]:
    hessian = Hessian(problem=Net(model, table(), loss), seed=0)
    with double_backward_allowed(model):
        return choose_method(hessian, [table()[2 * at : 2 * at + 2] for at in range(4)])


@pytest.mark.parametrize("width", [16, 400])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("Once", "Once cannot be differentiated twice"),
        ("Silent", "Silent cannot be differentiated twice"),
        ("Raising", "no second derivative"),
    ],
)
def test_custom_functions_without_a_second_derivative_are_told(kind: str, reason: str, width: int) -> None:
    assert chosen(Custom(kind, width)) == ("finite_differences", reason)


@pytest.mark.parametrize("width", [16, 400])
def test_a_custom_function_with_a_second_derivative_is_multiplied_exactly(width: int) -> None:
    assert chosen(Custom("Right", width)) == ("exact", None)


def test_differences_replace_what_has_no_second_derivative() -> None:
    model, same, batch = Custom("Once").double(), Custom("Right").double(), table(16).double()
    by_differences = Hessian(problem=Net(model, batch), seed=0, method="finite_differences")
    exact = Hessian(problem=Net(same, batch), seed=0)
    (vector,) = vectors(exact, 1)
    wanted = exact.multiply(batch, 0, [vector]).products[0]
    assert relative(by_differences.multiply(batch, 0, [vector]).products[0], wanted) < 1e-5


def test_many_kinks_do_not_speak_against_pytorchs_own_operations() -> None:
    torch.manual_seed(0)
    conv = nn.Sequential(
        *(nn.Unflatten(1, (1, 1, 6)), nn.Upsample(32), nn.Conv2d(1, 16, 3), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3600, 3)),
    )
    assert chosen(conv) == ("exact", None)


def test_memory_that_is_refused_is_not_put_down_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Hessian, "_exact", refuse)
    with pytest.raises(torch.OutOfMemoryError):
        chosen(bent().float())
