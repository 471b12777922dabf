"""Along the most negative direction: derivatives, certificate and the loss to be gained, in closed form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bsadvisor.measure.escape_direction import (
    AlongDirection,
    along_directions,
    escape_direction,
    one_sided,
)
from bsadvisor.measure.hessian import Hessian
from bsadvisor.values import EscapeDirection
from tests.measure.dense import dense_hessian
from tests.measure.test_gradients import Net, table
from tests.measure.test_hessian import bent, cross_entropy, vectors

UNITS, SIZE = 16, 8


def batches(rows: Tensor) -> list[Tensor]:
    return list(rows.split(SIZE)[:UNITS])


def along(hessian: Hessian, rows: Tensor, directions: list[Tensor]) -> tuple[list[AlongDirection], Any]:
    copies = [direction.clone() for direction in directions]
    found = along_directions(hessian, batches(rows), copies, examples=SIZE, first_number=3)
    assert found is not None
    return found


@pytest.mark.parametrize("scaled", [False, True])
def test_slopes_curvatures_and_traces_are_those_of_every_micro_batch(scaled: bool) -> None:
    model, rows = bent(), table(128).double()
    hessian = Hessian(problem=Net(model, rows), seed=0)
    scale = torch.linspace(0.5, 2, hessian.num_parameters, dtype=torch.float64) if scaled else None
    hessian = replace(hessian, scale=scale)
    factor = torch.ones(hessian.num_parameters) if scale is None else scale
    directions = [vector / vector.norm() for vector in vectors(hessian)]
    found, traces = along(hessian, rows, directions)
    for number, batch in enumerate(batches(rows)):
        matrix = factor[:, None] * dense_hessian(model, cross_entropy, batch) * factor
        gradient = hessian.gradient(batch, 0)
        for row, vector in zip(found, directions, strict=True):
            assert row.curvatures[number] == pytest.approx(float(vector @ matrix @ vector), rel=1e-6)
            assert row.slopes[number] == pytest.approx(float(gradient @ vector), rel=1e-6)
        # Random signs: the trace and twice the entries off the diagonal, each with a sign.
        off = matrix - matrix.diag().diag()
        assert abs(traces[number] - float(matrix.trace())) < 6 * float(off.square().sum() * 2) ** 0.5
    for row, vector in zip(found, directions, strict=True):
        assert row.squared_length == pytest.approx(float((factor * vector).square().sum()))
        assert row.examples == SIZE and row.negative == (row.curvatures.mean() < 0)


def test_a_diagonal_hessian_has_its_trace_exactly() -> None:
    net = saddle()
    _, traces = along(Hessian(problem=net, seed=0), noise(), [torch.tensor([1.0, 0.0, 0.0])])
    assert traces == pytest.approx([-0.4 + 1 + 2] * UNITS, rel=1e-5)


def test_a_stop_leaves_nothing_half_done_and_nan_is_told() -> None:
    hessian = Hessian(problem=saddle(), seed=0)
    answers = iter([False, True])
    direction = [torch.tensor([1.0, 0.0, 0.0])]
    assert (
        along_directions(
            hessian,
            batches(noise()),
            direction,
            examples=SIZE,
            first_number=0,
            should_stop=lambda: next(answers),
        )
        is None
    )
    bad = noise()
    bad[9, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="not finite"):
        along_directions(hessian, batches(bad), direction, examples=SIZE, first_number=0)


# --- the way out of a quartic saddle:  loss = floor - a x^2 / 2 + c x^4 / 4 + (1 y^2 + 2 z^2) / 2 + noise ---

A, C, FLOOR = 0.4, 0.1, 1.0


class Place(nn.Module):
    def __init__(self, at: float) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor([at, 0.0, 0.0]))


def noise(deviation: float = 0.01) -> Tensor:
    return deviation * torch.randn(UNITS * SIZE, 3, generator=torch.Generator().manual_seed(0))


def saddle(at: float = 0.0, floor: float = FLOOR, limit: float = float("inf")) -> Net:
    def loss(model: Any, batch: Tensor) -> Tensor:
        x, y, z = model.place
        value = floor - A * x**2 / 2 + C * x**4 / 4 + y**2 / 2 + z**2 + batch.mean(0) @ model.place
        return torch.where(x.abs() > limit, float("inf"), value)

    return Net(Place(at), noise(), loss)


def way_out(
    net: Net, scale: Tensor | None = None, noise_trace: float | None = None, stop_at: int | None = None
) -> EscapeDirection | None:
    hessian = Hessian(problem=net, seed=0, scale=scale)
    rows = noise()
    (found,), _ = along(hessian, rows, [torch.tensor([1.0, 0.0, 0.0])])
    asked = iter(range(1000))
    before = net.parameters["place"].detach().clone()
    result = escape_direction(
        hessian,
        batches(rows),
        found,
        noise_trace=noise_trace,
        first_number=3,
        should_stop=lambda: stop_at is not None and next(asked) >= stop_at,
    )
    assert torch.equal(net.parameters["place"], before)
    return result


def test_everything_along_the_way_out_is_that_of_the_quartic() -> None:
    found = way_out(saddle(), noise_trace=6.0)
    assert found is not None
    assert found.curvature.value == pytest.approx(-A, rel=1e-5)
    assert found.curvature.high is not None and found.curvature.high < 0
    slopes = np.array([float(batch[:, 0].mean()) for batch in batches(noise())])
    assert found.gradient.value == pytest.approx(slopes.mean(), rel=1e-4)
    assert found.noise == pytest.approx(slopes.var(ddof=1) * SIZE, rel=1e-4)
    assert found.isotropic_noise == 2.0
    assert found.loss == pytest.approx(FLOOR, abs=1e-6)
    assert found.examples == UNITS * SIZE
    # The deepest point is at x^2 = a/c with a^2 / 4c = 0.4 gained; steps double, so a share of it is found.
    assert found.loss_drop.value is not None and found.loss_drop.low is not None
    assert 0.25 < found.loss_drop.value <= 0.41
    assert found.loss_drop.low <= found.loss_drop.value
    # A twentieth of the loss is gone at x with a x^2/2 - c x^4/4 = 0.05.
    assert found.escaped_drop == pytest.approx(0.05)
    assert found.distance == pytest.approx((4 - (16 - 2) ** 0.5) ** 0.5, rel=0.05)


def test_a_step_is_measured_in_the_optimizers_geometry() -> None:
    plain = way_out(saddle())
    found = way_out(saddle(), scale=torch.tensor([3.0, 1.0, 1.0]))
    assert plain is not None and found is not None
    assert found.curvature.value == pytest.approx(-9 * A, rel=1e-5)
    assert found.parameter_curvature.value == pytest.approx(-A, rel=1e-5)
    assert found.gradient.value == pytest.approx(3 * (plain.gradient.value or 0), rel=1e-4)
    assert found.noise == pytest.approx(9 * plain.noise, rel=1e-4) == found.isotropic_noise
    assert plain.distance is not None and found.distance == pytest.approx(plain.distance / 3, rel=1e-3)
    assert found.loss_drop.value == pytest.approx(plain.loss_drop.value, rel=1e-3)


def test_overflow_on_the_way_is_no_way_out() -> None:
    found = way_out(saddle(limit=0.5))
    assert found is not None and found.loss_drop.value is not None
    assert 0 < found.loss_drop.value < 0.05
    assert found.distance is not None and 0 < found.distance < 0.5
    nowhere = way_out(saddle(limit=1e-4))
    assert nowhere is not None and nowhere.distance is None and nowhere.escaped_drop is None
    assert nowhere.loss_drop.value is None


@pytest.mark.parametrize("floor", [0.0, -2.0])
def test_losses_that_are_zero_or_negative_have_a_way_out(floor: float) -> None:
    found = way_out(saddle(floor=floor))
    assert found is not None and found.loss == pytest.approx(floor, abs=1e-6)
    assert found.distance is not None and found.escaped_drop is not None
    assert 0.1 < found.distance < 2 and 0 < found.escaped_drop < 0.25
    assert found.loss_drop.value is not None and found.loss_drop.value > 0.2


@pytest.mark.parametrize("stop_at", [0, 7, 19])
def test_a_stop_in_the_middle_puts_the_weights_back(stop_at: int) -> None:
    assert way_out(saddle(), stop_at=stop_at) is None
    assert way_out(saddle(), stop_at=1000) is not None


def test_the_drop_is_measured_on_micro_batches_that_did_not_choose_the_step() -> None:
    """Without any curvature, what is gained along a random direction is noise: no drop on average."""
    net = Net(Place(0.0), noise(), lambda model, batch: batch.mean(0) @ next(model.parameters()) + 1)
    drops = []
    for seed in range(60):
        rows = torch.randn(UNITS * SIZE, 3, generator=torch.Generator().manual_seed(seed))
        hessian = Hessian(problem=net, seed=0)
        (found,), _ = along(hessian, rows, [torch.tensor([1.0, 0.0, 0.0])])
        result = escape_direction(
            hessian, batches(rows), found, noise_trace=None, first_number=0, should_stop=lambda: False
        )
        assert result is not None and result.loss_drop.low is not None
        drops.append(result.loss_drop.low)
    assert np.mean(np.array(drops) > 0) <= 0.05


def test_each_end_of_a_one_sided_interval_holds_by_itself() -> None:
    generator = np.random.default_rng(0)
    ends = [one_sided(generator.normal(size=8), 0.9) for _ in range(2000)]
    assert np.mean([(end.low or 0) > 0 for end in ends]) == pytest.approx(0.1, abs=0.02)
    assert np.mean([(end.high or 0) < 0 for end in ends]) == pytest.approx(0.1, abs=0.02)
