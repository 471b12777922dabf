"""The mean loss in evaluation mode, against all losses one by one; and its growth, against autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from bsadvisor.errors import DataError, TargetError
from bsadvisor.measure.heldout_loss import (
    EXAMPLES,
    JudgedOn,
    LossGrowth,
    MeanLoss,
    Mode,
    difference,
    gain_of_shrinking,
    heldout_sampler,
    loss_growth,
    mean_loss,
)
from bsadvisor.target.data import DataSource, make_source
from bsadvisor.target.user_code import UserCode

CPU = torch.device("cpu")


def rows(count: int, seed: int = 0) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 3, generator=generator)
    return TensorDataset(inputs, inputs.sum(1) + torch.randn(count, generator=generator))


def source(data: Any) -> DataSource:
    return make_source(data, code=UserCode(notify=print), device=CPU)


def mean_squared_error(model: nn.Module, batch: Any) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]).squeeze(1), batch[1])


@dataclass
class Problem:
    """A small net with everything that a forward pass in training mode changes."""

    examples: TensorDataset
    function: Callable[[nn.Module, Any], Tensor] = mean_squared_error
    device: torch.device = CPU
    preconditioner: None = None
    model: nn.Sequential = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.data = source(self.examples)
        self.parameters = dict(self.model.named_parameters())

    def loss(self, batch: Any, *, full_precision: bool = False) -> Tensor:
        return self.function(self.model, batch)

    def weight(self, batch: Any) -> int | None:
        return int((batch[1] > 0).sum())

    def labels(self, batch: Any) -> Tensor | None:
        return None

    @torch.no_grad()
    def loss_of_all(self, examples: TensorDataset) -> float:
        """In one batch, in evaluation mode."""
        self.model.eval()
        found = float(self.function(self.model, examples.tensors))
        self.model.train()
        return found

    @torch.no_grad()
    def losses(self, examples: TensorDataset) -> Tensor:
        """Of every example in evaluation mode."""
        self.model.eval()
        inputs, targets = examples.tensors
        one_by_one = [
            self.function(self.model, one) for one in zip(inputs.split(1), targets.split(1), strict=True)
        ]
        self.model.train()
        return torch.stack(one_by_one)


def judged(examples: Any, *, seed: int = 0, micro_batch: int = 16, **options: Any) -> JudgedOn:
    sampler = heldout_sampler(source(examples), seed=seed)
    return JudgedOn(sampler=sampler, micro_batch=micro_batch, confidence=0.95, seed=seed, **options)


def measured(problem: Problem, examples: Any, **options: Any) -> MeanLoss:
    found = mean_loss(problem, judged(examples, **options))
    assert found is not None
    return found


def test_the_mean_over_all_examples_is_exact() -> None:
    examples = rows(512)
    problem = Problem(examples)
    found = measured(problem, examples, population=512)
    mean = float(problem.losses(examples).mean())
    assert (found.examples, found.mode) == (512, "eval")
    assert found.loss.value == pytest.approx(mean, rel=1e-5)
    assert found.loss.low == pytest.approx(mean, rel=1e-5) and found.loss.high == pytest.approx(
        mean, rel=1e-5
    )


@pytest.mark.parametrize("population", [None, 400])
def test_intervals_hold_the_mean_that_they_are_about(population: int | None) -> None:
    """Of 200 draws: from a distribution, or without replacement from 400 examples of which 300 are seen."""
    problem = Problem(rows(8))
    many = rows(300 * 200)
    of_all = problem.loss_of_all(rows(200_000, seed=9))
    held = []
    for seed in range(200):
        pool = rows(400, seed=seed + 50)
        drawn = (
            TensorDataset(*pool[np.random.default_rng(seed).permutation(400)[:300]])
            if population
            else TensorDataset(*many[300 * seed : 300 * (seed + 1)])
        )
        truth = problem.loss_of_all(pool) if population else of_all
        found = measured(problem, drawn, population=population).loss
        assert found.low is not None and found.high is not None
        held.append(found.low <= truth <= found.high)
    assert 0.90 <= np.mean(held) <= 0.99


def test_the_same_seed_judges_the_same_examples() -> None:
    examples, problem = rows(4000), Problem(rows(8))
    first, again, other = (measured(problem, examples, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.loss.value != other.loss.value
    assert first.examples == EXAMPLES


def test_the_users_model_is_as_before() -> None:
    examples = rows(64)
    problem = Problem(examples)
    problem.model.train()
    problem.model[2].eval()
    before = {name: value.clone() for name, value in problem.model.state_dict().items()}
    state = torch.get_rng_state()
    measured(problem, examples)
    assert all(torch.equal(value, before[name]) for name, value in problem.model.state_dict().items())
    assert [module.training for module in problem.model] == [True, True, False, True]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in problem.model.parameters())


def test_a_sum_is_divided_and_a_token_mean_weighted() -> None:
    examples = rows(640)
    plain = Problem(examples)
    summed = Problem(examples, lambda model, batch: mean_squared_error(model, batch) * len(batch[0]))
    assert measured(summed, examples, reduction="sum").loss.value == pytest.approx(
        measured(plain, examples).loss.value, rel=1e-5
    )

    def over_positive(model: nn.Module, batch: Any) -> Tensor:
        return mean_squared_error(model, [part[batch[1] > 0] for part in batch])

    tokens = Problem(examples, over_positive)
    positive = TensorDataset(*(part[examples.tensors[1] > 0] for part in examples.tensors))
    found = measured(tokens, examples, reduction="token_mean").loss.value
    assert found == pytest.approx(float(plain.losses(positive).mean()), rel=1e-4)


def test_a_model_without_a_loss_in_evaluation_mode_is_judged_in_training_mode() -> None:
    def strict(model: nn.Module, batch: Any) -> Tensor:
        if not model.training:
            raise TargetError("no loss in evaluation mode", "")
        return mean_squared_error(model, batch)

    examples = rows(64)
    problem = Problem(examples, strict)
    assert measured(problem, examples).mode == "train"
    problem.function = lambda model, batch: strict(model.eval(), batch)
    with pytest.raises(TargetError, match="no loss in evaluation mode"):
        measured(problem, examples)


def test_a_loss_that_is_not_finite_is_told() -> None:
    examples = rows(64)
    examples.tensors[1][40] = torch.nan
    with pytest.raises(DataError, match="the loss is nan on micro-batch"):
        measured(Problem(examples), examples)


@pytest.mark.parametrize(("count", "chunks"), [(1, 1), (3, 3), (100, 33), (10_000, 64)])
def test_few_examples_are_cut_into_small_chunks(count: int, chunks: int) -> None:
    problem = Problem(rows(8))
    found = measured(problem, rows(count))
    assert found.chunks == chunks
    assert (found.loss.low is None) == (chunks == 1)


def test_coupled_examples_keep_their_micro_batch_and_nothing_is_none() -> None:
    problem = Problem(rows(8))
    assert measured(problem, rows(100), couples=True).examples == 96
    assert mean_loss(problem, judged(rows(10), couples=True)) is None
    assert mean_loss(problem, judged(rows(10), micro_batch=4, should_stop=lambda: True)) is None
    assert replace(measured(problem, rows(40)), mode="train").mode == "train"


# --- the growth of the loss with the weights ----------------------------------------------------


def grown(
    problem: Problem, examples: Any, *, mode: Mode = "eval", seed: int = 0, population: int | None = None
) -> LossGrowth:
    found = loss_growth(problem, judged(examples, seed=seed, population=population), mode=mode)
    assert found is not None
    return found


def euler(problem: Problem, examples: TensorDataset) -> float:
    """theta' dL/dtheta over all examples, in evaluation mode."""
    problem.model.eval()
    loss = problem.function(problem.model, examples.tensors)
    gradients = torch.autograd.grad(loss, list(problem.parameters.values()))
    problem.model.train()
    return sum(
        float((g * p).sum().detach()) for g, p in zip(gradients, problem.parameters.values(), strict=True)
    )


def test_the_growth_of_the_loss_is_the_derivative_along_the_weights() -> None:
    examples = rows(512)
    problem = Problem(examples)
    found = grown(problem, examples, population=512)
    assert found.slope.value == pytest.approx(euler(problem, examples), rel=1e-3)
    assert found.slope.low == pytest.approx(found.slope.value, rel=1e-6)


def test_its_interval_holds_the_derivative_over_everything() -> None:
    problem, many = Problem(rows(8)), rows(300 * 200)
    truth = euler(problem, rows(200_000, seed=9))
    held = []
    for seed in range(200):
        found = grown(problem, TensorDataset(*many[300 * seed : 300 * (seed + 1)])).slope
        assert found.low is not None and found.high is not None
        held.append(found.low <= truth <= found.high)
    assert 0.90 <= np.mean(held) <= 0.99


def test_the_gain_of_shrinking_is_what_the_loss_falls_by() -> None:
    examples = rows(512)
    problem = Problem(examples)
    before = problem.loss_of_all(examples)
    gain = gain_of_shrinking(problem, judged(examples), 0.8)
    with torch.no_grad():
        for parameter in problem.parameters.values():
            parameter.mul_(0.8)
    assert gain is not None and gain.low is not None and gain.high is not None
    assert gain.value == pytest.approx(before - problem.loss_of_all(examples), rel=1e-4)
    assert gain.low < (gain.value or 0) < gain.high


def test_the_weights_come_back_bit_for_bit() -> None:
    examples = rows(64)
    problem = Problem(examples)
    before = {name: value.clone() for name, value in problem.model.state_dict().items()}
    state = torch.get_rng_state()
    grown(problem, examples, mode="train")
    assert all(torch.equal(value, before[name]) for name, value in problem.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert problem.model.training


def test_in_training_mode_both_ends_see_the_same_masks() -> None:
    """Else the difference of two masks would be taken for a growth a hundred times its size."""
    examples = rows(256)
    problem = Problem(examples)
    found = grown(problem, examples, mode="train").slope
    assert found.low is not None and found.high is not None
    assert found.high - found.low < 2


def test_a_growth_that_was_stopped_or_is_not_finite_is_none() -> None:
    examples = rows(64)
    problem = Problem(examples, lambda model, batch: mean_squared_error(model, batch) / 0)
    assert loss_growth(problem, judged(examples, micro_batch=4)) is None
    problem = Problem(examples)
    assert loss_growth(problem, judged(examples, micro_batch=4, should_stop=lambda: True)) is None


@pytest.mark.parametrize(("first", "second"), [(40, 400), (60, 60)])
def test_the_difference_of_two_means_has_an_interval_that_holds_it(first: int, second: int) -> None:
    """Two samples of unlike sizes; their population's losses differ by nothing."""
    problem, many = Problem(rows(8)), rows((first + second) * 200)
    held = []
    for seed in range(200):
        start = (first + second) * seed
        one, two = (
            TensorDataset(*many[at : at + count]) for at, count in ((start, first), (start + first, second))
        )
        gap = difference(measured(problem, one), measured(problem, two), 0.95)
        assert gap.low is not None and gap.high is not None
        held.append(gap.low <= 0 <= gap.high)
    assert 0.90 <= np.mean(held) <= 0.99
