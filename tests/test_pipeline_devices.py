"""A run's checkpoints on several devices: what comes of it is what comes of one device."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bsadvisor import report as reports
from bsadvisor.errors import TargetError, UsageError
from bsadvisor.pipeline import StopSignal, Stopwatch, tracking
from bsadvisor.pipeline.checkpoints import ProbedCheckpoint, RunToProbe
from bsadvisor.pipeline.devices import probe_on
from bsadvisor.settings import ProbeSettings, TargetRequest
from bsadvisor.target.survey import survey
from bsadvisor.values import TrackReport
from tests.test_pipeline_track import HELDOUT, STEPS, World

TWO = ("cpu", "cpu")

WATCHED = """
import os, pathlib, signal, time
here = pathlib.Path(__file__).parent
(here / f"{os.getpid()}.pid").touch()
def loss(model, batch):
    if abs(model[0].bias[0].item() - 7) < 1e-3:
        MARKED
    return nn.functional.cross_entropy(model(batch[0]), batch[1])
"""
"""It leaves word of every process that imports it, and minds the checkpoint with the mark."""

MARKED_STEP = STEPS[2]


class Watched(World):
    """A run of which one checkpoint bears a mark that its loss function reacts to."""

    def __init__(self, folder: Path, marked: str = "pass", *, more: str = HELDOUT) -> None:
        super().__init__(folder, more=more)
        with (folder / "model.py").open("a", encoding="utf-8") as file:
            file.write(WATCHED.replace("MARKED", marked))
        self.train()
        state = dict(self.weights[MARKED_STEP])
        state["0.bias"] = torch.cat([torch.tensor([7.0]), state["0.bias"][1:]])
        torch.save(state, folder / f"step-{MARKED_STEP}.pt")

    @property
    def request(self) -> TargetRequest:
        return TargetRequest(target=str(self.folder / "model.py"))

    def run(self, kind: type[RunToProbe] = RunToProbe) -> RunToProbe:
        paths = [str(path) for path in self.folder.glob("*.pt")]
        found = survey(self.request, paths, notify=print)
        return kind(request=self.request, settings=ProbeSettings(max_examples=128), found=found)

    @property
    def processes(self) -> set[int]:
        """Other than this one, that have imported the target."""
        return {int(file.stem) for file in self.folder.glob("*.pid")} - {os.getpid()}

    def wait_for(self, there: Callable[[], bool]) -> None:
        ends = time.monotonic() + 120
        while not there():
            assert time.monotonic() < ends
            time.sleep(0.02)


def on_two(run: RunToProbe, **heard: Any) -> list[ProbedCheckpoint]:
    return probe_on(TWO, run, watch(), **hearing(**heard))


def watch() -> Stopwatch:
    return Stopwatch(budget=60.0, began=time.perf_counter())


def hearing(**heard: Any) -> dict[str, Any]:
    return {"progress": lambda step: None, "notify": lambda note: None, "stop": StopSignal()} | heard


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def but_for_seconds(report: TrackReport) -> Any:
    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(inner) for key, inner in value.items() if key != "seconds"}
        return [without(inner) for inner in value] if isinstance(value, list) else value

    return without(json.loads(reports.render(report, "json")))


def test_two_processes_come_to_the_same_report_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And tell as much of their progress."""
    world, alone, together = Watched(tmp_path), set[str](), set[str]()
    one = world.track(progress=lambda step: alone.add(step.phase))
    assert one.weight_average is not None and not world.processes
    monkeypatch.setattr(tracking, "accelerators", lambda name: TWO)
    two = world.track(progress=lambda step: together.add(step.phase))
    assert len(world.processes) == 2 and not any(map(is_alive, world.processes))
    assert but_for_seconds(two) == but_for_seconds(one)
    assert together == alone and len(alone) >= len(STEPS)


@pytest.mark.parametrize(("devices", "paths"), [(("cpu",), "*.pt"), ((), "*.pt"), (TWO, "step-50.pt")])
def test_one_device_or_one_checkpoint_takes_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], paths: str
) -> None:
    world = Watched(tmp_path)
    monkeypatch.setattr(tracking, "accelerators", lambda name: devices)
    world.track(patterns=paths)
    assert not world.processes


def test_a_process_that_is_killed_is_named_with_its_checkpoint(tmp_path: Path) -> None:
    world = Watched(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(TargetError) as died:
        on_two(world.run())
    path = tmp_path / f"step-{MARKED_STEP}.pt"
    assert died.value.message == f"the process that probed {path} on cpu died (SIGKILL)"
    assert "--micro-batch" in died.value.remedy
    assert not any(map(is_alive, world.processes))


class Faulty(RunToProbe):
    """Has a bug."""

    def probe(self, index: int, seconds: float, *, notify: Callable[[str], None], **rest: Any) -> Any:
        notify(f"checkpoint {index}")
        raise ZeroDivisionError("a bug")


def test_notes_arrive_and_a_bug_comes_with_its_traceback(tmp_path: Path) -> None:
    notes: list[str] = []
    with pytest.raises(RuntimeError, match=r"(?s)for cpu.*in probe.*ZeroDivisionError: a bug"):
        probe_on(TWO[:1], Watched(tmp_path).run(Faulty), watch(), **hearing(notify=notes.append))
    assert notes == ["checkpoint 0"]


def test_an_error_keeps_its_kind_and_both_lines_on_its_way() -> None:
    arrived = pickle.loads(pickle.dumps(UsageError("wrong", "right")))
    assert type(arrived) is UsageError
    assert (str(arrived), arrived.message, arrived.remedy, arrived.exit_code) == (
        "wrong",
        "wrong",
        "right",
        2,
    )


# --- stopping -----------------------------------------------------------------------------------

SLOWLY = "(here / f'{os.getpid()}.marked').touch()"

PROGRAM = f"""
from bsadvisor.pipeline import tracking
tracking.accelerators = lambda name: {TWO!r}
from bsadvisor.cli.app import main
main()
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The command in a process group of its own, as a terminal has it."""
    started = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "track", "model.py", *arguments, "--format", "json"],
            cwd=tmp_path,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(
    ("number", "to_all", "code"), [(signal.SIGINT, True, 130), (signal.SIGTERM, False, 143)]
)
def test_a_signal_ends_all_processes_and_reports_what_was_measured(
    tmp_path: Path,
    program: Callable[..., subprocess.Popen[str]],
    number: signal.Signals,
    to_all: bool,
    code: int,
) -> None:
    """Sent while one process is in its second checkpoint: the first ones are there, and both at work are cut."""
    world = Watched(tmp_path, f"{SLOWLY}; time.sleep(0.05)")
    process = program(*sorted(path.name for path in tmp_path.glob("*.pt")), "--precision", "0.001")
    world.wait_for(lambda: any(tmp_path.glob("*.marked")))
    time.sleep(2)
    (os.killpg if to_all else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    found = json.loads(out)
    steps = [one["step"] for one in found["checkpoints"]]
    assert STEPS[0] in steps and MARKED_STEP in steps
    assert "Traceback" not in err and "error" not in err
    assert not any(map(is_alive, world.processes))
    cut = next(one for one in found["checkpoints"] if one["step"] == MARKED_STEP)
    assert cut["examples"] < found["checkpoints"][0]["examples"]


def test_a_signal_while_all_are_loading_ends_them_without_a_report(
    tmp_path: Path, program: Callable[..., subprocess.Popen[str]]
) -> None:
    world = Watched(tmp_path)
    with (tmp_path / "model.py").open("a", encoding="utf-8") as file:
        file.write("import multiprocessing\nif multiprocessing.parent_process():\n    time.sleep(100)\n")
    process = program(*sorted(path.name for path in tmp_path.glob("*.pt")))
    world.wait_for(lambda: len(world.processes) == 3)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted: no report was written\n")
    assert not any(map(is_alive, world.processes))


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    world, began = Watched(tmp_path), 0.0

    def interrupt(step: object) -> None:
        nonlocal began
        began = time.monotonic()
        raise KeyboardInterrupt  # as the handler of a second one does

    with pytest.raises(KeyboardInterrupt):
        on_two(world.run(), progress=interrupt)
    assert time.monotonic() < began + 10 and world.processes
    assert not any(map(is_alive, world.processes))


def test_ctrl_c_while_a_checkpoint_is_judged_keeps_the_ones_before(tmp_path: Path) -> None:
    """On one device, too."""
    world = Watched(tmp_path, "if not model.training: raise KeyboardInterrupt", more="")
    assert [one.step for one in world.track().checkpoints] == [step for step in STEPS if step < MARKED_STEP]


# --- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("devices", "share"), [(1, 15.0), (2, 30.0), (3, 30.0), (4, 60.0), (9, 60.0)])
def test_the_first_of_four_checkpoints_gets_the_time_of_as_many_devices(
    tmp_path: Path, devices: int, share: float
) -> None:
    run = Watched(tmp_path).run()
    assert run.share(0, watch(), devices=devices) == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize("devices", [1, 2, 3])
def test_the_shares_of_a_device_fill_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: int
) -> None:
    run, now = Watched(tmp_path).run(), 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    free = [0.0] * devices
    for index in range(run.total):
        now, first = min((at, number) for number, at in enumerate(free))
        free[first] = now + run.share(index, Stopwatch(budget=60.0, began=0.0), devices=devices)
    assert max(free) == pytest.approx(60.0)


# --- devices ------------------------------------------------------------------------------------


@pytest.mark.device
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_accelerators_come_to_the_same_report_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's code finds the one device of its process as `cuda:0`."""
    marked = "assert torch.cuda.device_count() == 1 and model[0].bias.device == torch.device('cuda:0')"
    world = Watched(tmp_path, marked)
    two = world.track()
    assert len(world.processes) == min(torch.cuda.device_count(), len(STEPS))
    monkeypatch.setattr(tracking, "accelerators", lambda name: ())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert but_for_seconds(two) == but_for_seconds(world.track())
