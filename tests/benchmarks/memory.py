"""Does the probe fit where training fits?

    python -m tests.benchmarks.memory [--device cuda] [--write]

Peak memory of a few plain training steps (SGD, AdamW), of a whole gradient phase and line search with
sketches, and of a curvature phase that keeps no basis, each in a fresh process, on a model of 24 million
parameters (an MLP) and one of 25 million (a transformer). The bars over the training step: two float32
copies of the parameters plus the sketch for the gradient, six copies for the curvature.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from bsadvisor.advise.curvature_plan import CurvaturePlan
from bsadvisor.measure.best_step import best_step, tried_examples
from bsadvisor.measure.curvature import CurvatureProbe
from bsadvisor.measure.gradients import GradientProbe
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.statistics import gradient_stats
from bsadvisor.measure.step_trial import mean_gradient
from tests.benchmarks.tasks import CharTransformer, Task

RESULTS = Path(__file__).parent / "results"
MICRO_BATCH, MICRO_BATCHES = 16, 20


def build(name: str, device: torch.device, *, adaptive: bool = False) -> Task:
    """A large model over random data."""
    torch.manual_seed(0)
    examples = 2 * MICRO_BATCH * MICRO_BATCHES
    if name == "MLP":
        model: nn.Module = nn.Sequential(
            nn.Linear(784, 4096), nn.ReLU(), nn.Linear(4096, 5000), nn.Linear(5000, 10)
        )
        inputs = torch.randn(examples, 784)
        targets = inputs[:, :10].argmax(1)  # learnable, so that the gradient is resolved and steps are tried
    else:
        model = CharTransformer(512, width=640, layers=5, context=64)
        inputs = torch.randint(512, (examples, 64))
        targets = inputs.roll(-1, 1)
    task = Task(name=name, model=model.to(device), inputs=inputs, targets=targets, device=device)
    if adaptive:
        task.preconditioner = {name: torch.ones_like(p) for name, p in task.parameters.items()}
    return task


def train(task: Task, *, adaptive: bool) -> int:
    """A few plain steps with SGD or AdamW; returns the bytes of sketches: none."""
    kind = torch.optim.AdamW if adaptive else torch.optim.SGD
    optimizer = kind(task.model.parameters(), lr=1e-3)
    for at in range(0, 3 * MICRO_BATCH, MICRO_BATCH):
        optimizer.zero_grad()
        task.loss((task.inputs[at : at + MICRO_BATCH], task.targets[at : at + MICRO_BATCH])).backward()
        optimizer.step()
    return 0


def run_probe(task: Task) -> int:
    """Gradient phase, statistics and best step; returns the bytes of the sketches."""
    sampler = Sampler(task.data, seed=0, min_gradient=16)
    probe = GradientProbe(task, sampler, micro_batch=MICRO_BATCH, seed=0)
    probe.run(
        MICRO_BATCH * MICRO_BATCHES, time_left=lambda: 1e9, stop=lambda: False, progress=lambda done: None
    )
    gradient_stats(probe, confidence=0.95, precision=0.5, batch_size=None, learning_rate=None)
    best_step(
        task,
        tried_examples(sampler, measured=MICRO_BATCH * MICRO_BATCHES, micro_batch=MICRO_BATCH, couples=False),
        mean_gradient(probe),
        confidence=0.95,
        seed=0,
        should_stop=lambda: False,
    )
    return probe.accumulator.sketch_bytes


def run_curvature(task: Task, micro_batch: int) -> int:
    """A curvature phase as a large model gets it; a saddle is looked for whatever the curvature."""
    plan = CurvaturePlan(
        micro_batch=micro_batch,
        noise_batches=MICRO_BATCHES,
        direction_batches=2,
        certificate_batches=4,
        iterations=3,
        search_direction_batches=2,
        search_certificate_batches=4,
        search_iterations=3,
    ).for_large_model()
    probe = CurvatureProbe(
        task,
        Sampler(task.data, seed=0, min_gradient=16),
        plan,
        divide_by_examples=False,
        noise_trace=None,
        seconds_per_pass=0.0,
        seed=0,
        keep_basis=False,
    )
    found = probe.run(time_left=lambda: 1e9, stop=lambda: False)
    assert found.products is not None and found.plain_spectrum is not None and not found.skipped
    return 0


def child(model: str, what: str, device: torch.device, micro_batch: int) -> None:
    """Do one thing in this process and print its peak and the sketch's size in bytes."""
    adaptive, training = what.endswith("AdamW"), what.startswith("step")
    task = build(model, device, adaptive=adaptive and not training)
    if training:
        sketch = train(task, adaptive=adaptive)
    else:
        sketch = run_probe(task) if what.startswith("probe") else run_curvature(task, micro_batch)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    copy = 4 * task.num_parameters
    print(json.dumps({"peak": peak, "sketch": sketch, "copy": copy}))


def measure(model: str, what: str, device: str, *, micro_batch: int = MICRO_BATCH) -> dict[str, int]:
    """Run `child` in a fresh process; the micro-batch is that of the curvature."""
    options = ["--device", device, "--micro-batch", str(micro_batch), "--child", model, what]
    command = [sys.executable, "-m", "tests.benchmarks.memory", *options]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, int] = json.loads(out.splitlines()[-1])
    return found


def main() -> None:
    """Print a row per model and kind of probe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true", help="store the rows beside this file")
    parser.add_argument("--micro-batch", type=int, default=MICRO_BATCH, help="of the curvature")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if arguments.child:
        child(arguments.child[0], arguments.child[1], device, arguments.micro_batch)
        return
    print(
        "                                                                 copies of the parameters over the step"
    )
    print("model        optimizer      step MB  probe MB  sketch MB  curvature MB   probe  curvature")
    rows = []
    for model in ("MLP", "transformer"):
        for optimizer in ("SGD", "AdamW"):
            step = measure(model, f"step, {optimizer}", arguments.device)
            probe = measure(model, f"probe, {optimizer}", arguments.device)
            copies = (probe["peak"] - step["peak"] - probe["sketch"]) / step["copy"]
            curvature = measure(
                model, f"curvature, {optimizer}", arguments.device, micro_batch=arguments.micro_batch
            )
            curved = (curvature["peak"] - step["peak"]) / step["copy"]
            rows.append(
                {"model": model, "optimizer": optimizer, "step": step, "probe": probe, "copies": copies}
                | {"curvature": curvature, "copies of the curvature": curved}
            )
            sizes = [step["peak"] / 1e6, probe["peak"] / 1e6, probe["sketch"] / 1e6, curvature["peak"] / 1e6]
            print(
                f"{model:12} {optimizer:14} {sizes[0]:7.0f} {sizes[1]:9.0f} {sizes[2]:10.1f} {sizes[3]:13.0f}"
                f" {copies:7.2f} {curved:10.2f}",
                flush=True,
            )
    if arguments.write:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        stored = {"device": name, "torch": torch.__version__, "rows": rows}
        (RESULTS / f"memory-{device.type}.json").write_text(
            json.dumps(stored, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
