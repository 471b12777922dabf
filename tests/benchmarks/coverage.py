"""Do the intervals cover the truth on real tasks, with adaptive stopping on?

    python -m tests.benchmarks.coverage [--probes 200] [--write]

The truth is computed from all per-example gradients of the data set: `noise_scale_training_set` is
judged against the training set's own 1 / (|mean g|^2 / tr(S)).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from bsadvisor import pipeline
from bsadvisor.measure.gradients import gradients_of
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.statistics import noise_scale
from bsadvisor.pipeline.gradient_phase import gradient_rounds
from bsadvisor.settings import ProbeSettings
from bsadvisor.values import AssumptionFacts, Estimate
from tests.benchmarks.tasks import Task, small_tasks

RESULTS = Path(__file__).parent / "results" / "coverage.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One task over all its probes."""

    task: str
    probes: int
    true_noise_scale: float
    data_over_noise_scale: float
    coverage: float
    width_over_spread: float
    converged: float
    median_over_truth: float
    median_examples: float


def true_noise_scale(task: Task) -> float:
    """tr(S) / |mean g|^2 over every example of the data set, one backward pass each."""
    total = torch.zeros(task.num_parameters, dtype=torch.float64)
    squared_norms = 0.0
    count = len(task.inputs)
    for at in range(count):
        loss = task.loss((task.inputs[at : at + 1], task.targets[at : at + 1]))
        parts = [grad for grad in gradients_of(loss, task.parameters).values() if grad is not None]
        gradient = torch.cat([part.flatten() for part in parts]).double()
        total += gradient
        squared_norms += float(gradient @ gradient)
    mean = total / count
    trace = (squared_norms - count * float(mean @ mean)) / (count - 1)
    return trace / float(mean @ mean)


def run_probe(task: Task, seed: int, settings: ProbeSettings) -> tuple[Estimate, bool, int]:
    """One adaptive probe: the training set's noise scale, whether it says it converged, examples used."""
    sampler = Sampler(task.data, seed=seed, min_gradient=16)
    watch = pipeline.Stopwatch(budget=1e9, began=time.perf_counter())
    session = pipeline.Session(
        target=task,  # type: ignore[arg-type]
        settings=settings,
        watch=watch,
        progress=lambda progress: None,
        stop=pipeline.StopSignal(),
    )
    probe, _, stopped_by = gradient_rounds(session, sampler, AssumptionFacts(), None)
    found = noise_scale(probe.accumulator.sums(), settings.confidence, task.data.size)
    return found, stopped_by == "precision", probe.accumulator.num_examples


def judge(task: Task, probes: int, settings: ProbeSettings) -> Row:
    """Repeat the probe over seeds; widths and spread are taken on q = 1 / B, where both are finite."""
    truth = true_noise_scale(task)
    runs = [run_probe(task, seed, settings) for seed in range(probes)]
    low = np.array([found.low if found.low is not None else 0.0 for found, _, _ in runs])
    high = np.array([found.high if found.high is not None else np.inf for found, _, _ in runs])
    value = np.array([found.value if found.value is not None else np.inf for found, _, _ in runs])
    lower, upper = np.percentile(1 / value, [2.5, 97.5])
    return Row(
        task=task.name,
        probes=probes,
        true_noise_scale=truth,
        data_over_noise_scale=len(task.inputs) / truth,
        coverage=float(((low <= truth) & (truth <= high)).mean()),
        width_over_spread=float(np.median(1 / low - 1 / high) / (upper - lower)),
        converged=float(np.mean([done for _, done, _ in runs])),
        median_over_truth=float(np.median(value) / truth),
        median_examples=float(np.median([examples for _, _, examples in runs])),
    )


def main() -> None:
    """Print a row per task, and the pooled coverage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--probes", type=int, default=200)
    parser.add_argument("--precision", type=float, default=0.5)
    parser.add_argument("--write", action="store_true", help="store the rows beside this file")
    arguments = parser.parse_args()
    settings = ProbeSettings(precision=arguments.precision, time_budget=1e9)
    print("task                    B_train  N/B  coverage  width/spread  converged  median/truth  examples")
    rows = []
    for task in small_tasks():
        row = judge(task, arguments.probes, settings)
        rows.append(row)
        print(
            f"{row.task:22} {row.true_noise_scale:8.1f} {row.data_over_noise_scale:5.0f} {row.coverage:9.3f}"
            f" {row.width_over_spread:13.2f} {row.converged:10.2f} {row.median_over_truth:13.2f}"
            f" {row.median_examples:9.0f}",
            flush=True,
        )
    pooled = sum(row.coverage * row.probes for row in rows) / sum(row.probes for row in rows)
    print(f"pooled coverage {pooled:.3f} of a nominal {settings.confidence}")
    if arguments.write:
        stored = {
            "torch": torch.__version__,
            "pooled_coverage": pooled,
            "rows": [asdict(row) for row in rows],
        }
        RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
