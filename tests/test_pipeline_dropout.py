"""Whole probes of models with dropout and of data with augmentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bsadvisor.pipeline import mask_phase
from bsadvisor.values import DropoutStats, Report
from tests.test_pipeline import codes, probe

DATA = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn({rows}, 6)
y = (x[:, 0] + torch.randn({rows}) > 0).long()
data = torch.utils.data.TensorDataset(x, y)
BATCH_SIZE, LEARNING_RATE = 8, 0.1
model = nn.Sequential(nn.Linear(6, 16), {layer}, nn.Linear(16, 2))
"""

AUGMENTED = """
class Jittered(torch.utils.data.Dataset):
    def __len__(self): return len(x)
    def __getitem__(self, at): return x[at] + torch.randn(6), y[at]
data = torch.utils.data.DataLoader(Jittered(), batch_size=8, shuffle=True, num_workers={workers})
"""

SHARED = """
class Shared(nn.Module):
    def forward(self, rows): return rows * (torch.rand(rows.shape[1]) < 0.5) * 2
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(layer: str, more: str = "", *, before: str = "", rows: int = 1024) -> Path:
        file = tmp_path / "model.py"
        text = DATA.replace("BATCH_SIZE", before + "\nBATCH_SIZE", 1).format(rows=rows, layer=layer)
        file.write_text(text + more, encoding="utf-8")
        return file

    return write


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is."""
    monkeypatch.setattr(mask_phase, "seconds_allowed", lambda seconds: 60.0)


def dropout(report: Report) -> DropoutStats:
    found = report.gradient.dropout
    assert found is not None and report.probe.seconds_per_phase.dropout is not None
    return found


@pytest.mark.parametrize("layer", ["nn.Tanh()", "nn.Dropout(0.0)", "nn.Dropout(0.5).eval()"])
def test_without_anything_random_there_is_nothing_to_say(write: Write, layer: str) -> None:
    more = "" if "eval" not in layer else "model.train = lambda mode=True: model\n"
    report = probe(write(layer, more), curvature=False)
    assert report.gradient.dropout is None and report.probe.seconds_per_phase.dropout is None
    assert not any(code.startswith("BSA23") for code in codes(report))


def test_dropout_is_told_from_data(write: Write) -> None:
    report = probe(write("nn.Dropout(0.5)"), curvature=False)
    found = dropout(report)
    assert [(place.name, place.keep) for place in found.keep_probabilities] == [("1", 0.5)]
    assert found.masks == "per_example" and found.augmentation_trace is None
    assert [ridge.name for ridge in found.ridges] == ["2"]
    assert (
        found.mask_trace is not None
        and found.mask_trace.value is not None
        and found.data_trace.value is not None
    )
    assert report.gradient.noise_trace.value == pytest.approx(
        found.mask_trace.value + found.data_trace.value, rel=0.3
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_is_told_from_examples(write: Write, workers: int) -> None:
    found = dropout(probe(write("nn.Tanh()", AUGMENTED.format(workers=workers)), curvature=False))
    assert found.mask_trace is None and found.masks is None and found.ridges == ()
    share = found.augmentation_share
    assert share is not None and share.low is not None and share.low > 0.1


def test_both_at_once(write: Write) -> None:
    found = dropout(probe(write("nn.Dropout(0.5)", AUGMENTED.format(workers=0)), curvature=False))
    assert found.mask_trace is not None and found.augmentation_trace is not None


def test_a_mask_that_the_batch_shares_is_a_warning(write: Write) -> None:
    report = probe(write("Shared()", before=SHARED), curvature=False)
    found = dropout(report)
    assert found.masks == "shared" and found.keep_probabilities == () and "BSA231" in codes(report)


def test_a_rate_of_one_is_said(write: Write) -> None:
    more = "model = nn.Sequential(nn.Linear(6, 2), nn.Dropout(1.0), nn.Linear(2, 2))\n"
    report = probe(write("nn.Tanh()", more), curvature=False)
    assert "BSA232" in codes(report) and report.gradient.dropout is None


def test_what_takes_too_long_or_too_much_memory_is_left_out_and_said(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write("nn.Dropout(0.5)")
    monkeypatch.setattr(mask_phase, "seconds_allowed", lambda seconds: 0.0)
    report = probe(file, curvature=False)
    (remark,) = [finding for finding in report.findings if finding.code == "BSA235"]
    assert "longer than the gradient" in remark.message and report.gradient.dropout is None


def test_batch_norm_hides_a_floor(write: Write) -> None:
    found = dropout(probe(write("nn.Sequential(nn.BatchNorm1d(16), nn.Dropout(0.3))"), curvature=False))
    assert found.masks == "unknown" and found.mask_floor is None and found.averaged_away is None


def test_the_most_of_the_noise_being_masks_is_noted(write: Write) -> None:
    report = probe(write("nn.Dropout(0.9)"), curvature=False)
    assert "BSA230" in codes(report)


def test_the_split_changes_no_other_number(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write("nn.Dropout(0.5)")
    with_split = probe(file, curvature=False)
    monkeypatch.setattr("bsadvisor.pipeline.measuring.measure_masks", lambda session, gradient: None)
    without = probe(file, curvature=False)
    assert with_split.gradient.raw == without.gradient.raw and with_split.local == without.local
    assert with_split.recommendations == without.recommendations
