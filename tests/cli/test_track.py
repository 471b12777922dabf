"""A whole run tracked, from the command line to the ramp."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from bsadvisor.pipeline import tracking
from tests.cli.conftest import Run
from tests.report.valid import validate
from tests.test_pipeline_devices import TWO, Watched, is_alive

MODEL = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(3000, 5)
y = (x[:, 0] + 2 * torch.randn(3000) > 0).long()
rows = torch.utils.data.TensorDataset(x, y)
data, heldout = torch.utils.data.Subset(rows, range(2000)), torch.utils.data.Subset(rows, range(2000, 3000))
BATCH_SIZE, LEARNING_RATE = 4, 0.5
def model():
    return nn.Linear(5, 2)
def optimizer(parameters):
    return torch.optim.SGD(parameters, lr=LEARNING_RATE)
"""

SAVED_AT = (10, 20, 40, *range(100, 1001, 100))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has long settled at the noise of its learning rate."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    names: dict[str, object] = {}
    exec(MODEL, names)
    x, y = names["x"], names["y"]
    assert isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor)
    torch.manual_seed(1)
    model = torch.nn.Linear(5, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for step in range(1, SAVED_AT[-1] + 1):
        picks = torch.randint(2000, (4,))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[picks]), y[picks]).backward()
        optimizer.step()
        if step in SAVED_AT:
            torch.save({"model": model.state_dict()}, folder / f"step-{step}.pt")
    return folder


@pytest.fixture
def there(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for file in trained.iterdir():
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def checkpoints(there: Path) -> list[str]:
    return sorted(path.name for path in there.glob("step-*.pt"))


@pytest.fixture
def track(run: Run, there: Path) -> Callable[..., dict[str, object]]:
    def track(*arguments: object) -> dict[str, object]:
        finished = run("track", "model.py", *arguments, "--max-examples", "256", "--format", "json")
        assert finished.code == 0, finished.err
        found = json.loads(finished.out)
        validate(found)
        assert isinstance(found, dict)
        return found

    return track


def codes(found: dict[str, object]) -> list[str]:
    findings = found["findings"]
    assert isinstance(findings, list)
    return [finding["code"] for finding in findings]


def test_a_run_at_its_noise_floor_gets_a_ramp(run: Run, checkpoints: list[str]) -> None:
    finished = run("track", "model.py", *checkpoints, "--output", "track.json", "--max-examples", "512")
    assert (finished.code, finished.out) == (0, "")
    found = json.loads(Path("track.json").read_text(encoding="utf-8"))
    assert [one["step"] for one in found["checkpoints"]] == list(SAVED_AT)
    assert all(one["heldout_loss"]["value"] > 0 for one in found["checkpoints"])
    assert [stage["batch_size"] for stage in found["ramp"]] == [4, 8, 16, 32][: len(found["ramp"])]
    assert len(found["ramp"]) > 1 and found["ramp"][0]["from_step"] == 0
    assert {"from_step", "batch_size", "learning_rate_factor"} <= set(found["ramp"][0])
    assert "BSA331" in codes(found)


def test_the_page_fits_eighty_columns_and_yaml_holds_the_data(run: Run, there: Path) -> None:
    asked = ("track", "model.py", "step-10.pt", "--max-examples", "256", "--quiet")
    text = run(*asked).out
    assert "No ramp advised" in text and max(map(len, text.splitlines())) <= 80
    data = yaml.safe_load(run(*asked, "--format", "yaml").out)
    assert data["command"] == "track" and len(data["checkpoints"]) == 1


def test_one_checkpoint_says_when_to_measure_again(track: Callable[..., dict[str, object]]) -> None:
    found = track("step-500.pt")
    assert found["ramp"] == found["trends"] == []
    again = found["measure_again"]
    assert isinstance(again, dict) and again["basis"] == "assumed" and again["at_loss"] > 0
    assert "BSA334" in codes(found)


def test_copies_are_left_out_and_said(track: Callable[..., dict[str, object]], there: Path) -> None:
    shutil.copy(there / "step-1000.pt", there / "last.pt")
    found = track("step-10.pt", "step-1000.pt", "last.pt")
    assert isinstance(found["checkpoints"], list) and len(found["checkpoints"]) == 2
    assert "BSA332" in codes(found)


def test_a_checkpoint_of_another_model_ends_it_before_anything_is_measured(run: Run, there: Path) -> None:
    torch.save(torch.nn.Linear(7, 2).state_dict(), there / "step-2000.pt")
    finished = run("track", "model.py", "step-10.pt", "step-2000.pt")
    assert (finished.code, finished.out) == (4, "")
    assert "step-2000.pt does not fit the model" in finished.err


@pytest.mark.parametrize(("arguments", "code"), [(["step-9.pt"], 4), ([], 2)])
def test_missing_files_and_none_at_all_are_refused(
    run: Run, there: Path, arguments: list[str], code: int
) -> None:
    finished = run("track", "model.py", *arguments)
    assert finished.code == code and len(finished.err.splitlines()) == 2


def test_a_track_is_no_report_of_one_checkpoint(run: Run, there: Path) -> None:
    run("track", "model.py", "step-10.pt", "--output", "track.json", "--max-examples", "256")
    finished = run("check", "track.json", "--batch-size", "8", "--lr", "0.1")
    assert finished.code == 4 and "of a whole run" in finished.err


def test_an_error_in_a_process_of_another_device_is_told_as_if_there_was_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Watched(tmp_path, "raise ValueError('seven')")
    monkeypatch.chdir(tmp_path)
    asked = "track", "model.py", *sorted(path.name for path in tmp_path.glob("*.pt")), "--max-examples", "128"
    alone = run(*asked)
    assert not world.processes
    monkeypatch.setattr(tracking, "accelerators", lambda name: TWO)
    assert run(*asked) == alone
    assert len(world.processes) == 2 and not any(map(is_alive, world.processes))
    assert (alone.code, alone.out, len(alone.err.splitlines())) == (4, "", 2)
    assert "in loss: ValueError: seven" in alone.err
