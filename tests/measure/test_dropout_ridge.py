"""Dropout before a linear layer is a ridge: against expectations, masks by brute force, and dense eigenvalues."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bsadvisor.measure.dropout_ridge import dropout_ridges
from bsadvisor.theory.mask_noise import ridge_strength
from bsadvisor.values import DropoutRidge

KEEP, FEATURES = 0.7, 6


@dataclass
class Regression:
    """Half the squared error of a linear model behind dropout."""

    model: nn.Module
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def loss(self, batch: Any, *, full_precision: bool = False) -> Tensor:
        inputs, targets = batch
        loss: Tensor = (self.model(inputs).squeeze(-1) - targets).square().mean() / 2
        return loss


def linear(bias: bool = False, keep: float = KEEP) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Dropout(1 - keep), nn.Linear(FEATURES, 1, bias=bias))


def rows(count: int = 2048) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, FEATURES, generator=generator) * torch.linspace(0.5, 2.0, FEATURES) + 0.3
    return inputs, inputs.sum(1) + torch.randn(count, generator=generator)


def ridges(model: nn.Module, micro_batch: int = 128) -> tuple[DropoutRidge, ...]:
    inputs, targets = rows()
    batches = zip(inputs.split(micro_batch), targets.split(micro_batch), strict=True)
    return dropout_ridges(
        Regression(model),  # type: ignore[arg-type]
        batches,
        confidence=0.95,
        seed=0,
        should_stop=lambda: False,
    )


def test_the_penalty_of_dropout_in_a_linear_model_is_the_ridge() -> None:
    """To one per cent, over 4,000 masks per example."""
    (inputs, targets), model = rows(512), linear()
    weight = next(model.parameters()).detach().squeeze(0)
    problem = Regression(model)
    with torch.no_grad():
        torch.manual_seed(2)
        dropped = torch.stack([problem.loss((inputs, targets)) for _ in range(4000)]).mean()
        plain = Regression(model[1]).loss((inputs, targets))
    strengths = [ridge_strength(KEEP, float(square)) for square in inputs.square().mean(0)]
    penalty = sum(s * float(w) ** 2 / 2 for s, w in zip(strengths, weight, strict=True))
    assert float(dropped - plain) == pytest.approx(penalty, rel=0.01)


def test_the_strength_is_measured_from_the_inputs_of_the_layer() -> None:
    (ridge,) = ridges(linear())
    truth = ridge_strength(KEEP, float(rows()[0].square().mean()))
    assert (ridge.name, ridge.keep) == ("1", KEEP)
    assert ridge.strength.value == pytest.approx(truth, rel=1e-5)
    assert ridge.strength.low is not None and ridge.strength.high is not None
    assert ridge.strength.low < truth < ridge.strength.high


@pytest.mark.parametrize("bias", [False, True])
def test_the_stable_learning_rate_falls_as_dense_eigenvalues_say(bias: bool) -> None:
    """Of half the squared error's Hessian, the mean over masks."""
    (ridge,) = ridges(linear(bias))
    inputs = rows()[0].double()
    if bias:
        inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    moments = inputs.T @ inputs / len(inputs)
    spread = torch.full((len(moments),), (1 - KEEP) / KEEP).double()
    if bias:
        spread[-1] = 0
    dropped = moments + torch.diag(spread * moments.diagonal())
    truth = float(torch.linalg.eigvalsh(moments)[-1] / torch.linalg.eigvalsh(dropped)[-1])
    found = ridge.learning_rate_factor
    assert found.value == pytest.approx(truth, rel=0.01)
    assert found.low is not None and found.high is not None and found.low < truth < found.high <= 1


def test_the_limit_of_gradient_descent_under_dropout_falls_by_the_factor() -> None:
    """On the mean over masks of the loss: just below the lowered limit steps shrink, just above they grow."""
    (ridge,) = ridges(linear())
    inputs = rows()[0].double()
    moments = inputs.T @ inputs / len(inputs)
    dropped = moments + (1 - KEEP) / KEEP * torch.diag(moments.diagonal())
    assert ridge.learning_rate_factor.value is not None
    limit = 2 / float(torch.linalg.eigvalsh(moments)[-1]) * ridge.learning_rate_factor.value
    for factor, grows in ((0.97, False), (1.03, True)):
        step = torch.eye(FEATURES).double() - factor * limit * dropped
        assert bool(torch.linalg.eigvalsh(step).abs().max() > 1) is grows


def test_without_dropout_there_is_no_ridge() -> None:
    assert ridges(linear(keep=1.0)) == ()


def test_inputs_that_are_zero_make_no_ridge_and_no_factor() -> None:
    class Nothing(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return values * 0

    (ridge,) = ridges(nn.Sequential(Nothing(), *linear()))
    assert ridge.strength.value == 0 and ridge.learning_rate_factor.value is None
