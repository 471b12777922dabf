"""What does the gradient phase cost over a plain forward and backward pass?

    python -m tests.benchmarks.cost [--repeats 9] [--device cuda] [--write]

Both see the same number of examples in the same micro-batches, in turn in one process. The plain pass
finds its batches ready in memory, the gradient phase draws, collates, sums and sketches. Medians of
paired ratios. Then a whole probe without curvature, at the default micro-batch; last, both against a
plain pass that reads from a DataLoader, as a training loop does.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bsadvisor.measure.best_step import best_step, tried_examples
from bsadvisor.measure.gradients import GradientProbe, gradients_of
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.statistics import gradient_stats
from bsadvisor.measure.step_trial import mean_gradient
from tests.benchmarks.tasks import CharTransformer, Task

RESULTS = Path(__file__).parent / "results"
MICRO_BATCHES = 32


def tasks(device: torch.device) -> list[Task]:
    """The four models, each with data of its own shape that it can learn."""
    torch.manual_seed(0)
    images = torch.randn(8192, 784)
    classes = images[:, :10].argmax(1)
    pictures = images.view(-1, 1, 28, 28)
    tokens = torch.randint(65, (8192, 32))
    conv = nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(800, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    models: list[tuple[str, nn.Module, torch.Tensor, torch.Tensor]] = [
        ("MLP 10 k", nn.Sequential(nn.Linear(784, 12), nn.ReLU(), nn.Linear(12, 10)), images, classes),
        ("MLP 700 k", _mlp(784, 560, 440, 10), images, classes),
        ("ConvNet", conv, pictures, classes),
        ("transformer", CharTransformer(65, width=64), tokens, tokens.roll(-1, 1)),
    ]
    return [
        Task(
            name=f"{name} ({sum(p.numel() for p in model.parameters()):,})",
            model=model.to(device),
            inputs=inputs,
            targets=targets,
            device=device,
            per_device_batch=128,
        )
        for name, model, inputs, targets in models
    ]


def ratio(task: Task, size: int, repeats: int, *, whole: bool = False, loader: bool = False) -> float:
    """Median of paired ratios over a plain pass: gradient phase, or `whole` probe.

    With `loader` the plain pass reads its batches from a DataLoader, else they are ready in memory.
    """
    sampler = Sampler(task.data, seed=0, min_gradient=16)
    examples = MICRO_BATCHES * size
    rows = TensorDataset(task.inputs[:examples], task.targets[:examples])
    ready: Iterable[Any] = list(sampler.gradient(0, MICRO_BATCHES, size))
    batches = DataLoader(rows, batch_size=size, shuffle=True) if loader else ready

    def plain() -> None:
        for batch in batches:
            gradients_of(task.loss(batch), task.parameters)

    def probe() -> None:
        measured = GradientProbe(task, sampler, micro_batch=size, seed=0)
        measured.run(examples, time_left=lambda: 1e9, stop=lambda: False, progress=lambda done: None)
        measured.accumulator.sums()
        if whole:
            finish(task, sampler, measured)

    return paired(probe, plain, repeats, task.device)


def finish(task: Task, sampler: Sampler, measured: GradientProbe) -> None:
    """What a probe does after its gradients: all estimates, and the best single step."""
    gradient_stats(measured, confidence=0.95, precision=0.5, batch_size=32, learning_rate=0.1)
    examples, size = measured.accumulator.num_examples, measured.micro_batch
    best_step(
        task,
        tried_examples(sampler, measured=examples, micro_batch=size, couples=False),
        mean_gradient(measured),
        confidence=0.95,
        seed=0,
        should_stop=lambda: False,
    )


def paired(
    first: Callable[[], None], second: Callable[[], None], repeats: int, device: torch.device
) -> float:
    """Median of first / second, run in turn after a warm-up of each."""
    seconds(first, device), seconds(second, device)
    return median(seconds(first, device) / seconds(second, device) for _ in range(repeats))


def seconds(run: Callable[[], None], device: torch.device) -> float:
    """Wall-clock time of one call, the device's work included."""
    began = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _mlp(*widths: int) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def main() -> None:
    """Print a row per model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true", help="store the rows beside this file")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(
        f"gradient phase over a plain pass on {name}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    print("                         gradient phase at micro-batch     whole     over a DataLoader:")
    print("model                         8     32    128 (default)    probe     phase   probe")
    rows = []
    for task in tasks(device):
        columns = {
            "8": ratio(task, 8, arguments.repeats),
            "32": ratio(task, 32, arguments.repeats),
            "128": ratio(task, 128, arguments.repeats),
            "whole probe": ratio(task, 128, arguments.repeats, whole=True),
            "128 over a loader": ratio(task, 128, arguments.repeats, loader=True),
            "whole probe over a loader": ratio(task, 128, arguments.repeats, whole=True, loader=True),
        }
        rows.append({"model": task.name, **columns})
        widths = (9, 7, 7, 18, 10, 8)
        figures = "".join(
            f"{value:{width}.2f}" for value, width in zip(columns.values(), widths, strict=True)
        )
        print(f"{task.name:22}{figures}", flush=True)
    if arguments.write:
        file = RESULTS / f"cost-{device.type}.json"
        threads = torch.get_num_threads()
        stored = {"device": name, "threads": threads, "torch": torch.__version__, "rows": rows}
        file.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
