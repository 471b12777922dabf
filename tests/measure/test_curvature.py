"""The curvature phase: on all kinds of models, within its limits, and without a trace."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from shutil import which
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bsadvisor.advise.curvature_plan import CurvaturePlan
from bsadvisor.errors import DataError
from bsadvisor.measure.curvature import (
    CurvatureProbe,
    CurvatureUnavailableError,
    MeasuredCurvature,
    OutOfMemoryForProductsError,
)
from bsadvisor.measure.gauss_newton import GaussNewton
from bsadvisor.measure.hessian import Hessian
from bsadvisor.measure.known_answers import Table
from bsadvisor.measure.sampler import Sampler
from bsadvisor.theory.curvature_noise import bends_up
from tests.measure.dense import dense_hessian
from tests.measure.test_gradients import Net, table
from tests.measure.test_hessian import Custom, cross_entropy
from tests.worlds import bent_quadratic, quadratic

PLAN = CurvaturePlan(
    micro_batch=8,
    noise_batches=16,
    direction_batches=4,
    certificate_batches=8,
    iterations=6,
    search_direction_batches=4,
    search_certificate_batches=4,
    search_iterations=6,
)
PARTS = ["the curvature along the gradient", "the ends of the spectrum"]


def never() -> bool:
    return False


def measured(
    problem: Any,
    *,
    plan: CurvaturePlan = PLAN,
    time_left: Callable[[], float] = lambda: 1e9,
    stop: Callable[[], bool] = never,
    **options: Any,
) -> MeasuredCurvature:
    settings = {"divide_by_examples": False, "noise_trace": None, "seconds_per_pass": 1e-3, "seed": 0}
    probe = CurvatureProbe(problem, Sampler(problem.data, seed=0), plan, **{**settings, **options})
    return probe.run(time_left=time_left, stop=stop)


def mlp(*extra: nn.Module, width: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, width), nn.Tanh(), *extra, nn.Linear(width, 3))


def snapshot(model: nn.Module) -> list[Any]:
    """Everything that must be the same afterwards; tensors by their bits and by who they are."""
    tensors = [*model.parameters(), *model.buffers()]
    return [
        [(id(part), part.data_ptr(), part.dtype, part.requires_grad) for part in tensors],
        [part.detach().clone().flatten().view(torch.uint8).tolist() for part in tensors],
        [part.grad if part.grad is None else (id(part.grad), part.grad.tolist()) for part in tensors],
        [module.training for module in model.modules()],
        [len(module._forward_hooks) for module in model.modules()],
        torch.get_rng_state().tolist(),
        [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()],
        random.getstate(),
        torch.backends.cuda.math_sdp_enabled() and torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cudnn.enabled,
        torch.get_float32_matmul_precision(),
    ]


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    for number, part in enumerate(model.parameters()):
        part.grad = torch.full_like(part, number)
    before = snapshot(model)
    yield
    assert snapshot(model) == before


# --- models ---


class Attention(nn.Module):
    """Sequences that are long enough, and a mask, for the fused kernel."""

    length = 64

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into, self.head = nn.Linear(6, 16), nn.Linear(16, 3)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)

    def forward(self, inputs: Tensor) -> Tensor:
        steps = torch.linspace(0, 1, self.length)[None, :, None]
        mask = nn.Transformer.generate_square_subsequent_mask(self.length)
        hidden = self.block(self.into(inputs[:, None] * steps), src_mask=mask, is_causal=True)
        result: Tensor = self.head(hidden.mean(1))
        return result


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.head = nn.LSTM(1, 8, 2, dropout=0.2, batch_first=True), nn.Linear(8, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.head(self.lstm(inputs[:, :, None])[0][:, -1])
        return result


class Tied(nn.Module):
    """Tied, frozen and unused weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into, self.again, self.frozen = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.unused = nn.Linear(2, 2)
        self.again.weight = self.into.weight
        self.frozen.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.frozen(self.again(self.into(inputs).tanh()).tanh())
        return result


class Replacing(nn.Module):
    """Assigns a new tensor to its buffer instead of writing to it."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(6, 3)
        self.register_buffer("count", torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        self.count = self.count + 1
        result: Tensor = self.head(inputs).tanh()
        return result


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "attention": (Attention, "exact"),
    "LSTM": (Recurrent, "exact"),
    "BatchNorm": (lambda: mlp(nn.BatchNorm1d(8)), "exact"),
    "dropout": (lambda: mlp(nn.Dropout(0.5)), "exact"),
    "tied, frozen and unused": (Tied, "exact"),
    "bfloat16": (lambda: mlp(nn.BatchNorm1d(8)).bfloat16(), "exact"),
    "float64": (lambda: mlp().double(), "exact"),
    "a buffer that is replaced": (Replacing, "exact"),
    "a backward without a derivative": (lambda: Custom("Once"), "finite_differences"),
    "a backward that detaches": (lambda: Custom("Silent"), "finite_differences"),
    "a backward that raises": (lambda: Custom("Raising"), "finite_differences"),
}


@pytest.mark.parametrize("kind", list(MODELS))
def test_every_kind_of_model_is_measured_and_as_before(kind: str) -> None:
    build, method = MODELS[kind]
    model = build()
    net = Net(model, table())
    with unchanged(model):
        found = measured(net)
    assert found.method == method and (found.method_reason is None) == (method == "exact")
    assert found.products is not None and np.isfinite(found.products.products).all()
    assert found.spectrum is not None
    extremes = found.spectrum.extremes
    assert extremes.lowest.value <= extremes.highest.value and extremes.highest.value > 0
    assert found.skipped == []


def test_fused_attention_would_have_no_second_derivative() -> None:
    net = Net(Attention(), table())
    with pytest.raises(RuntimeError, match="flash_attention_for_cpu_backward is not implemented"):
        Hessian(problem=net, seed=0).multiply(
            table(8), 0, [torch.ones(sum(p.numel() for p in net.parameters.values()))]
        )


@pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",
        pytest.param("inductor", marks=pytest.mark.skipif(which("g++") is None, reason="no compiler here")),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_compiled_model_is_measured_as_if_it_were_not(backend: str) -> None:
    plain = mlp()
    compiled: Any = torch.compile(copy.deepcopy(plain), backend=backend)
    wanted = measured(Net(plain, table()))
    before = compiled(table()[:8, :-1])
    with unchanged(compiled):
        found = measured(Net(compiled, table()))
    assert found.method == "exact"
    assert found.products is not None and wanted.products is not None
    assert found.products.products == pytest.approx(wanted.products.products, rel=1e-4, abs=1e-9)
    assert torch.equal(compiled(table()[:8, :-1]), before)
    torch.compiler.reset()


def test_sparse_gradients_of_embeddings_are_measured() -> None:
    def loss(model: Any, batch: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(batch[:, 0].long()), batch[:, 1].long())

    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Tanh(), nn.Linear(4, 3))
    rows = torch.stack([torch.arange(512.0) % 9, torch.arange(512.0) % 3], dim=1)
    dense = copy.deepcopy(model)
    setattr(dense[0], "sparse", False)  # noqa: B010
    with unchanged(model):
        found = measured(Net(model, rows, loss))
    wanted = measured(Net(dense, rows, loss))
    assert found.products is not None and wanted.products is not None
    assert found.products.products == pytest.approx(wanted.products.products, rel=1e-4, abs=1e-9)


def test_bfloat16_weights_are_multiplied_in_float32() -> None:
    narrow = mlp().bfloat16()
    wanted = measured(Net(copy.deepcopy(narrow).float(), table()))
    found = measured(Net(narrow, table()))
    assert found.products is not None and wanted.products is not None
    assert found.products.products == pytest.approx(wanted.products.products, rel=1e-6)
    assert found.spectrum is not None and wanted.spectrum is not None
    assert found.spectrum.extremes.highest.value == pytest.approx(wanted.spectrum.extremes.highest.value)


def test_buffers_that_are_replaced_are_the_same_objects_again() -> None:
    model = Replacing().bfloat16()
    with unchanged(model):
        measured(Net(model, table()))


# --- answers ---


def test_both_ends_and_the_trace_are_those_of_the_dense_hessian() -> None:
    model, rows = mlp().double(), table(512)
    plan = CurvaturePlan(
        micro_batch=32,
        noise_batches=16,
        direction_batches=12,
        certificate_batches=4,
        iterations=83,
        search_direction_batches=4,
        search_certificate_batches=4,
        search_iterations=6,
    )
    net = Net(model, rows)
    found = measured(net, plan=plan).spectrum
    assert found is not None
    sampler = Sampler(net.data, seed=0)
    batches = [batch.double() for batch in sampler.curvature(0, 16, 32)]
    direction = dense_hessian(model, cross_entropy, torch.cat(batches[:12]))
    values = torch.linalg.eigvalsh(direction)
    assert found.extremes.lowest.value == pytest.approx(float(values[0]), abs=0.02 * float(values[-1]))
    assert found.extremes.highest.value == pytest.approx(float(values[-1]), rel=1e-3)
    certificate = dense_hessian(model, cross_entropy, torch.cat(batches[12:]))
    for along in (found.lowest, found.highest):
        wanted = float(along.displacement @ certificate @ along.displacement)
        assert along.curvatures.mean() == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    assert found.traces.std() > 0


def test_without_a_basis_the_same_is_measured() -> None:
    kept, lean = (measured(Net(mlp(), table()), keep_basis=keep).spectrum for keep in (True, False))
    assert kept is not None and lean is not None
    assert lean.extremes.highest.value == pytest.approx(kept.extremes.highest.value, rel=1e-4)
    assert lean.highest.curvatures == pytest.approx(kept.highest.curvatures, rel=1e-2)
    assert lean.extremes.iterations == 2 * kept.extremes.iterations - 1


def test_an_adaptive_optimizer_gets_its_own_geometry_beside_the_plain_one() -> None:
    diagonal = torch.linspace(0.01, 100, 60)
    world = quadratic(diagonal=diagonal)
    found = measured(world, plan=replace(PLAN, iterations=24))
    assert found.spectrum is not None and found.plain_spectrum is not None
    top = float((diagonal * world.hessian).max())
    assert found.spectrum.extremes.highest.value == pytest.approx(top, rel=0.05)
    assert found.plain_spectrum.extremes.highest.value == pytest.approx(1.5, rel=0.05)
    assert found.products is not found.plain_products is not None


def test_a_summed_loss_is_divided() -> None:
    mean = measured(bent_quadratic("definite"))
    total = measured(bent_quadratic("definite", reduction="sum"), divide_by_examples=True)
    assert mean.products is not None and total.products is not None
    assert total.products.products == pytest.approx(mean.products.products, rel=1e-4)


def test_a_gauss_newton_matrix_is_measured_where_the_loss_bends_down() -> None:
    def bending_down(model: Any, batch: Tensor) -> Tensor:
        output = model(batch[:, :-1])
        size: Tensor = output.square().mean()
        return (size + 1).log() - 3 * size

    found = measured(Net(mlp(), table(), bending_down))
    assert found.plain_products is not None and not bends_up(found.plain_products)
    assert found.gauss_newton_products is not None
    world = measured(bent_quadratic("definite"))
    assert world.plain_products is not None and bends_up(world.plain_products)
    assert world.gauss_newton_products is None


def test_a_saddle_gets_an_escape_direction_and_a_bowl_none() -> None:
    saddle, bowl = measured(bent_quadratic("indefinite")), measured(bent_quadratic("definite"))
    assert saddle.escape is not None and saddle.escape.curvature.high is not None
    assert saddle.escape.curvature.high < 0
    assert saddle.escape.examples == 64
    assert bowl.escape is None and bowl.skipped == []


# --- what can go wrong ---


def test_a_piecewise_linear_loss_has_no_curvature_at_all() -> None:
    net = Net(nn.Linear(6, 3), table(), lambda model, batch: (model(batch[:, :-1]) - 1).abs().mean())
    found = measured(net)
    assert found.method == "exact"
    assert found.products is not None and not found.products.products.any()
    assert found.spectrum is not None
    assert found.spectrum.extremes.lowest.value == found.spectrum.extremes.highest.value == 0
    assert not found.spectrum.lowest.negative and found.escape is None


def overflowing(model: Any, batch: Tensor) -> Tensor:
    """Its gradient is finite, its second derivative is not: that of sqrt at zero."""
    weight = model.weight
    bent: Tensor = (weight - weight.detach()).abs().pow(1.5).sum()
    return cross_entropy(model, batch) + bent


def test_products_that_are_not_finite_are_told_in_a_sentence() -> None:
    model = nn.Linear(6, 3)
    with (
        unchanged(model),
        pytest.raises(CurvatureUnavailableError, match="a product with the Hessian is not finite"),
    ):
        measured(Net(model, table(), overflowing))


@pytest.mark.parametrize("calls", [0, 3, 30, 70])
@pytest.mark.parametrize(
    ("error", "becomes"),
    [
        (RuntimeError("a kernel\nfailed"), CurvatureUnavailableError),
        (DataError("no such file", "mend it"), CurvatureUnavailableError),
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemoryForProductsError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), OutOfMemoryForProductsError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["failure", "data", "device memory", "host memory", "interrupt"],
)
def test_everything_is_as_before_after_an_exception(
    error: BaseException, becomes: type[BaseException], calls: int
) -> None:
    left = iter(range(calls))

    def failing(model: Any, batch: Tensor) -> Tensor:
        if next(left, None) is None:
            raise error
        return cross_entropy(model, batch)

    model = mlp(nn.BatchNorm1d(8), nn.Dropout(0.5)).bfloat16()
    with unchanged(model), pytest.raises(becomes) as caught:
        measured(Net(model, table(), failing))
    assert "\n" not in str(caught.value)
    if becomes is OutOfMemoryForProductsError:  # nothing keeps the graph
        assert caught.value.__context__ is caught.value.__cause__ is None


def test_a_failure_of_the_gauss_newton_matrix_leaves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("derivative for x is not implemented")

    monkeypatch.setattr(GaussNewton, "multiply", refuse)
    found = measured(Net(mlp(), table(), lambda model, batch: -model(batch[:, :-1]).square().mean()))
    assert found.products is not None and found.spectrum is not None
    assert found.gauss_newton_products is None


@pytest.mark.parametrize("rows", [8, 20, 60, 127])
def test_too_few_examples_for_any_part_are_told(rows: int) -> None:
    plan = CurvaturePlan(
        micro_batch=8,
        noise_batches=16,
        direction_batches=14,
        certificate_batches=1,
        iterations=6,
        search_direction_batches=4,
        search_certificate_batches=4,
        search_iterations=6,
    )
    with pytest.raises(CurvatureUnavailableError, match="too few examples"):
        measured(Net(mlp(), table(rows)), plan=plan)


def test_without_a_certificate_the_rest_is_measured() -> None:
    plan = CurvaturePlan(
        micro_batch=8,
        noise_batches=16,
        direction_batches=16,
        certificate_batches=8,
        iterations=6,
        search_direction_batches=4,
        search_certificate_batches=4,
        search_iterations=6,
    )
    found = measured(Net(mlp(), table(146)), plan=plan)
    assert found.products is not None and found.spectrum is None and found.escape is None


@pytest.mark.parametrize("rows", [4, 100, 200, 300, 2000])
def test_a_stream_is_measured_as_far_as_it_goes(rows: int) -> None:
    net = Net(mlp(), table(rows))
    net.data = Table(table(rows), endless=True)
    if rows < 150:
        with pytest.raises(CurvatureUnavailableError, match="examples"):
            measured(net)
        return
    found = measured(net)
    assert found.products is not None
    assert (found.spectrum is None) == (rows < 200)


def test_when_time_is_up_at_once_everything_is_listed_with_what_it_would_take() -> None:
    found = measured(Net(mlp(), table()), time_left=lambda: 0.0)
    assert [part.part for part in found.skipped] == PARTS
    assert all(0.1 < part.seconds < 10 for part in found.skipped)
    assert found.products is None and found.spectrum is None and found.escape is None


def test_a_part_that_would_take_too_long_is_left_to_a_shorter_one() -> None:
    found = measured(Net(mlp(), table()), time_left=lambda: 1.0, seconds_per_pass=2e-3)
    assert found.products is not None
    assert found.skipped == [] or [part.part for part in found.skipped] == PARTS[1:]
    slow = measured(Net(mlp(), table()), time_left=lambda: 1.0, seconds_per_pass=1.0)
    assert [part.part for part in slow.skipped] == PARTS


def test_a_stop_at_any_time_ends_the_phase_soon_and_leaves_no_trace() -> None:
    most = 0
    for allowed in range(0, 200, 7):
        asked: list[bool] = []
        late: list[bool] = []

        def stop(asked: list[bool] = asked, allowed: int = allowed) -> bool:
            asked.append(len(asked) >= allowed)
            return asked[-1]

        def watching(model: Any, batch: Tensor, asked: list[bool] = asked, late: Any = late) -> Tensor:
            late.append(any(asked))
            return cross_entropy(model, batch)

        model = mlp(nn.Dropout(0.5))
        with unchanged(model):
            found = measured(Net(model, table(), watching), stop=stop)
        assert not any(late)
        assert (found.skipped != []) == any(asked)
        most = max(most, len(asked))
    assert most > 30  # it is asked at every stage


def test_the_measurement_repeats_and_follows_the_seed() -> None:
    model = mlp(nn.Dropout(0.5))
    first, again, other = (measured(Net(model, table()), seed=seed).products for seed in (0, 0, 1))
    assert first is not None and again is not None and other is not None
    assert np.array_equal(first.products, again.products)
    assert not np.array_equal(first.products, other.products)
