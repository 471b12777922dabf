"""Each assumption is seen where it holds and where it is broken."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn

from bsadvisor.errors import TargetError
from bsadvisor.measure.assumptions import check_assumptions
from bsadvisor.measure.sampler import Sampler
from bsadvisor.values import AssumptionFacts
from tests.measure.test_gradients import Net, table
from tests.worlds import quadratic


def check(problem: object) -> AssumptionFacts:
    return check_assumptions(problem, Sampler(problem.data, seed=0, min_gradient=16), seed=0)  # type: ignore[arg-type,attr-defined]


def mlp(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 32), *layers, nn.Linear(32, 3))


def sum_loss(model: nn.Module, batch: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(batch[:, :-1]), batch[:, -1].long(), reduction="sum")


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_mean_loss_is_a_mean_with_and_without_dropout(dropout: float) -> None:
    found = check(Net(mlp(nn.Dropout(dropout)), table()))
    assert (found.loss_reduction, found.coupling, found.repeatable) == ("mean", "none", True)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_summed_loss_is_a_sum_with_and_without_dropout(dropout: float) -> None:
    assert check(Net(mlp(nn.Dropout(dropout)), table(), sum_loss)).loss_reduction == "sum"


def test_a_summed_loss_that_can_be_negative_is_a_sum() -> None:
    assert check(quadratic(reduction="sum")).loss_reduction == "sum"
    assert check(quadratic()).loss_reduction == "mean"


class Masked(Net):
    """Every example is a sequence of six tokens, of which only the positive ones count."""

    def loss(self, batch: Tensor, *, full_precision: bool = False) -> Tensor:
        values, mask = batch[:, :-1], batch[:, :-1] > 0
        errors: Tensor = (self.model(values).mean(1, keepdim=True) - values) ** 2 * mask
        return errors.sum() / mask.sum()

    def weight(self, batch: Tensor) -> int | None:
        return int((batch[:, :-1] > 0).sum())


def test_a_mean_over_unmasked_tokens_is_recognised() -> None:
    assert check(Masked(mlp(), table())).loss_reduction == "token_mean"


class PerExample(Masked):
    """Masked too, but averaged within each example first."""

    def loss(self, batch: Tensor, *, full_precision: bool = False) -> Tensor:
        values, mask = batch[:, :-1], batch[:, :-1] > 0
        errors: Tensor = (self.model(values).mean(1, keepdim=True) - values) ** 2 * mask
        return (errors.sum(1) / mask.sum(1).clamp(min=1)).mean()


def test_a_mean_of_masked_means_is_not_weighted_by_tokens() -> None:
    assert check(PerExample(mlp(), table())).loss_reduction == "mean"


def test_batch_norm_couples() -> None:
    found = check(Net(mlp(nn.BatchNorm1d(32)), table()))
    assert found.coupling == "batch_norm" and found.coupling_size is not None and found.coupling_size > 1e-3


def contrastive(model: nn.Module, batch: Tensor) -> Tensor:
    outputs = nn.functional.normalize(model(batch[:, :-1]), dim=1)
    return nn.functional.cross_entropy(10 * outputs @ outputs.T, torch.arange(len(batch)))


def test_a_contrastive_loss_couples_and_layer_norm_does_not() -> None:
    found = check(Net(mlp(), table(), contrastive))
    assert (found.coupling, found.loss_reduction) == ("other", "mean")
    assert check(Net(mlp(nn.LayerNorm(32)), table())).coupling == "none"


def test_a_private_source_of_randomness_is_noticed() -> None:
    private = random.Random(0)

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return sum_loss(model, batch) * (1 + 0.1 * private.random())

    assert not check(Net(mlp(), table(), loss)).repeatable


def test_a_loss_without_gradient_is_refused() -> None:
    with pytest.raises(TargetError, match="no gradient"):
        check(Net(mlp(), table(), lambda model, batch: sum_loss(model, batch).detach()))


def test_a_loss_of_another_model_is_refused() -> None:
    other = mlp()
    with pytest.raises(TargetError, match="no trainable parameter"):
        check(Net(mlp(), table(), lambda model, batch: sum_loss(other, batch)))


class Unmasked(Masked):
    """Every token counts, so that all examples weigh the same."""

    def weight(self, batch: Tensor) -> int | None:
        return 6 * len(batch)


def test_tokens_that_all_count_need_no_weights() -> None:
    assert check(Unmasked(mlp(), table())).loss_reduction == "mean"
