"""A run's checkpoints together: the loss with the weights of the last ones averaged."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bsadvisor import pipeline
from bsadvisor.pipeline.tracking import track
from bsadvisor.settings import ProbeSettings, TargetRequest
from bsadvisor.values import Progress, ProgressCallback, TrackReport

MODEL = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
torch.manual_seed(0)
x = torch.randn(1792, 5)
y = (x[:, 0] + torch.randn(1792) > 0).long()
BATCH_SIZE, LEARNING_RATE = 8, 0.5
data = TensorDataset(x[:768], y[:768])
def model():
    return nn.Sequential(nn.Linear(5, 8), {norm}, nn.Tanh(), nn.Linear(8, 2))
"""

HELDOUT = "heldout = TensorDataset(x[768:], y[768:])\n"

STEPS = (50, 200, 300, 400)

LATE = (200, 300, 400)


class World:
    """The target's file, the weights of its run, and what both say of the loss."""

    def __init__(self, folder: Path, *, norm: str = "nn.Identity()", more: str = HELDOUT) -> None:
        self.folder = folder
        text = MODEL.format(norm=norm) + more
        (folder / "model.py").write_text(text, encoding="utf-8")
        self.names: dict[str, Any] = {}
        exec(text, self.names)
        self.model: nn.Module = self.names["model"]()
        self.weights: dict[int, dict[str, Tensor]] = {}

    def train(self, name: str = "step-{}.pt") -> World:
        x, y = self.names["data"].tensors
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        generator = torch.Generator().manual_seed(1)
        for step in range(1, STEPS[-1] + 1):
            picks = torch.randint(len(x), (8,), generator=generator)
            optimizer.zero_grad()
            cross_entropy(self.model(x[picks]), y[picks]).backward()
            optimizer.step()
            if step in STEPS:
                state = {key: value.clone() for key, value in self.model.state_dict().items()}
                torch.save(state, self.folder / name.format(step))
                self.weights[step] = state
        return self

    def track(self, *, patterns: str = "*.pt", progress: ProgressCallback = lambda step: None) -> TrackReport:
        return track(
            TargetRequest(target=str(self.folder / "model.py")),
            [str(path) for path in self.folder.glob(patterns)],
            ProbeSettings(max_examples=128),
            progress=progress,
            notify=print,
            stop=pipeline.StopSignal(),
        )

    @torch.no_grad()
    def loss(self, weights: dict[str, Tensor], rows: str, *, training: bool = False) -> float:
        """Over all rows, in one batch."""
        self.model.load_state_dict(weights)
        x, y = self.names[rows].tensors
        return cross_entropy(self.model.train(training)(x), y).item()

    def mean_weights(self) -> dict[str, Tensor]:
        return {
            key: torch.stack([self.weights[step][key] for step in LATE]).double().mean(0).to(value.dtype)
            for key, value in self.weights[LATE[0]].items()
        }


@pytest.mark.parametrize(
    ("more", "rows", "loss_of", "near"),
    [(HELDOUT, "heldout", "heldout", 1e-5), ("", "data", "train", 0.05)],
)
def test_the_last_checkpoints_are_averaged_and_judged(
    tmp_path: Path, more: str, rows: str, loss_of: str, near: float
) -> None:
    """On all of the 1,024 held-out rows, or on most of the training data."""
    world = World(tmp_path, more=more).train()
    found = world.track()
    average = found.weight_average
    assert average is not None
    assert (average.checkpoints, average.from_step, average.loss_of, average.mode) == (
        3, 200, loss_of, "eval",
    )  # fmt: skip
    assert average.loss == pytest.approx(world.loss(world.mean_weights(), rows), rel=near)
    each = [world.loss(world.weights[step], rows) for step in LATE]
    assert average.mean_loss == pytest.approx(fmean(each), rel=near)
    losses = [one.heldout_loss or one.loss for one in found.checkpoints][-3:]
    assert average.mean_loss == pytest.approx(fmean(loss.value or 0 for loss in losses if loss))
    assert found.ramp_summary is not None
    assert (found.ramp_summary.loss_of, found.ramp_summary.noise_from) == (loss_of, "averaged_weights")
    assert found.ramp_summary.noise_loss == pytest.approx((average.mean_loss - average.loss) * 3 / 2)


def test_batch_norm_is_judged_by_the_statistics_of_its_batches(tmp_path: Path) -> None:
    """Running statistics are of the weights that they were gathered with."""
    world = World(tmp_path, norm="nn.BatchNorm1d(8)").train()
    average = world.track().weight_average
    assert average is not None and average.mode == "train"
    one_by_one = [world.loss(world.weights[step], "heldout", training=True) for step in LATE]
    assert average.mean_loss == pytest.approx(fmean(one_by_one), rel=0.05)
    assert average.loss == pytest.approx(world.loss(world.mean_weights(), "heldout", training=True), rel=0.05)


def test_too_few_late_checkpoints_are_not_averaged(tmp_path: Path) -> None:
    found = World(tmp_path).train().track(patterns="step-[24]*.pt")
    assert [one.step for one in found.checkpoints] == [200, 400]
    assert found.weight_average is None


def test_checkpoints_in_an_order_that_nobody_knows_are_not_averaged(tmp_path: Path) -> None:
    found = World(tmp_path).train("epoch{}.pt").track()
    assert found.checkpoints[0].step_from == "order" and found.weight_average is None


def test_a_checkpoint_that_was_replaced_since_is_not_averaged(tmp_path: Path) -> None:
    """A run that still trains may write over its own."""
    world = World(tmp_path).train()

    def replace(step: Progress) -> None:
        if step.phase.startswith("4/4"):
            torch.save(world.weights[50], tmp_path / "step-200.pt")

    found = world.track(progress=replace)
    assert len(found.checkpoints) == 4 and found.weight_average is None
