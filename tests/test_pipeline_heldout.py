"""Whole probes with held-out examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bsadvisor import pipeline
from bsadvisor.errors import TargetError
from bsadvisor.settings import ProbeSettings, TargetRequest
from bsadvisor.values import Report

DATA = """
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
torch.manual_seed(0)
x = torch.randn(1500, 6)
y = (x[:, 0] + torch.randn(1500) > 0).long()
BATCH_SIZE, LEARNING_RATE = 32, 0.1
model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
every = TensorDataset(x, y)
data = TensorDataset(x[:1000], y[:1000])
"""

SEPARATE = "heldout = TensorDataset(x[1000:], y[1000:])\n"


def probe(folder: Path, more: str, **settings: Any) -> Report:
    file = folder / "model.py"
    file.write_text(DATA + more, encoding="utf-8")
    return pipeline.probe(
        TargetRequest(target=str(file)),
        ProbeSettings(max_examples=512, curvature=False, **settings),
        progress=lambda step: None,
        notify=print,
        stop=pipeline.StopSignal(),
    )


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings if finding.code.startswith("BSA6")}


def test_held_out_examples_add_the_section(tmp_path: Path) -> None:
    report = probe(tmp_path, SEPARATE)
    found = report.generalization
    assert found is not None and found.verdict == "fitting" and found.mode == "eval"
    assert (found.train_examples, found.heldout_examples) == (27 * 32, 33 * 15)
    for estimate in (found.gap, found.alignment, found.self_share, found.train_growth, found.heldout_growth):
        assert estimate is not None and estimate.value is not None
    assert report.probe.seconds_per_phase.heldout is not None
    assert codes(report) == set()


def test_without_held_out_examples_there_is_no_section_and_no_cost(tmp_path: Path) -> None:
    report = probe(tmp_path, "")
    assert report.generalization is None
    assert report.probe.seconds_per_phase.heldout is None


def test_the_other_numbers_are_the_same_with_and_without(tmp_path: Path) -> None:
    without, with_them = probe(tmp_path, ""), probe(tmp_path, SEPARATE)
    assert without.gradient == with_them.gradient
    assert without.local == with_them.local
    assert without.recommendations == with_them.recommendations


@pytest.mark.parametrize(
    "same",
    [
        "heldout = data",
        "heldout = DataLoader(data, batch_size=7)",
        "heldout = TensorDataset(x[:1000].clone(), y[:1000].clone())",
        "data, heldout = (lambda: TensorDataset(x, y)), (lambda: TensorDataset(x, y))",
        "data = heldout = iter([(x[at:at + 50], y[at:at + 50]) for at in range(0, 1500, 50)])",
        "data = every\nheldout = Subset(every, range(900, 1500))",
    ],
)
def test_held_out_data_that_is_the_training_data_is_told(tmp_path: Path, same: str) -> None:
    report = probe(tmp_path, same + "\n")
    assert report.generalization is None
    assert codes(report) == {"BSA601"}


def test_examples_in_common_are_told_and_leave_no_verdict(tmp_path: Path) -> None:
    report = probe(tmp_path, "data, heldout = Subset(every, range(1000)), Subset(every, range(700, 1300))\n")
    (remark,) = [finding for finding in report.findings if finding.code == "BSA602"]
    assert remark.message.startswith("about 50.0% of the held-out examples are training examples")
    assert report.generalization is not None and report.generalization.verdict is None


def test_a_loss_that_fails_on_held_out_examples_names_the_users_line(tmp_path: Path) -> None:
    wrong = "heldout = TensorDataset(x[1000:, :5], y[1000:])\ndef loss(model, batch):\n"
    wrong += "    return nn.functional.cross_entropy(model(batch[0]), batch[1])\n"
    with pytest.raises(TargetError, match=r"the loss failed at .*model.py:\d+ in loss"):
        probe(tmp_path, wrong)
