"""Truth and judge on problems with known answers; the long study's figures are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from tests.benchmarks.local import lines, methods
from tests.benchmarks.local.full_data import Curvature, full_data
from tests.benchmarks.local.judge import Answer, constant, score
from tests.benchmarks.local.probes import Checkpoint
from tests.benchmarks.local.truth import Effort, Row, measure, read
from tests.benchmarks.tasks import Task, checkpoints

SIZES = (4, 64)


@dataclass(kw_only=True)
class Regression(Task):
    """Half the squared error of a linear model: exactly quadratic."""

    def loss(self, batch: Sequence[Tensor], *, full_precision: bool = False) -> Tensor:
        inputs, targets = batch
        error: Tensor = self.model(inputs).squeeze(1) - targets
        return error.square().mean() / 2


def regression(preconditioned: bool) -> Regression:
    torch.manual_seed(0)
    inputs, model = torch.randn(60, 5), nn.Linear(5, 1, bias=False)
    targets = inputs @ torch.tensor([2.0, -1.0, 0.5, 1.0, 0.0]) + torch.randn(60)
    task = Regression(name="regression", model=model, inputs=inputs, targets=targets)
    if preconditioned:
        task.preconditioner = {"weight": torch.tensor([[1.0, 2.0, 0.5, 3.0, 1.0]])}
    return task


def by_hand(task: Task) -> tuple[float, float, float]:
    """G'DG, G'DHDG and tr(DHD Sigma) from the matrices themselves."""
    inputs, targets = task.inputs.double(), task.targets.double()
    weight = next(task.model.parameters()).detach().double().flatten()
    scale = torch.ones(5) if task.preconditioner is None else task.preconditioner["weight"].flatten()
    grads = inputs * (inputs @ weight - targets).unsqueeze(1)
    hessian, updates = inputs.T @ inputs / len(inputs), scale.double() * grads
    mean, noise = updates.mean(0), updates - updates.mean(0)
    of_noise = torch.trace(hessian @ noise.T @ noise / len(inputs))
    return float(grads.mean(0) @ mean), float(mean @ hessian @ mean), float(of_noise)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_curvatures_are_those_of_the_matrices(preconditioned: bool) -> None:
    task = regression(preconditioned)
    found = full_data(task).curvature(draws=0)
    assert (found.slope, found.along_gradient, found.of_noise) == pytest.approx(by_hand(task), rel=1e-5)


def test_random_signs_estimate_the_noises_curvature_within_their_error() -> None:
    task = regression(False)
    found = full_data(task).curvature(draws=200)
    assert abs(found.of_noise - by_hand(task)[2]) < 4 * found.of_noise_error
    assert found.of_noise_error < 0.2 * found.of_noise


@pytest.mark.parametrize("preconditioned", [False, True])
def test_brute_force_finds_the_known_best_steps_of_a_quadratic(preconditioned: bool) -> None:
    task = regression(preconditioned)
    row = measure(task, Effort(), SIZES)
    expected = methods.quadratic(Checkpoint(task=task, row=row), SIZES, 0)
    found = {point.batch_size: (point.learning_rate, point.loss_decrease) for point in row.points}
    assert found[4] == pytest.approx(expected[4], rel=1e-3)
    assert found[64] == pytest.approx(expected[64], rel=1e-3)


def test_the_stated_error_of_the_truth_is_that_of_repeats() -> None:
    """Without the exact curvature as a control, another draw of it moves the truth by as much as is stated."""
    task, exact = regression(False), methods.quadratic
    row = measure(task, Effort(draws=60), SIZES)
    truth = exact(Checkpoint(task=task, row=measure(task, Effort(), SIZES)), SIZES, 0)
    for point in row.points:
        assert point.learning_rate_error > 0.001
        assert abs(point.learning_rate / truth[point.batch_size][0] - 1) < 4 * point.learning_rate_error


def test_the_line_along_measured_updates_comes_near_the_stored_truth_of_a_real_task() -> None:
    task = next(checkpoints())
    row = next(row for row in read() if row.task == task.name)
    sizes = [point.batch_size for point in row.points]
    curve = lines.own(Checkpoint(task=task, row=row), sizes, 0)
    for point in row.points:
        assert 1 / 1.5 < curve[point.batch_size][0] / point.learning_rate < 1.5
        assert 1 / 1.5 < curve[point.batch_size][1] / point.loss_decrease < 1.5


def test_a_tilted_line_begins_with_the_slope_of_all_data() -> None:
    task = next(checkpoints())
    checkpoint = Checkpoint(task=task, row=next(row for row in read() if row.task == task.name))
    held, measured = lines.halves(task, checkpoint.probe(0))
    line = lines.tilted_line(checkpoint, 0, held, measured)
    assert line.decreases[0] / line.rates[0] == pytest.approx(checkpoint.row.curvature.slope, rel=0.05)


def test_a_guess_is_the_geometric_mean_of_the_other_truths() -> None:
    row = read()[0]
    doubled = tuple(
        replace(point, learning_rate=4 * point.learning_rate, loss_decrease=16 * point.loss_decrease)
        for point in row.points
    )
    guess = constant([row, replace(row, points=doubled)])
    first = row.points[0]
    assert guess[first.batch_size] == pytest.approx((2 * first.learning_rate, 4 * first.loss_decrease))


def test_a_score_counts_factors_in_both_directions_and_what_is_not_answered() -> None:
    def answer(rate: float | None, drop: float | None) -> Answer:
        return Answer(
            task="t",
            method="m",
            seed=0,
            batch_size=4,
            learning_rate=rate,
            loss_decrease=drop,
            true_learning_rate=1.0,
            true_loss_decrease=1.0,
        )

    found = score([answer(2.0, 1.2), answer(0.5, 4.0), answer(None, None)])
    assert found.learning_rate_factor == pytest.approx(2.0)
    assert found.learning_rate_within == 0
    assert found.loss_decrease_within == 0.5
    assert found.answered == pytest.approx(2 / 3)


def test_no_answer_is_given_where_the_quadratic_model_has_no_best_step() -> None:
    saddle = Curvature(slope=1.0, along_gradient=-1.0, of_noise=0.5, of_noise_error=0.0)
    row = Row(task="t", examples=60, loss=1.0, curvature=saddle, line=(), points=())
    assert methods.quadratic(Checkpoint(task=regression(False), row=row), SIZES, 0) == {}
