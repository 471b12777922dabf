"""The best single step against its closed form, and what it leaves untouched."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from bsadvisor.errors import DataError
from bsadvisor.measure.line_search import LineSearch, line_search
from bsadvisor.measure.sampler import Sampler
from tests.measure.test_gradients import Net, table
from tests.worlds import quadratic


def search(
    problem: object, direction: dict[str, Tensor], *, stop: bool = False, chunk: int = 16
) -> LineSearch | None:
    sampler = Sampler(problem.data, seed=0, min_gradient=64)  # type: ignore[attr-defined]
    batches = sampler.line_search(16, chunk)
    return line_search(problem, batches, direction, confidence=0.95, seed=0, should_stop=lambda: stop)  # type: ignore[arg-type]


def test_the_best_step_along_the_gradient_is_found() -> None:
    world = quadratic(noise_scale=10)
    found = search(world, {"position": world.gradient.float()})
    assert found is not None and found.learning_rate is not None and found.loss_decrease is not None
    assert found.learning_rate.low is not None and found.learning_rate.high is not None
    assert found.learning_rate.low <= world.max_learning_rate <= found.learning_rate.high
    decrease = world.squared_norm * world.max_learning_rate / 2
    assert found.loss_decrease.value == pytest.approx(decrease, rel=0.1)


def test_a_preconditioned_direction_is_searched_in_its_own_units() -> None:
    diagonal = torch.linspace(0.01, 0.02, 60)
    world = quadratic(noise_scale=10, diagonal=diagonal)
    found = search(world, {"position": world.gradient.float()})
    step, hessian = diagonal.double() * world.gradient, world.hessian.double()
    best = float((step * world.gradient).sum() / (hessian * step * step).sum())
    assert found is not None and found.learning_rate is not None
    assert found.direction == "optimizer"
    assert found.learning_rate.value == pytest.approx(best, rel=0.1)


def test_the_scale_of_the_problem_does_not_matter() -> None:
    world = quadratic(noise_scale=10)
    found = search(world, {"position": 1e-6 * world.gradient.float()})
    assert found is not None and found.learning_rate is not None
    assert found.learning_rate.value == pytest.approx(1e6 * world.max_learning_rate, rel=0.1)


def test_intervals_cover_the_best_step() -> None:
    covered = 0
    for seed in range(100):
        world = quadratic(noise_scale=10, seed=seed)
        found = search(world, {"position": world.gradient.float()})
        assert found is not None and found.learning_rate is not None
        interval = found.learning_rate
        assert interval.low is not None and interval.high is not None
        covered += interval.low <= world.max_learning_rate <= interval.high
    assert covered >= 90


def test_an_uphill_direction_has_no_best_step() -> None:
    world = quadratic(noise_scale=1)
    found = search(world, {"position": -world.gradient.float()})
    assert found is not None and found.learning_rate is None


def test_weights_and_buffers_come_back_bit_for_bit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    before = copy.deepcopy(model.state_dict())
    net = Net(model, table())
    assert search(net, {name: torch.randn_like(p) for name, p in net.parameters.items()}, chunk=4) is not None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_too_few_batches_or_a_stop_leave_it_out() -> None:
    world = quadratic()
    assert (
        line_search(
            world,
            [],
            {"position": world.gradient.float()},
            confidence=0.95,
            seed=0,
            should_stop=lambda: False,
        )
        is None
    )
    assert search(world, {"position": world.gradient.float()}, stop=True) is None


def test_data_that_is_not_finite_is_refused() -> None:
    bad = table()
    bad[:, 0] = float("nan")
    net = Net(nn.Linear(6, 3), bad)
    with pytest.raises(DataError, match="not finite"):
        search(net, {name: torch.ones_like(p) for name, p in net.parameters.items()}, chunk=4)


def test_random_augmentation_of_the_data_is_seeded_and_leaves_no_trace() -> None:
    world = quadratic(noise_scale=10)

    def noisy(batches: Iterator[Tensor]) -> Iterator[Tensor]:
        return (batch + 0.1 * torch.randn(batch.shape) for batch in batches)

    def found() -> LineSearch | None:
        batches = noisy(Sampler(world.data, seed=0, min_gradient=64).line_search(16, 16))
        direction = {"position": world.gradient.float()}
        return line_search(world, batches, direction, confidence=0.95, seed=0, should_stop=lambda: False)

    state = torch.get_rng_state()
    first = found()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert found() == first
