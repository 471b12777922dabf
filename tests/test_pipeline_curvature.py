"""Whole probes of small files: what the curvature phase adds to a report, and what it must not break."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bsadvisor import pipeline
from bsadvisor.settings import ProbeSettings, TargetRequest
from bsadvisor.values import Progress, Report

SADDLE = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(4096, 8)
y = torch.tanh(x @ torch.randn(8, 3)) @ torch.randn(3, 2)
data = torch.utils.data.TensorDataset(x, y)
BATCH_SIZE, LEARNING_RATE = 32, 0.02
model = nn.Sequential(nn.Linear(8, 12, bias=False), nn.Tanh(), nn.Linear(12, 2, bias=False))
with torch.no_grad():
    for parameter in model.parameters():
        parameter.mul_(0.02)
"""

PARITY = """
import torch
from torch import nn
torch.manual_seed(12)
x = torch.randint(2, (2048, 8)).float() * 2 - 1
y = x[:, :2].prod(1, keepdim=True)
data = torch.utils.data.TensorDataset(x, y)
BATCH_SIZE, LEARNING_RATE = 32, 0.1
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
with torch.no_grad():
    for parameter in model.parameters():
        parameter.mul_(0.3 if parameter.dim() > 1 else 0.0)
"""

ORDINARY = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(2048, 6)
y = (x[:, 0] + torch.randn(2048) > 0).long()
data = torch.utils.data.TensorDataset(x, y)
BATCH_SIZE, LEARNING_RATE = 32, 0.1
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
"""


def probe(folder: Path, code: str, *, stop_in: str | None = None, **settings: Any) -> Report:
    file, stop = folder / "model.py", pipeline.StopSignal()
    file.write_text(code, encoding="utf-8")

    def progress(step: Progress) -> None:
        if step.phase == stop_in:
            stop.request("interrupt")

    sidecar = settings.pop("sidecar", None)
    return pipeline.probe(
        TargetRequest(target=str(file)),
        ProbeSettings(**settings),
        progress=progress,
        notify=print,
        stop=stop,
        sidecar=sidecar,
    )


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


def test_weights_near_zero_are_a_saddle_that_every_pair_takes_steps_to_leave(tmp_path: Path) -> None:
    report = probe(tmp_path, SADDLE)
    assert report.saddle is not None and report.saddle.verdict in ("possible", "warning")
    assert codes(report) & {"BSA401", "BSA402"}
    assert report.saddle.curvature is not None and report.saddle.curvature.high is not None
    assert report.saddle.curvature.high < 0
    assert report.saddle.escape_steps is not None and report.saddle.escape_steps > 50
    run = report.saddle.evidence and report.saddle.evidence.short_run
    assert run and run.loss_drop.value is not None and run.kicked_loss_drop.value is not None
    assert run.loss_drop.value < run.kicked_loss_drop.value
    assert all(row.escape_steps is not None for row in report.recommendations)


def test_where_some_of_the_examples_show_no_way_out_all_of_them_do_in_a_hurried_run(
    tmp_path: Path,
) -> None:
    report = probe(tmp_path, PARITY, seed=2)
    assert report.saddle is not None and report.saddle.verdict in ("possible", "warning")
    found = report.saddle.evidence
    assert found is not None and found.examples > 2000 and found.curvature.low == found.curvature.high
    assert found.short_run is not None and found.short_run.steps == 100
    assert found.short_run.lasting_gain.value is not None and found.short_run.lasting_gain.value < 0.05
    hurried = found.hurried_run
    assert hurried is not None and hurried.kicked_loss_drop.value is not None
    assert hurried.kicked_loss_drop.value > 0.1


def test_an_ordinary_net_is_none(tmp_path: Path) -> None:
    report = probe(tmp_path, ORDINARY)
    assert report.saddle is not None and report.saddle.verdict in ("none", "note")
    assert report.curvature is not None and report.curvature.skipped == ()
    assert report.curvature.learning_rate_limit is not None
    assert report.curvature.learning_rate_limit.value is not None
    assert all(row.escape_steps is None for row in report.recommendations)
    assert all(row.learning_rate_limit is not None for row in report.recommendations)


def test_the_same_seed_gives_the_same_curvature(tmp_path: Path) -> None:
    first, again = (probe(tmp_path, SADDLE) for _ in range(2))
    assert replace(first, probe=again.probe) == again


def test_without_curvature_nothing_is_said_of_it(tmp_path: Path) -> None:
    report = probe(tmp_path, ORDINARY, curvature=False)
    assert (report.curvature, report.saddle, report.gradient.noise_scale) == (None, None, None)
    assert report.probe.seconds_per_phase.curvature is None
    assert all(row.learning_rate_limit is None for row in report.recommendations)


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        ("once = torch.autograd.function.once_differentiable", "BSA220"),
        ("once = lambda backward: backward", None),
    ],
)
def test_a_backward_that_cannot_be_differentiated_is_told(
    tmp_path: Path, layer: str, code: str | None
) -> None:
    custom = f"""
{layer}
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    @once
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g
class Layer(nn.Module):
    def forward(self, x):
        return Square.apply(x)
model = nn.Sequential(nn.Linear(6, 8), Layer(), nn.Linear(8, 2))
"""
    report = probe(tmp_path, ORDINARY + custom)
    assert report.curvature is not None
    assert report.curvature.method == ("exact" if code is None else "finite_differences")
    assert code is None or code in codes(report)
    assert code is not None or "BSA220" not in codes(report)


def test_a_model_that_insists_on_16_bits_is_told_to_have_no_curvature(tmp_path: Path) -> None:
    insists = """
class Narrow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)
    def forward(self, x):
        return self.layer(x.bfloat16())
model = Narrow().bfloat16()
def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]).float(), batch[1])
"""
    report = probe(tmp_path, ORDINARY + insists)
    assert "BSA219" in codes(report) and report.curvature is None and report.saddle is None
    assert report.gradient.noise_scale_simple.value is not None


def test_an_interrupt_during_the_curvature_leaves_what_came_before_it(tmp_path: Path) -> None:
    sidecar = tmp_path / "state.safetensors"
    report = probe(tmp_path, ORDINARY, stop_in="curvature", sidecar=sidecar)
    assert report.probe.stopped_by == "interrupt" and sidecar.exists()
    assert report.local is not None and report.gradient.noise_scale_simple.value is not None
    assert report.curvature is not None and report.curvature.lambda_max is None
    assert {part.part for part in report.curvature.skipped}


def test_a_spent_budget_lists_what_it_left_out(tmp_path: Path) -> None:
    report = probe(tmp_path, ORDINARY, time_budget=1e-3)
    assert report.curvature is None or report.curvature.skipped
