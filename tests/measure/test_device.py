"""On an accelerator: the same answers, and no waiting for it in between."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bsadvisor.measure.accumulator import GradientAccumulator
from bsadvisor.measure.gradients import gradients_of
from bsadvisor.measure.selftest import run_selftest

pytestmark = [
    pytest.mark.device,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


def test_the_known_answers_come_out_on_the_device() -> None:
    results = run_selftest(torch.device("cuda"), 0, lambda name: None)
    assert [result for result in results if not result.passed] == []


def test_no_micro_batch_waits_for_the_device() -> None:
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)).cuda()
    parameters = dict(model.named_parameters())
    accumulator = GradientAccumulator(parameters, preconditioner=parameters)
    inputs = torch.randn(32, 256, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(100):
            accumulator.add(gradients_of(model(inputs).square().mean(), parameters), 32.0, 32)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert accumulator.num_micro_batches == 100


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_are_summed_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(300, 300, device="cuda", dtype=dtype))
    accumulator = GradientAccumulator({"weight": weight})
    for _ in range(16):
        gradient = torch.full_like(weight, 1e-3)
        accumulator.add({"weight": gradient}, 1.0, 1)
    total = accumulator.total_gradient()["weight"]
    assert total.dtype == torch.float32
    assert float(total.mean()) == pytest.approx(16e-3, rel=5e-3)
