"""The gradient phase: what it measures, what it leaves alone, how it stops."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bsadvisor.errors import DataError
from bsadvisor.measure.gradients import GradientProbe, MicroBatchTooLargeError
from bsadvisor.measure.known_answers import NoisyQuadratic, Table
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.statistics import gradient_stats
from bsadvisor.theory import noise_scale as theory
from bsadvisor.values import GradientStats
from tests.worlds import probe, quadratic


class Net:
    """A `Problem` around any module and a table of inputs whose last column is the class."""

    def __init__(
        self, model: nn.Module, table: Tensor, loss: Callable[[nn.Module, Tensor], Tensor] | None = None
    ) -> None:
        self.model = model
        self.device = torch.device("cpu")
        self.data = Table(table)
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.preconditioner = None
        self._loss = loss

    def loss(self, batch: Tensor, *, full_precision: bool = False) -> Tensor:
        batch = batch.to(next(self.model.parameters()).dtype)
        if self._loss is not None:
            return self._loss(self.model, batch)
        return nn.functional.cross_entropy(self.model(batch[:, :-1]), batch[:, -1].long())

    def weight(self, batch: Tensor) -> int | None:
        return None

    def labels(self, batch: Tensor) -> Tensor | None:
        return batch[:, -1].long()


def table(rows: int = 512, features: int = 6, classes: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, features, generator=generator)
    return torch.cat([inputs, (inputs[:, :1] > 0).float() * (classes - 1)], dim=1)


def stats(measured: GradientProbe) -> GradientStats:
    return gradient_stats(measured, confidence=0.95, precision=0.5, batch_size=None, learning_rate=None)


def test_the_answer_of_the_world_is_found() -> None:
    world = quadratic(noise_scale=50)
    found = stats(probe(world, examples=2048, micro_batch=16)).noise_scale_simple
    assert found.low is not None and found.high is not None
    assert found.low <= 50 <= found.high < 75


def test_the_micro_batch_does_not_matter() -> None:
    values = [
        stats(probe(quadratic(noise_scale=50), examples=2048, micro_batch=size)).noise_scale_simple.value
        for size in (1, 8, 64)
    ]
    assert values == pytest.approx([values[0]] * 3, rel=0.1)


def test_gradients_are_those_of_all_examples_one_by_one() -> None:
    net = Net(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)), table(64))
    measured = probe(net, examples=64, micro_batch=1)
    rows = []
    for row in table(64):
        net.model.zero_grad()
        net.loss(row[None]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in net.model.parameters() if p.grad is not None]))
    each = torch.stack(rows).double()
    trace = float(each.var(dim=0).sum())
    squared_norm = float(each.mean(0).square().sum()) - trace / 64
    found = stats(measured)
    assert found.noise_trace.value == pytest.approx(trace, rel=1e-4)
    assert found.squared_norm.value == pytest.approx(squared_norm, rel=1e-4)


def test_a_summed_loss_is_divided() -> None:
    mean = probe(quadratic(), examples=512, micro_batch=8)
    total = probe(quadratic(reduction="sum"), examples=512, micro_batch=8, reduction="sum")
    assert stats(total).squared_norm.value == pytest.approx(stats(mean).squared_norm.value, rel=1e-4)


class Tokens(NoisyQuadratic):
    """Examples of 1 to 8 tokens each; the loss is the mean over a batch's tokens."""

    def tokens(self, batch: Tensor) -> Tensor:
        return 1 + (batch[:, 0].abs() * 1000).long() % 8

    def loss(self, batch: Tensor, *, full_precision: bool = False) -> Tensor:
        w, counts = self.parameters["position"], self.tokens(batch)
        per_token = batch / counts.sqrt()[:, None]
        return 0.5 * (self.hessian * w * w).sum() + (counts[:, None] * per_token).sum(0) @ w / counts.sum()

    def weight(self, batch: Tensor) -> int | None:
        return int(self.tokens(batch).sum())


def test_token_means_are_weighted_so_that_the_noise_per_token_comes_out() -> None:
    base = quadratic(noise_scale=50, dimensions=200, examples=8192)
    world = Tokens(hessian=base.hessian, position=base.position, deviations=base.deviations, examples=8192)
    found = stats(probe(world, examples=4096, micro_batch=4, reduction="token_mean"))
    per_token = world.noise_trace
    assert found.noise_trace.value == pytest.approx(per_token / 4.5, rel=0.05)


def test_model_buffers_random_state_and_gradients_are_as_before() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    model[0].weight.grad = torch.ones(8, 6)
    model[2].eval()
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    probe(Net(model, table()), examples=256, micro_batch=8)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(model[0].weight.grad, torch.ones(8, 6)) and model[0].bias.grad is None
    assert [module.training for module in model] == [True, True, False, True]


def test_the_same_seed_gives_the_same_numbers_and_another_does_not() -> None:
    def value(seed: int) -> float | None:
        linear = nn.Linear(6, 3)
        nn.init.ones_(linear.weight)
        nn.init.zeros_(linear.bias)
        net = Net(nn.Sequential(nn.Dropout(0.5), linear), table())
        return stats(probe(net, examples=256, micro_batch=8, seed=seed)).noise_trace.value

    assert value(0) == value(0) != value(1)


def test_unused_parameters_are_named() -> None:
    used = nn.Linear(6, 3)
    model = nn.ModuleDict({"used": used, "unused": nn.Linear(6, 3)})
    net = Net(model, table(), lambda _, b: nn.functional.cross_entropy(used(b[:, :-1]), b[:, -1].long()))
    assert probe(net, examples=128, micro_batch=8).left_out() == ("unused.weight", "unused.bias")


def test_a_class_seen_alone_is_noticed() -> None:
    one = table()
    one[:, -1] = 2
    assert probe(Net(nn.Linear(6, 3), one), examples=128, micro_batch=8).single_class == 2
    assert probe(Net(nn.Linear(6, 3), table()), examples=128, micro_batch=8).single_class is None


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused(poison: float) -> None:
    bad = table()
    bad[3, 0] = poison
    with pytest.raises(DataError, match=r"the loss is (nan|inf)"):
        probe(Net(nn.Linear(6, 3), bad), examples=512, micro_batch=8)


def test_every_round_looks_at_its_own_micro_batches_and_counts_on() -> None:
    bad, order = table(), torch.randperm(512, generator=torch.Generator().manual_seed(0))
    bad[order[200], 0] = float("nan")
    net = Net(nn.Linear(6, 3), bad)
    sampler = Sampler(net.data, seed=0, min_gradient=512)
    measured = GradientProbe(net, sampler, micro_batch=8, seed=0)

    def run(examples: int) -> None:
        measured.run(examples, time_left=lambda: 1e9, stop=lambda: False, progress=lambda done: None)

    run(128)
    with pytest.raises(DataError, match=r"the loss is nan on micro-batch 26$"):
        run(256)


def out_of_memory_above(limit: int) -> Callable[[nn.Module, Tensor], Tensor]:
    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        if len(batch) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return nn.functional.cross_entropy(model(batch[:, :-1]), batch[:, -1].long())

    return loss


def test_running_out_of_memory_asks_for_half() -> None:
    net = Net(nn.Linear(6, 3), table(), out_of_memory_above(4))
    with pytest.raises(MicroBatchTooLargeError) as caught:
        probe(net, examples=256, micro_batch=16)
    assert caught.value.out_of_memory and caught.value.fitting == 8


def run_until(net: Any, *, examples: int, time_left: float, stop_after: int | None = None) -> GradientProbe:
    sampler = Sampler(net.data, seed=0, min_gradient=examples)
    measured = GradientProbe(net, sampler, micro_batch=4, seed=0)
    measured.run(
        examples,
        time_left=lambda: time_left,
        stop=lambda: stop_after is not None and measured.accumulator.num_micro_batches >= stop_after,
        progress=lambda done: None,
    )
    return measured


def test_a_request_to_stop_is_heeded_between_micro_batches() -> None:
    measured = run_until(quadratic(), examples=2048, time_left=60, stop_after=5)
    assert measured.accumulator.num_micro_batches == 5


def test_when_time_is_up_sixteen_micro_batches_are_measured_all_the_same() -> None:
    sampler = Sampler(quadratic().data, seed=0, min_gradient=64)
    measured = GradientProbe(quadratic(), sampler, micro_batch=1, seed=0)
    measured.run(512, time_left=lambda: -1.0, stop=lambda: False, progress=lambda done: None)
    assert measured.accumulator.num_micro_batches == 16


def test_a_micro_batch_too_slow_for_the_time_is_made_smaller() -> None:
    with pytest.raises(MicroBatchTooLargeError) as caught:
        run_until(quadratic(), examples=2048, time_left=1e-9)
    assert not caught.value.out_of_memory and caught.value.fitting == 1


def test_a_gradient_of_exactly_zero_has_no_noise_scale() -> None:
    net = Net(nn.Linear(6, 3), table(), lambda model, batch: 0 * model(batch[:, :-1]).sum())
    found = stats(probe(net, examples=128, micro_batch=4))
    assert found.squared_norm.value == 0
    assert found.noise_scale_simple.value is None and found.noise_scale_simple.low is None


def test_half_precision_weights_are_measured_in_float32() -> None:
    exact = stats(probe(Net(_linear(torch.float32), table()), examples=256, micro_batch=8))
    for dtype in (torch.bfloat16, torch.float16):
        model = _linear(dtype)

        def loss(model: nn.Module, batch: Tensor, dtype: torch.dtype = dtype) -> Tensor:
            return nn.functional.cross_entropy(model(batch[:, :-1].to(dtype)), batch[:, -1].long())

        found = stats(probe(Net(model, table(), loss), examples=256, micro_batch=8))
        assert found.noise_trace.value == pytest.approx(exact.noise_trace.value, rel=0.03)


def _linear(dtype: torch.dtype) -> nn.Module:
    model = nn.Linear(6, 3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    return model.to(dtype)


def test_the_last_forecast_is_given_until_the_precision_is_reached() -> None:
    measured = probe(quadratic(noise_scale=50), examples=512, micro_batch=8)
    wide = gradient_stats(measured, confidence=0.95, precision=0.01, batch_size=8, learning_rate=0.1)
    assert wide.examples_for_precision is not None and wide.examples_for_precision > 512
    easy = gradient_stats(measured, confidence=0.95, precision=1e3, batch_size=8, learning_rate=0.1)
    assert easy.examples_for_precision is None
    assert easy.update_noise is not None and easy.noise_trace.value is not None
    assert easy.update_noise.variance.value == pytest.approx(0.01 / 8 * easy.noise_trace.value)


def test_the_interval_of_the_sums_is_that_of_the_report() -> None:
    measured = probe(quadratic(), examples=512, micro_batch=8)
    interval = theory.noise_scale(measured.accumulator.sums(), 0.95)
    assert stats(measured).noise_scale_simple.high == interval.high
