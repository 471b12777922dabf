"""The lowest curvature of the training loss itself, by products with all of its examples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bsadvisor.measure import whole_search
from bsadvisor.measure.hessian import Hessian
from bsadvisor.measure.known_answers import Table
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.whole_search import WayOut, search_whole
from tests.measure.dense import dense_hessian
from tests.measure.test_curvature import unchanged
from tests.measure.test_gradients import Net, table
from tests.measure.test_hessian import cross_entropy


def near_zero(*, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Linear(6, 5, bias=False), nn.Tanh(), nn.Dropout(dropout), nn.Linear(5, 3, bias=False)
    model = nn.Sequential(*layers).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.02)
    return model


def search(net: Net, **options: Any) -> WayOut | None:
    given: dict[str, Any] = {
        "micro_batch": 16,
        "iterations": 45,
        "noise_trace": None,
        "enough": lambda: False,
        "should_stop": lambda: False,
    }
    sampler = Sampler(net.data, seed=0)
    with unchanged(net.model):
        return search_whole(Hessian(problem=net, seed=0), sampler, **{**given, **options})


def test_the_curvature_is_that_of_the_loss_over_all_examples_without_an_error() -> None:
    rows = table(256).double()
    net = Net(near_zero(), rows)
    found = search(net)
    matrix = dense_hessian(net.model, cross_entropy, rows)
    lowest = float(torch.linalg.eigvalsh(matrix)[0])
    assert found is not None and found.escape.examples == 256
    curvature = found.escape.curvature
    assert curvature.value == curvature.low == curvature.high == pytest.approx(lowest, rel=1e-3)
    along = found.displacement
    assert float(along @ matrix @ along) == pytest.approx(lowest * float(along @ along), rel=1e-3)
    assert found.escape.lowest_at is not None and (found.escape.loss_drop.value or 0.0) > 0


def test_where_the_loss_curves_up_there_is_no_way_out() -> None:
    net = Net(near_zero(), table(256), lambda model, batch: sum_of_squares(model))
    assert search(net) is None


def sum_of_squares(model: nn.Module) -> Tensor:
    return torch.stack([parameter.square().sum() for parameter in model.parameters()]).sum()


def test_nothing_is_exact_where_the_loss_of_an_example_is_random() -> None:
    assert search(Net(near_zero(dropout=0.5).train(), table(256))) is None
    assert search(Net(near_zero(dropout=0.5).eval(), table(256))) is not None


def test_neither_a_stream_nor_too_much_data_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(near_zero(), table(256))
    monkeypatch.setattr(whole_search, "MOST_EXAMPLES", 255)
    assert search(net) is None
    monkeypatch.setattr(whole_search, "MOST_EXAMPLES", 256)
    assert search(net) is not None
    net.data = Table(table(256), endless=True)
    assert search(net) is None


@pytest.mark.parametrize("answers", [[True], [False] * 16 + [True]])
def test_a_stop_gives_nothing(answers: list[bool]) -> None:
    asked = iter(answers)
    assert search(Net(near_zero(), table(256)), should_stop=lambda: next(asked)) is None
    assert next(asked, None) is None
