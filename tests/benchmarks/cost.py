"""What does the gradient phase cost over a plain forward and backward pass?

    python -m tests.benchmarks.cost [--repeats 9] [--device cuda] [--write]

Both see the same number of examples in the same micro-batches, in turn in one process. The plain pass
finds its batches ready in memory, the gradient phase draws, collates, sums and sketches. Medians of
paired ratios. Then the same against a plain pass that reads from a DataLoader, as a training loop
does; last, a whole probe without curvature against the plain pass. Both at the default micro-batch.
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

from bsadvisor import pipeline
from bsadvisor.advise import rounds
from bsadvisor.measure.gradients import GradientProbe, gradients_of
from bsadvisor.measure.line_search import CHUNKS, line_search
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.statistics import gradient_stats
from bsadvisor.values import ProbeSettings
from tests.benchmarks.tasks import CharTransformer, Task

RESULTS = Path(__file__).parent / "results"
MICRO_BATCHES = 32


def tasks(device: torch.device) -> list[Task]:
    """The four models, each with random data of its own shape: cost does not depend on the values."""
    torch.manual_seed(0)
    images, classes = torch.randn(8192, 784), torch.randint(10, (8192,))
    pictures = torch.randn(8192, 1, 28, 28)
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


def ratio(task: Task, size: int, repeats: int, *, loader: bool = False) -> float:
    """Median of paired ratios: gradient phase over plain pass, with or without loading in the latter."""
    sampler = Sampler(task.data, seed=0, min_gradient=16)

    def plain() -> None:
        for batch in ready:
            gradients_of(task.loss(batch), task.parameters)

    def phase() -> None:
        probe = GradientProbe(task, sampler, micro_batch=size, seed=0)
        probe.run(size * MICRO_BATCHES, time_left=lambda: 1e9, stop=lambda: False, progress=lambda done: None)
        probe.accumulator.sums()

    rows = TensorDataset(task.inputs[: MICRO_BATCHES * size], task.targets[: MICRO_BATCHES * size])
    ready: Iterable[Any] = list(sampler.gradient(0, MICRO_BATCHES, size))
    if loader:
        ready = DataLoader(rows, batch_size=size, shuffle=True)
    return paired(phase, plain, repeats, task.device)


def whole_probe(task: Task, repeats: int) -> float:
    """The same for gradient phase, statistics and line search together."""
    settings = ProbeSettings(time_budget=1e9)
    sampler = Sampler(task.data, seed=0, min_gradient=16)
    available = rounds.Available(
        examples=sampler.num_gradient, certain=sampler.num_certain, batch_in_use=task.per_device_batch
    )
    size = rounds.micro_batch(available, settings)
    ready = list(sampler.gradient(0, MICRO_BATCHES, size))

    def plain() -> None:
        for batch in ready:
            gradients_of(task.loss(batch), task.parameters)

    def probe() -> None:
        measured = GradientProbe(task, sampler, micro_batch=size, seed=0)
        measured.run(
            size * MICRO_BATCHES, time_left=lambda: 1e9, stop=lambda: False, progress=lambda done: None
        )
        gradient_stats(measured, confidence=0.95, precision=0.5, batch_size=32, learning_rate=0.1)
        examples = min(sampler.num_line_search, size * MICRO_BATCHES // pipeline.LINE_SEARCH_SHARE)
        line_search(
            task,
            sampler.line_search(CHUNKS, examples // CHUNKS),
            measured.accumulator.total_gradient(),
            weight=measured.accumulator.total_weight,
            confidence=0.95,
            seed=0,
            should_stop=lambda: False,
        )

    return paired(probe, plain, repeats, task.device)


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
    print(f"gradient phase over a plain pass on {name}, torch {torch.__version__}")
    print("model                      micro-batch 8     32    128 (default)   over a loader   whole probe")
    rows = []
    for task in tasks(device):
        ratios = [ratio(task, size, arguments.repeats) for size in (8, 32, 128)]
        loaded = ratio(task, 128, arguments.repeats, loader=True)
        whole = whole_probe(task, arguments.repeats)
        columns = dict(zip(("8", "32", "128"), ratios, strict=True))
        rows.append({"model": task.name, **columns, "128 over a loader": loaded, "whole probe": whole})
        figures = f"{ratios[0]:15.2f} {ratios[1]:6.2f} {ratios[2]:6.2f} {loaded:23.2f} {whole:13.2f}"
        print(f"{task.name:24} {figures}", flush=True)
    if arguments.write:
        file = RESULTS / f"cost-{device.type}.json"
        stored = {"device": name, "torch": torch.__version__, "rows": rows}
        file.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
