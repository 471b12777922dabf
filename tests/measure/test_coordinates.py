"""Means of coordinates are those of the gradients, in whatever pieces these come."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bsadvisor.measure.accumulator import GradientAccumulator
from bsadvisor.measure.coordinates import MOST
from bsadvisor.measure.sketch import CHUNK
from bsadvisor.measure.statistics import gradient_stats
from tests.worlds import probe, quadratic


def filled(shapes: list[tuple[int, ...]], count: int = 20) -> tuple[GradientAccumulator, Tensor, Tensor]:
    """With its gradients (K, P) and their weights."""
    generator = torch.Generator().manual_seed(0)
    parameters = {str(number): torch.zeros(shape) for number, shape in enumerate(shapes)}
    accumulator = GradientAccumulator(parameters)
    weights = torch.randint(1, 9, (count,), generator=generator).double()
    rows = []
    for weight in weights:
        gradients = {name: torch.randn(part.shape, generator=generator) for name, part in parameters.items()}
        accumulator.add(gradients, float(weight), 4)
        rows.append(torch.cat([part.flatten() for part in gradients.values()]).double())
    return accumulator, torch.stack(rows), weights


def test_of_small_models_all_coordinates_are_known() -> None:
    accumulator, rows, weights = filled([(3, 4), (5,), ()])
    mean, mean_square = accumulator.coordinate_means()
    share = weights / weights.sum()
    assert np.allclose(mean, share @ rows) and np.allclose(mean_square, share @ rows.square())


def test_of_large_ones_some_of_every_tensor() -> None:
    accumulator, rows, weights = filled([(CHUNK + 7,), (CHUNK // 2, 3)], count=3)
    mean, mean_square = accumulator.coordinate_means()
    assert 0.99 * MOST < len(mean) <= MOST
    every = {round(float(value), 9) for value in (weights / weights.sum()) @ rows}
    assert all(round(float(value), 9) in every for value in mean[:: MOST // 50])
    assert float(mean_square.mean()) == pytest.approx(1.0, abs=0.05)


def test_they_go_on_from_a_saved_state() -> None:
    accumulator, _, _ = filled([(3, 4)])
    other = GradientAccumulator({"0": torch.zeros(3, 4)})
    other.load_state(accumulator.state())
    for found, wanted in zip(other.coordinate_means(), accumulator.coordinate_means(), strict=True):
        assert np.array_equal(found, wanted)


def test_a_probe_tells_noisy_coordinates_from_clear_ones() -> None:
    world = quadratic(dimensions=100)
    clear = torch.arange(100) < 25
    world.position = torch.where(clear, 4 * world.deviations, 0.0) / world.hessian
    measured = probe(world, examples=512, micro_batch=16)
    stats = gradient_stats(measured, confidence=0.95, precision=0.5, batch_size=4, learning_rate=0.1)
    found = stats.signal_to_noise
    assert found is not None and (found.batch_size, found.coordinates) == (4, 100)
    assert found.noise_dominated.value == pytest.approx(0.75, abs=0.03)
    assert found.signal_dominated.value == pytest.approx(0.25, abs=0.03)
    without = gradient_stats(measured, confidence=0.95, precision=0.5, batch_size=None, learning_rate=None)
    assert without.signal_to_noise is None
