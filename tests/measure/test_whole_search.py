"""The lowest curvature of the training loss itself, by products with all of its examples."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bsadvisor.measure import whole_search
from bsadvisor.measure.hessian import Hessian
from bsadvisor.measure.known_answers import Table
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.spectrum import find_spectrum
from bsadvisor.measure.whole_search import WayOut, can_search_whole, larger_batch, search_whole
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
        "time_left": lambda: 1e9,
        "stop": lambda: False,
    }
    sampler, hessian = Sampler(net.data, seed=0), Hessian(problem=net, seed=0)
    with unchanged(net.model):
        if not can_search_whole(hessian, sampler, given["micro_batch"]):
            return None
        return search_whole(hessian, sampler, **{**given, **options})


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


def test_a_stop_gives_nothing() -> None:
    assert search(Net(near_zero(), table(256)), stop=lambda: True) is None
    asked = iter([False] * 16 + [True] * 99)
    assert search(Net(near_zero(), table(256)), stop=lambda: next(asked)) is None
    assert search(Net(near_zero(), table(256)), time_left=lambda: 0.0) is None


@pytest.mark.parametrize(("seconds", "batches"), [(2000.0, 16), (300.0, 9), (150.0, 4)])
def test_where_time_is_short_the_direction_is_sought_on_fewer_examples_and_measured_on_all(
    monkeypatch: pytest.MonkeyPatch, seconds: float, batches: int
) -> None:
    """Every look at the clock takes a second: a product is made in one."""
    monkeypatch.setattr(whole_search, "LARGEST_BATCH", 16)
    sizes: list[int] = []

    def find(hessian: Hessian, sample: Any, **options: Any) -> Any:
        sizes.append(len(sample.direction))
        return find_spectrum(hessian, sample, **options)

    monkeypatch.setattr("bsadvisor.measure.whole_search.find_spectrum", find)
    ticks = count()
    found = search(Net(near_zero(), table(256)), time_left=lambda: seconds - next(ticks))
    assert sizes == [batches]
    assert found is not None and found.escape.examples == 256
    assert found.escape.curvature.low == found.escape.curvature.high


def test_a_small_graph_is_made_of_more_examples_and_a_large_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = Net(near_zero(), table(256))
    hessian = Hessian(problem=net, seed=0)
    batch = next(Sampler(net.data, seed=0).first(1, 16))
    assert larger_batch(hessian, batch, 16, 512) == 512
    assert larger_batch(hessian, batch, 16, 100) == 64
    # Each row keeps at least its 6 inputs and 5 hidden values in float64.
    monkeypatch.setattr(whole_search, "GRAPH_BYTES", 64 * 11 * 8)
    assert larger_batch(hessian, batch, 16, 512) <= 32  # the weights are kept as well
    monkeypatch.setattr(whole_search, "GRAPH_BYTES", 0)
    assert larger_batch(hessian, batch, 16, 512) == 16


def test_a_summed_loss_has_the_curvature_of_its_mean() -> None:
    def summed(model: Any, batch: Tensor) -> Tensor:
        return cross_entropy(model, batch) * len(batch)

    rows = table(512).double()
    mean = search(Net(near_zero(), rows))
    total = search_whole(
        Hessian(problem=Net(near_zero(), rows, summed), seed=0, divide_by=16),
        Sampler(Net(near_zero(), rows).data, seed=0),
        micro_batch=16,
        iterations=45,
        noise_trace=None,
        time_left=lambda: 1e9,
        stop=lambda: False,
    )
    assert mean is not None and total is not None
    assert total.escape.curvature.value == pytest.approx(mean.escape.curvature.value, rel=1e-3)
    assert total.escape.loss == pytest.approx(mean.escape.loss, rel=1e-6)


def test_what_follows_a_run_is_some_of_the_examples() -> None:
    found = search(Net(near_zero(), table(4096)))
    assert found is not None and found.escape.examples == 4096
    assert len(found.held) * found.held_examples == 2048
