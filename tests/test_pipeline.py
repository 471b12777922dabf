"""Whole probes of small files: what the rooms say to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bsadvisor import pipeline
from bsadvisor.errors import DataError, TargetError
from bsadvisor.settings import ProbeSettings, TargetRequest
from bsadvisor.values import Progress, Report

DATA = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn({rows}, 6)
y = (x[:, 0] + torch.randn({rows}) > 0).long()
data = torch.utils.data.TensorDataset(x, y)
BATCH_SIZE, LEARNING_RATE = 32, 0.1
model = nn.Sequential(nn.Linear(6, 8), {layer}, nn.Linear(8, 2))
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(more: str = "", *, rows: int = 2048, layer: str = "nn.Tanh()") -> Path:
        file = tmp_path / "model.py"
        file.write_text(DATA.format(rows=rows, layer=layer) + more, encoding="utf-8")
        return file

    return write


def probe(file: Path, *, stop_at: int | None = None, **settings: Any) -> Report:
    stop = pipeline.StopSignal()

    def progress(step: Progress) -> None:
        if stop_at is not None and step.done >= stop_at:
            stop.request("interrupt")

    places = {name: settings.pop(name, None) for name in ("resume", "sidecar")}
    return pipeline.probe(
        TargetRequest(target=str(file)),
        ProbeSettings(**settings),
        progress=progress,
        notify=print,
        stop=stop,
        **places,
    )


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


@pytest.mark.parametrize(
    "loss", ["", "ignored = nn.CrossEntropyLoss(ignore_index=7)\ny[::3] = 7\n", "y[::3] = 1\n"]
)
def test_ignored_classes_are_no_coupling(write: Callable[..., Path], loss: str) -> None:
    report = probe(write("y[::3] = -100\n" + loss))
    assert "BSA204" not in codes(report)
    assert report.target.example == "example" and report.target.tokens_per_example is None
    share = sum(report.gradient.raw.weight) / sum(report.gradient.raw.examples)
    assert share == pytest.approx(1 if "= 1" in loss else 2 / 3, abs=0.02)


def test_a_number_under_another_name_is_a_remark_with_its_flag(write: Callable[..., Path]) -> None:
    report = probe(write("lr = LEARNING_RATE\ndel LEARNING_RATE\n"), max_examples=512)
    (remark,) = [finding for finding in report.findings if finding.code == "BSA112"]
    assert remark.message == "lr = 0.1 in model.py is not read, for only LEARNING_RATE is"
    assert "--lr 0.1 or rename it LEARNING_RATE" in remark.remedy


def test_a_plain_probe_is_whole(write: Callable[..., Path]) -> None:
    report = probe(write())
    assert report.probe.stopped_by == "precision" and report.probe.micro_batches >= 16
    assert report.gradient.noise_scale_simple.value is not None and report.local is not None
    assert report.headline.action == "none" and {"BSA101", "BSA111"} <= codes(report)
    assert any(row.current and row.batch_size == 32 for row in report.recommendations)
    assert [point.batch_size for point in report.local.curve] == [
        r.batch_size for r in report.recommendations
    ]
    assert report.probe.seconds_per_phase.gradient is not None and report.curvature is not None


def test_the_same_seed_gives_the_same_report(write: Callable[..., Path]) -> None:
    file = write(layer="nn.Dropout(0.3)")
    first, again = probe(file), probe(file)
    assert replace(first, probe=again.probe) == again
    assert probe(file, seed=1).gradient != first.gradient


def test_an_interrupted_probe_resumes_to_the_report_of_an_uninterrupted_one(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    file, sidecar = write(), tmp_path / "state.safetensors"
    whole = probe(file, precision=0.3)
    partial = probe(file, precision=0.3, stop_at=320, sidecar=sidecar)
    assert partial.probe.stopped_by == "interrupt" and partial.probe.examples == 320
    assert "BSA218" in codes(partial)
    resumed = probe(file, precision=0.3, resume=sidecar)
    assert resumed.gradient.raw.examples[:10] == whole.gradient.raw.examples[:10]
    assert resumed.gradient.noise_scale_simple.value == pytest.approx(
        whole.gradient.noise_scale_simple.value, rel=0.3
    )
    assert resumed.probe.examples >= 1024


@pytest.mark.parametrize("micro_batches", [1, 2, 5])
def test_an_interrupt_after_a_few_micro_batches_still_makes_a_report(
    write: Callable[..., Path], tmp_path: Path, micro_batches: int
) -> None:
    file, sidecar = write(), tmp_path / "state.safetensors"
    partial = probe(file, stop_at=32 * micro_batches, sidecar=sidecar)
    assert partial.probe.micro_batches == micro_batches
    assert probe(file, resume=sidecar).probe.stopped_by == "precision"


def test_a_state_of_another_target_is_not_resumed(write: Callable[..., Path], tmp_path: Path) -> None:
    sidecar = tmp_path / "state.safetensors"
    probe(write(), stop_at=320, sidecar=sidecar)
    with pytest.raises(TargetError, match="another model, checkpoint or data set"):
        probe(write(rows=1024), resume=sidecar)


def test_batch_norm_raises_the_micro_batch_to_the_devices_batch(write: Callable[..., Path]) -> None:
    report = probe(write("BATCH_SIZE = 64", rows=1200, layer="nn.BatchNorm1d(8)"))
    assert "BSA203" in codes(report) and report.probe.micro_batch_size == 64


def test_running_out_of_memory_is_said_and_survived(write: Callable[..., Path]) -> None:
    limit = """
def loss(model, batch):
    if len(batch[0]) > 8:
        raise torch.OutOfMemoryError("out of memory")
    return nn.functional.cross_entropy(model(batch[0]), batch[1])
"""
    report = probe(write(limit))
    assert "BSA215" in codes(report) and report.probe.micro_batch_size == 8
    assert report.probe.micro_batches >= 16


def test_a_summed_loss_gives_the_numbers_of_the_mean(write: Callable[..., Path]) -> None:
    loss = "def loss(model, batch):\n    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction={!r})\n"
    mean, total = (probe(write(loss.format(kind))) for kind in ("mean", "sum"))
    assert "BSA201" in codes(total) and "BSA201" not in codes(mean)
    assert total.local is not None and mean.local is not None
    assert total.local.loss.value == pytest.approx(mean.local.loss.value, rel=1e-4)
    assert total.gradient.noise_trace.value == pytest.approx(mean.gradient.noise_trace.value, rel=1e-4)


STREAM = """
class Rows(torch.utils.data.IterableDataset):
    def __iter__(self):
        order = {order}
        return iter([(x[i], y[i]) for i in order])
data = torch.utils.data.DataLoader(Rows(), batch_size=8)
"""


def test_a_stream_sorted_by_class_is_noticed_and_a_shuffled_one_is_not(write: Callable[..., Path]) -> None:
    shuffled = probe(write(STREAM.format(order="range(2048)")), precision=0.05)
    ordered = probe(write(STREAM.format(order="y.argsort().tolist()")), precision=0.05)
    assert "BSA205" in codes(ordered) and "BSA205" not in codes(shuffled)
    assert shuffled.target.dataset_size is None and shuffled.gradient.noise_scale_training_set is None


def test_a_stream_of_a_few_examples_is_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="0 examples are too few"):
        probe(write(STREAM.format(order="range(9)")))


def test_a_gradient_of_exactly_zero_is_an_error_in_the_report(write: Callable[..., Path]) -> None:
    report = probe(write("def loss(model, batch):\n    return 0 * model(batch[0]).sum()\n"))
    assert "BSA213" in codes(report) and report.recommendations == ()
    assert report.gradient.noise_scale_simple.value is None and report.headline.action == "none"


def test_the_limits_on_examples_and_time_end_it_and_say_what_it_takes(write: Callable[..., Path]) -> None:
    few = probe(write(), max_examples=600, precision=0.02)
    assert few.probe.stopped_by == "max_examples" and few.probe.examples <= 600
    finding = next(finding for finding in few.findings if finding.code == "BSA210")
    assert "even all 2,048 examples would not do" in finding.remedy
    hurried = probe(write(), time_budget=1e-3, precision=0.02)
    assert hurried.probe.stopped_by == "time" and hurried.probe.micro_batches >= 16


@pytest.mark.parametrize("examples", [20, 60, 290, 1100])
def test_a_short_stream_is_still_sixteen_micro_batches(write: Callable[..., Path], examples: int) -> None:
    report = probe(write(STREAM.format(order=f"range({examples})")), precision=0.01)
    assert report.probe.micro_batches >= 16
    assert report.probe.examples >= examples // 3
    assert report.probe.stopped_by == "data"


def test_a_signal_during_the_imports_is_heeded_after_them() -> None:
    stop = pipeline.StopSignal()
    stop.deferred = True
    stop.request("interrupt")
    with pytest.raises(KeyboardInterrupt):
        stop.release()
    assert not stop.deferred


def test_an_interrupt_during_the_line_search_can_be_resumed_too(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    file, sidecar, stop = write(), tmp_path / "state.safetensors", pipeline.StopSignal()

    def progress(step: Progress) -> None:
        if step.phase == "line search":
            stop.request("interrupt")

    partial = pipeline.probe(
        TargetRequest(target=str(file)),
        ProbeSettings(),
        progress=progress,
        notify=print,
        stop=stop,
        sidecar=sidecar,
    )
    assert partial.probe.stopped_by == "interrupt" and partial.local is None
    resumed = probe(file, resume=sidecar)
    assert resumed.local is not None and resumed.gradient.raw == partial.gradient.raw


def test_a_named_optimizer_is_not_assumed_to_be_another(write: Callable[..., Path]) -> None:
    report = probe(write("def optimizer(params):\n    return torch.optim.AdamW(params, lr=1e-3)\n"))
    assert "BSA111" not in codes(report) and "^0.75" in report.recommendations[0].rule


LION = (
    (Path(__file__).parent / "lion.py")
    .read_text(encoding="utf-8")
    .replace("from __future__ import annotations", "")
)


@pytest.mark.parametrize(
    ("more", "family", "source", "told"),
    [
        ("optimizer = torch.optim.AdamW\n", "adam", "probe", {"BSA114"}),
        (LION + "\noptimizer = Lion\n", "adam", "probe", {"BSA114"}),
        ("optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n", "sgd", None, set()),
        (
            "optimizer = torch.optim.SGD([{'params': model[0].parameters(), 'lr': 0.01},"
            " {'params': model[2].parameters()}], lr=0.1)\n",
            "sgd",
            "learning_rates",
            set(),
        ),
        ("class Mine(torch.optim.SGD): pass\noptimizer = Mine\n", "other", None, {"BSA113"}),
    ],
)
def test_the_geometry_is_the_optimizers_as_far_as_it_is_known(
    write: Callable[..., Path], more: str, family: str, source: str | None, told: set[str]
) -> None:
    report = probe(write(more), max_examples=512, curvature=False)
    details, geometry = report.target.optimizer_details, report.gradient.geometry
    assert details is not None and details.family == family
    assert (geometry.source if geometry else None) == source
    assert codes(report) & {"BSA106", "BSA113", "BSA114"} == told
    own = report.gradient.noise_scale_preconditioned
    assert (own is None) == (source is None)
