"""Do the parts of the gradient noise that dropout and data have hold the truth, on real data?

    python -m tests.benchmarks.mask_noise [--probes 100] [--write]

The truth is brute force: every example's own gradient under 200 masks, and, where a batch shares its mask,
the whole data set's gradient under 2,000. The ridge is judged in a linear model, by the mean loss over masks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from bsadvisor.measure.dropout_ridge import dropout_ridges
from bsadvisor.measure.gradients import gradients_of
from bsadvisor.measure.mask_noise import MaskProbe
from bsadvisor.measure.sampler import Sampler
from bsadvisor.theory import mask_noise as theory
from bsadvisor.theory.noise_scale import Interval
from tests.benchmarks.coverage import RESULTS as COVERAGE
from tests.benchmarks.tasks import Task, digits, sgd, trained

RESULTS = COVERAGE.with_name("mask-noise.json")

MICRO_BATCHES, SIZES = 32, (8, 32)

MASKS, SHARED_MASKS, RIDGE_MASKS = 200, 2000, 2000

AT_A_TIME = 4096
"""Gradients of single examples."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One quantity over all probes of a net at one size of micro-batch."""

    net: str
    micro_batch: int
    quantity: str
    truth: float
    coverage: float
    mean_over_truth: float | None
    """None where the truth is 0."""
    half_width: float
    """Median, over the truth; over the noise of a micro-batch where the truth is 0."""


class OfTheBatch(nn.Module):
    """Dropout with one mask for all examples."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden * (torch.rand(hidden.shape[-1]) >= self.rate) / (1 - self.rate)


class Rows(nn.Module):
    """A transformer layer over the eight rows of a digit."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.inward = nn.Linear(8, width)
        self.layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.2, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layer(self.inward(images.unflatten(-1, (8, 8)))).mean(-2))
        return logits


def mlp(dropout: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), dropout, nn.Linear(32, 10))


def nets(examples: int) -> Iterator[Task]:
    """In the middle of their training."""
    images, labels = (part[:examples] for part in digits())
    builds: dict[str, Callable[[], nn.Module]] = {"MLP": lambda: mlp(nn.Dropout(0.4)), "transformer": Rows}
    for name, build in builds.items():
        torch.manual_seed(0)
        yield trained(Task(name=name, model=build(), inputs=images, targets=labels), 150, sgd(0.1, 0.9))


def with_shared_masks(examples: int) -> Task:
    images, labels = (part[:examples] for part in digits())
    torch.manual_seed(0)
    task = Task(name="MLP, shared masks", model=mlp(OfTheBatch(0.4)), inputs=images, targets=labels)
    return trained(task, 150, sgd(0.1, 0.9))


# --- the truth ----------------------------------------------------------------------------------


def true_traces(task: Task, masks: int) -> tuple[float, float]:
    """Of data and masks: the sample covariance of each example's mean over masks, less what masks leave in it."""
    count = len(task.inputs)
    per_call = max(1, AT_A_TIME // masks)
    total = torch.zeros(task.num_parameters, dtype=torch.float64)
    squares, within = 0.0, 0.0
    for at in range(0, count, per_call):
        found = _gradients(task, torch.arange(at, min(at + per_call, count)).repeat_interleave(masks))
        found = found.unflatten(0, (-1, masks)).double()
        means = found.mean(1)
        total += means.sum(0)
        squares += float(means.square().sum())
        within += float(found.var(1).sum())
    mask = within / count
    between = (squares - float(total.square().sum()) / count) / (count - 1)
    return between - mask / masks, mask


def _gradients(task: Task, numbers: Tensor) -> Tensor:
    """(examples, parameters): of each by itself, each under a mask of its own."""
    parameters = {name: parameter.detach() for name, parameter in task.parameters.items()}

    def loss(weights: dict[str, Tensor], inputs: Tensor, target: Tensor) -> Tensor:
        logits = functional_call(task.model, weights, (inputs.unsqueeze(0),))
        return nn.functional.cross_entropy(logits, target.unsqueeze(0))

    each: Any = vmap(grad(loss), in_dims=(None, 0, 0), randomness="different")
    found: dict[str, Tensor] = each(parameters, task.inputs[numbers], task.targets[numbers])
    return torch.cat([found[name].flatten(1) for name in parameters], dim=1)


def true_floor(task: Task, masks: int, mask_trace: float) -> float:
    """Mean covariance of two examples' gradients over the masks of a batch, from the whole data set's."""
    count, rows = len(task.inputs), []
    for _ in range(masks):
        loss = task.loss((task.inputs, task.targets))
        parts = [part for part in gradients_of(loss, task.parameters).values() if part is not None]
        rows.append(torch.cat([part.flatten() for part in parts]))
    whole = float(torch.stack(rows).double().var(0).sum())
    return (count * whole - mask_trace) / (count - 1)


# --- the estimates ------------------------------------------------------------------------------


def judge(task: Task, size: int, probes: int, truths: dict[str, float]) -> list[Row]:
    """All quantities that have a truth."""
    intervals: dict[str, list[Interval]] = {name: [] for name in truths}
    rest = []
    for seed in range(probes):
        probe = MaskProbe(
            task,
            Sampler(task.data, seed=seed, min_gradient=MICRO_BATCHES * size),
            micro_batch=size,
            small=size // 4 if "floor" in truths else None,
            masks=2,
            draws=1,
            seed=seed,
            reduction="mean",
        )
        found = probe.run(MICRO_BATCHES, time_left=lambda: 1e9, stop=lambda: False)
        assert found is not None
        intervals["data"].append(theory.split(found.sums, lambda parts: parts.data, 0.95))
        if "mask" in truths:
            intervals["mask"].append(theory.split(found.sums, lambda parts: parts.mask, 0.95))
        if found.floor is not None:
            intervals["floor"].append(theory.floor_of(found.floor, lambda line: line.floor, 0.95))
        rest.append(float(found.sums.between_masks.mean()))
    return [
        _row(task.name, size, name, truths[name], intervals[name], truths[name] or float(np.mean(rest)))
        for name in truths
    ]


def _row(net: str, size: int, quantity: str, truth: float, found: list[Interval], unit: float) -> Row:
    held = [interval.low <= truth <= interval.high for interval in found]
    widths = [(interval.high - interval.low) / 2 for interval in found]
    mean = float(np.mean([interval.value for interval in found]))
    return Row(
        net=net,
        micro_batch=size,
        quantity=quantity,
        truth=truth,
        coverage=float(np.mean(held)),
        mean_over_truth=mean / truth if truth else None,
        half_width=float(np.median(widths)) / unit,
    )


def ridge(masks: int, keep: float = 0.7) -> dict[str, float]:
    """In linear regression behind dropout: mean loss over masks less the loss without, against the ridge."""
    images, labels = digits()
    torch.manual_seed(0)
    linear = nn.Linear(64, 1, bias=False)
    nn.init.normal_(linear.weight)  # a penalty large enough for its brute force to be exact
    model = nn.Sequential(nn.Dropout(1 - keep), linear)
    targets = labels.float()

    class Regression:
        def __init__(self) -> None:
            self.model = model

        def loss(self, batch: Any, *, full_precision: bool = False) -> Tensor:
            value: Tensor = (model(batch[0]).squeeze(1) - batch[1]).square().mean() / 2
            return value

    problem = Regression()
    with torch.no_grad():
        dropped = torch.stack([problem.loss((images, targets)) for _ in range(masks)]).mean()
        plain = (linear(images).squeeze(1) - targets).square().mean() / 2
    weights = linear.weight.detach().squeeze(0).double()
    strengths = torch.tensor(
        [theory.ridge_strength(keep, float(s)) for s in images.double().square().mean(0)]
    )
    batches = list(zip(images[:1408].split(88), targets[:1408].split(88), strict=True))
    (found,) = dropout_ridges(
        problem,  # type: ignore[arg-type]
        iter(batches),
        confidence=0.95,
        seed=0,
        should_stop=lambda: False,
    )
    measured = found.strength.value
    assert measured is not None
    return {
        "penalty_by_brute_force": float(dropped - plain),
        "penalty_of_the_ridge": float((strengths * weights.square()).sum() / 2),
        "mean_strength": float(strengths.mean()),
        "mean_strength_measured": measured,
    }


def run(probes: int, examples: int, masks: int, shared: int) -> Iterator[Row]:
    """Row after row."""
    for task in nets(examples):
        data, mask = true_traces(task, masks)
        for size in SIZES:
            yield from judge(task, size, probes, {"data": data, "mask": mask, "floor": 0.0})
    task = with_shared_masks(examples)
    data, mask = true_traces(task, masks)
    floor = true_floor(task, shared, mask)
    for size in SIZES:
        yield from judge(task, size, probes, {"data": data, "floor": floor})


def main() -> None:
    """Print a row per net, size and quantity; then the ridge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--probes", type=int, default=100)
    parser.add_argument("--write", action="store_true", help="store the rows beside this file")
    arguments = parser.parse_args()
    print("net                 b  quantity     truth  coverage  mean/truth  half width", flush=True)
    rows = []
    for row in run(arguments.probes, len(digits()[0]), MASKS, SHARED_MASKS):
        rows.append(row)
        over = "–" if row.mean_over_truth is None else f"{row.mean_over_truth:.3f}"
        print(
            f"{row.net:18} {row.micro_batch:2}  {row.quantity:8} {row.truth:9.4g} {row.coverage:9.3f}"
            f" {over:>11} {row.half_width:11.2f}",
            flush=True,
        )
    for quantity in ("data", "mask", "floor"):
        some = [row.coverage for row in rows if row.quantity == quantity]
        print(f"{quantity}: pooled coverage {np.mean(some):.3f}, least {min(some):.3f}, of a nominal 0.95")
    found = ridge(RIDGE_MASKS)
    print(", ".join(f"{name.replace('_', ' ')} {value:.5g}" for name, value in found.items()))
    if arguments.write:
        stored = {
            "torch": torch.__version__,
            "probes": arguments.probes,
            "masks": MASKS,
            "ridge": found,
            "rows": [asdict(row) for row in rows],
        }
        RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
