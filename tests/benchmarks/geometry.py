"""Do the intervals of the noise scale in an optimizer's own geometry hold the truth?

    python -m tests.benchmarks.geometry [--probes 200] [--write]

On closed-form worlds the truth is tr(D Sigma) / (G'DG); on an MLP and a character transformer that were trained
with real optimizers it is computed from the gradients of all examples, one at a time. D comes from the state that
the optimizer has gathered or, where it keeps none, is estimated by every probe anew from examples set apart.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bsadvisor import pipeline
from bsadvisor.measure.geometry import estimate_geometry
from bsadvisor.measure.known_answers import NoisyQuadratic
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.statistics import noise_scale
from bsadvisor.pipeline.gradient_phase import gradient_rounds
from bsadvisor.settings import ProbeSettings
from bsadvisor.target.geometry_rule import geometry_rule
from bsadvisor.target.second_moments import find_second_moments
from bsadvisor.values import AssumptionFacts, Estimate, GeometryRule
from tests.benchmarks.coverage import RESULTS as COVERAGE
from tests.benchmarks.tasks import CharTransformer, Task, digits, shakespeare
from tests.lion import Lion
from tests.worlds import probe

RESULTS = COVERAGE.with_name("geometry.json")

SEQUENCES, LENGTH = 4000, 16
"""Of the text: many more than a probe reads."""

AT_ONCE = 50
"""Examples whose gradients are computed together."""

Diagonal = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case over all its probes."""

    case: str
    geometry_from: str
    probes: int
    true_noise_scale: float
    noise_scale_simple: float
    """The truth without D."""
    coverage: float
    resolved: float
    """Share of probes with a value."""
    median_over_truth: float
    median_examples: float


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What one probe said of which truth."""

    found: Estimate
    truth: float
    examples: int

    @property
    def holds(self) -> bool:
        low, high = self.found.low, self.found.high
        return (low is None or low <= self.truth) and (high is None or self.truth <= high)


def judge(case: str, source: str, simple: float, probed: list[Probed]) -> Row:
    """The row of a case."""
    resolved = [one for one in probed if one.found.value is not None]
    ratios = [(one.found.value or 0.0) / one.truth for one in resolved]
    return Row(
        case=case,
        geometry_from=source,
        probes=len(probed),
        true_noise_scale=float(np.median([one.truth for one in probed])),
        noise_scale_simple=simple,
        coverage=float(np.mean([one.holds for one in probed])),
        resolved=len(resolved) / len(probed),
        median_over_truth=float(np.median(ratios)) if ratios else 0.0,
        median_examples=float(np.median([one.examples for one in probed])),
    )


# --- closed-form worlds --------------------------------------------------------------------------


DIMENSIONS = 200
INDEX = torch.arange(1, DIMENSIONS + 1).float()
NOISE = INDEX**-0.5
"""Deviations."""

WORLDS: dict[str, dict[str, Any]] = {
    "noise-dominated Adam": {"diagonal": 1 / NOISE},
    "gradient where D is large": {"diagonal": INDEX**2, "hessian": INDEX / DIMENSIONS},
    "gradient where D is small": {"diagonal": INDEX**2, "hessian": 1 / INDEX},
    "heavy tails": {"diagonal": 1 / NOISE, "heavy_tailed": True},
}


def world(name: str, seed: int) -> NoisyQuadratic:
    """With B_D near 100, and examples drawn anew for every seed."""
    kind = {"hessian": torch.ones(DIMENSIONS), **WORLDS[name]}
    diagonal, hessian = kind["diagonal"], kind.pop("hessian")
    size = float(((diagonal * NOISE**2).sum() / (diagonal * hessian**2).sum() / 100).sqrt())
    return NoisyQuadratic(
        hessian=hessian, position=torch.full((DIMENSIONS,), size), deviations=NOISE, seed=seed, **kind
    )


def probe_world(name: str, seed: int, examples: int = 512) -> Probed:
    """With micro-batches of 16."""
    problem = world(name, seed)
    measured = probe(problem, examples=examples, micro_batch=16, seed=seed)
    found = noise_scale(measured.accumulator.sums(preconditioned=True), 0.95)
    return Probed(found=found, truth=problem.noise_scale_preconditioned, examples=examples)


# --- trained networks ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A task, its optimizer's D or how it would come about, and what is true of every coordinate."""

    task: Task
    source: str
    diagonal: Diagonal | None
    rule: GeometryRule | None
    mean_square: dict[str, Tensor]
    """mu^2 of each coordinate, without bias for the examples as a sample."""
    variance: dict[str, Tensor]

    def truth(self, diagonal: Diagonal | None = None) -> float:
        """tr(D Sigma) / (G'DG); of B_simple without a D."""
        parts = self.mean_square.items()
        weights = {name: 1.0 if diagonal is None else diagonal[name].double() for name, _ in parts}
        signal = sum(float((weights[name] * square).sum()) for name, square in parts)
        noise = sum(float((weights[name] * part).sum()) for name, part in self.variance.items())
        return noise / signal

    def probe(self, seed: int) -> Probed:
        """As the pipeline does it, with adaptive stopping on."""
        settings = ProbeSettings(time_budget=1e9)
        sampler = Sampler(self.task.data, seed=seed, geometry=self.rule is not None)
        session = pipeline.Session(
            target=self.task,  # type: ignore[arg-type]
            settings=settings,
            watch=pipeline.Stopwatch(budget=1e9, began=time.perf_counter()),
            progress=lambda progress: None,
            stop=pipeline.StopSignal(),
        )
        diagonal = self.diagonal if self.rule is None else self._estimate(sampler, seed)
        done, _, _ = gradient_rounds(session, sampler, AssumptionFacts(), None, preconditioner=diagonal)
        found = noise_scale(done.accumulator.sums(preconditioned=True), 0.95)
        return Probed(found=found, truth=self.truth(diagonal), examples=done.accumulator.num_examples)

    def _estimate(self, sampler: Sampler, seed: int) -> Diagonal:
        assert self.rule is not None
        estimated = estimate_geometry(
            self.task,
            sampler,
            self.rule,
            batch_size=32,
            divide_by_examples=False,
            seed=seed,
            time_left=lambda: 1e9,
            stop=lambda: False,
        )
        assert estimated is not None
        return estimated.preconditioner


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3),
    "Adafactor": lambda parameters: torch.optim.Adafactor(parameters, lr=1e-2),
    "Lion": lambda parameters: Lion(parameters, lr=1e-4),
    "SGD, two rates": lambda parameters: _two_rates(list(parameters)),
}


def _two_rates(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    half = len(parameters) // 2
    groups = [{"params": parameters[:half], "lr": 0.02}, {"params": parameters[half:]}]
    return torch.optim.SGD(groups, lr=0.2)  # type: ignore[arg-type]


def trained(task: Task, optimizer: str, steps: int, *, without_state: bool = False) -> Trained:
    """After some steps at B = 32."""
    generator = torch.Generator().manual_seed(0)
    stepper = OPTIMIZERS[optimizer](task.model.parameters())
    for _ in range(steps):
        picks = torch.randint(len(task.inputs), (32,), generator=generator)
        stepper.zero_grad()
        task.loss((task.inputs[picks], task.targets[picks])).backward()
        stepper.step()
    stepper.zero_grad(set_to_none=True)
    kept = stepper if not without_state else OPTIMIZERS[optimizer](task.model.parameters())
    moments = find_second_moments(type(stepper).__name__.lower(), task.model, kept, None)
    rule = geometry_rule(moments, stepper.param_groups[0])
    mean_square, variance = coordinates(task)
    return Trained(
        task=task,
        source="probe" if rule else moments.state,
        diagonal=moments.preconditioner,
        rule=rule,
        mean_square=mean_square,
        variance=variance,
    )


def per_example(task: Task, which: slice) -> dict[str, Tensor]:
    """(examples, ...) gradients of single examples, all at once."""

    def loss(weights: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        output = torch.func.functional_call(task.model, weights, (inputs[None],))
        return nn.functional.cross_entropy(output.flatten(0, -2), targets.reshape(-1))

    weights = {name: part.detach() for name, part in task.parameters.items()}
    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
    with sdpa_kernel(SDPBackend.MATH):  # the others cannot be vectorized
        found: dict[str, Tensor] = gradients(weights, task.inputs[which], task.targets[which])
    return found


def coordinates(task: Task) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """mu^2 and sigma^2 of every coordinate from the gradient of every example; mu^2 can be negative."""
    count = len(task.inputs)
    total = {name: torch.zeros_like(part, dtype=torch.float64) for name, part in task.parameters.items()}
    squares = {name: torch.zeros_like(part) for name, part in total.items()}
    for at in range(0, count, AT_ONCE):
        for name, gradients in per_example(task, slice(at, at + AT_ONCE)).items():
            total[name] += gradients.sum(0)
            squares[name] += gradients.double().square().sum(0)
    means = {name: part / count for name, part in total.items()}
    variance = {name: (squares[name] - count * mean.square()) / (count - 1) for name, mean in means.items()}
    return {name: mean.square() - variance[name] / count for name, mean in means.items()}, variance


def mlp(optimizer: str) -> Trained:
    """Of digits."""
    images, labels = digits()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    return trained(Task(name="MLP", model=model, inputs=images, targets=labels), optimizer, 60)


def cases() -> Iterator[tuple[str, Callable[[], Trained]]]:
    """Networks with the state of real optimizers; the transformer where the text is at hand."""
    yield "MLP, SGD, two rates", lambda: mlp("SGD, two rates")
    text = shakespeare(SEQUENCES)
    if text is None:
        return
    inputs, targets, vocabulary = text
    inputs, targets = inputs[:, :LENGTH].contiguous(), targets[:, :LENGTH].contiguous()

    def transformer(optimizer: str, steps: int, *, without_state: bool = False) -> Trained:
        torch.manual_seed(0)
        model = CharTransformer(vocabulary, width=24, layers=1, context=LENGTH)
        task = Task(name="transformer", model=model, inputs=inputs, targets=targets)
        return trained(task, optimizer, steps, without_state=without_state)

    yield "transformer, AdamW, step 200", lambda: transformer("AdamW", 200)
    yield "transformer, AdamW, step 20", lambda: transformer("AdamW", 20)
    yield (
        "transformer, AdamW without state, step 200",
        lambda: transformer("AdamW", 200, without_state=True),
    )
    yield "transformer, Adafactor, step 200", lambda: transformer("Adafactor", 200)
    yield "transformer, Lion, step 200", lambda: transformer("Lion", 200)


def main() -> None:
    """Print a row per case, and the pooled coverage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--probes", type=int, default=200)
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--write", action="store_true", help="store the rows beside this file")
    arguments = parser.parse_args()
    print(
        "case                                        D from    B_D     B_simple  coverage  resolved  median/truth"
    )
    rows = []
    for name in WORLDS:
        if arguments.only in name:
            simple = world(name, 0).noise_scale_simple
            probed = [probe_world(name, seed) for seed in range(arguments.probes)]
            rows.append(shown(judge(name, "world", simple, probed)))
    for name, make in cases():
        if arguments.only in name:
            case = make()
            probed = [case.probe(seed) for seed in range(arguments.probes)]
            rows.append(shown(judge(name, case.source, case.truth(), probed)))
    if rows:
        coverages = [row.coverage for row in rows]
        print(f"mean coverage {np.mean(coverages):.3f}, least {min(coverages):.3f}, nominal 0.95")
    if arguments.write:
        stored = stored_rows() | {row.case: asdict(row) for row in rows}
        content = {"torch": torch.__version__, "rows": [*stored.values()]}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def stored_rows() -> dict[str, dict[str, Any]]:
    """Those that are stored, by case: each can be measured anew by itself."""
    if not RESULTS.is_file():
        return {}
    return {row["case"]: row for row in json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]}


def shown(row: Row) -> Row:
    """Printed as soon as it is known."""
    print(
        f"{row.case:43} {row.geometry_from:8} {row.true_noise_scale:7.1f} {row.noise_scale_simple:8.1f}"
        f" {row.coverage:9.3f} {row.resolved:9.2f} {row.median_over_truth:13.2f}",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()
