"""The long studies still run, in a few seconds each; their figures are stored beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bsadvisor.settings import ProbeSettings
from tests.benchmarks import cost, coverage, geometry, mask_noise, memory
from tests.benchmarks.tasks import small_tasks


def test_a_few_probes_of_a_real_task_hold_the_truth() -> None:
    row = coverage.judge(next(small_tasks()), 6, ProbeSettings(time_budget=1e9))
    assert row.coverage >= 4 / 6
    assert 0.7 < row.median_over_truth < 1.4


def test_the_gradient_phase_costs_little_more_than_plain_passes() -> None:
    conv = cost.tasks(torch.device("cpu"))[2]
    assert cost.ratio(conv, 32, repeats=3) < 2


@pytest.mark.parametrize("name", list(geometry.WORLDS))
def test_intervals_in_another_geometry_hold_the_truth_of_a_closed_form_world(name: str) -> None:
    row = geometry.judge(name, "world", 1.0, [geometry.probe_world(name, seed) for seed in range(20)])
    assert row.coverage >= 0.8
    assert 0.8 < row.median_over_truth < 1.25


def test_a_few_probes_of_a_network_hold_the_truth_in_its_optimizers_geometry() -> None:
    case = geometry.mlp("AdamW")
    row = geometry.judge("MLP", case.source, case.truth(), [case.probe(seed) for seed in range(6)])
    assert row.coverage >= 4 / 6
    assert 0.7 < row.median_over_truth < 1.4
    alone = geometry.per_example(case.task, slice(3, 4))
    loss = case.task.loss((case.task.inputs[3:4], case.task.targets[3:4]))
    for gradient, wanted in zip(
        alone.values(), torch.autograd.grad(loss, [*case.task.parameters.values()]), strict=True
    ):
        assert torch.allclose(gradient[0], wanted, atol=1e-6)


def test_stored_intervals_in_the_optimizers_geometry_hold_the_truth_often_enough() -> None:
    rows = geometry.stored_rows().values()
    assert {"transformer, AdamW, step 200", *geometry.WORLDS} <= {row["case"] for row in rows}
    assert all(row["probes"] >= 200 and row["coverage"] >= 0.93 for row in rows)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_a_probe_fits_where_training_fits(optimizer: str) -> None:
    """The bar itself: a training step plus two float32 copies of the parameters plus the sketch."""
    step = memory.measure("MLP", f"step, {optimizer}", "cpu")
    probe = memory.measure("MLP", f"probe, {optimizer}", "cpu")
    assert (probe["peak"] - step["peak"] - probe["sketch"]) / step["copy"] <= 2


def test_a_lean_curvature_phase_of_a_wide_model_needs_six_copies_of_its_parameters() -> None:
    """The bar itself, where parameters and not activations fill the memory, however small the micro-batch."""
    step, curvature = (
        memory.measure("MLP", f"{what}, SGD", "cpu", micro_batch=4) for what in ("step", "curvature")
    )
    assert (curvature["peak"] - step["peak"]) / step["copy"] <= 6


def test_a_few_splits_of_dropout_noise_hold_brute_force() -> None:
    net = next(mask_noise.nets(256))
    data, mask = mask_noise.true_traces(net, 40)
    for row in mask_noise.judge(net, 8, 6, {"data": data, "mask": mask, "floor": 0.0}):
        assert row.coverage >= 4 / 6
        assert row.mean_over_truth is None or 0.7 < row.mean_over_truth < 1.4


def test_dropout_in_a_linear_model_is_the_ridge_to_one_per_cent() -> None:
    found = mask_noise.ridge(1000)
    assert found["penalty_by_brute_force"] == pytest.approx(found["penalty_of_the_ridge"], rel=0.01)
    assert found["mean_strength_measured"] == pytest.approx(found["mean_strength"], rel=0.01)


@pytest.mark.parametrize("file", sorted(coverage.RESULTS.parent.glob("*.json")), ids=lambda file: file.name)
def test_stored_results_name_what_they_were_measured_with(file: Path) -> None:
    stored = json.loads(file.read_text(encoding="utf-8"))
    assert stored["torch"] and stored["rows"]
