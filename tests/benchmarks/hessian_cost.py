"""What do products with the Hessian cost over a plain forward and backward pass?

    python -m tests.benchmarks.hessian_cost [--repeats 7] [--device cuda] [--write]

On one micro-batch of the default size, in turn with plain passes in one process, medians of paired
ratios: a product added to a sum, as Lanczos wants it; slopes and curvatures along three vectors on one
graph, as the certificate does; a product by differences; a Gauss-Newton product; and the loss alone.
`curvature.PASSES_PER_GRADIENT + n * PASSES_PER_PRODUCT` is fitted to the first two.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from bsadvisor.measure.gauss_newton import GaussNewton
from bsadvisor.measure.gradients import gradients_of
from bsadvisor.measure.hessian import Hessian, double_backward_allowed
from bsadvisor.measure.sampler import Sampler
from tests.benchmarks.cost import paired, tasks
from tests.benchmarks.tasks import Task

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("1 vector", "3 vectors", "differences", "Gauss-Newton", "loss", "gradient", "product")
VECTORS = 3


def ratios(task: Task, repeats: int) -> dict[str, float]:
    """Every operation over a plain pass over the same micro-batch, and the two fitted costs."""
    size = task.per_device_batch or 32
    batch = next(Sampler(task.data, seed=0, min_gradient=16).gradient(0, 1, size))
    hessian = Hessian(problem=task, seed=0)
    differences = replace(hessian, method="finite_differences")
    gauss_newton = GaussNewton(problem=task, seed=0)
    generator = torch.Generator().manual_seed(0)
    vectors = [
        torch.randn(hessian.num_parameters, generator=generator).to(hessian.like) for _ in range(VECTORS)
    ]
    total = torch.zeros_like(vectors[0])
    operations: dict[str, Callable[[], object]] = {
        "1 vector": lambda: hessian.add_product(total, batch, 0, vectors[0], share=1.0),
        "3 vectors": lambda: hessian.inner_products(batch, 0, vectors),
        "differences": lambda: differences.add_product(total, batch, 0, vectors[0], share=1.0),
        "Gauss-Newton": lambda: gauss_newton.multiply(batch, 0, vectors[:1]),
        "loss": lambda: hessian.loss(batch, 0),
    }

    def plain() -> None:
        gradients_of(task.loss(batch), task.parameters)

    with double_backward_allowed(task.model):
        found = {
            name: paired(lambda run=run: run(), plain, repeats, task.device)  # type: ignore[misc]
            for name, run in operations.items()
        }
    product = (found["3 vectors"] - found["1 vector"]) / (VECTORS - 1)
    return {**found, "gradient": found["1 vector"] - product, "product": product}


def main() -> None:
    """Print a row per model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true", help="store the rows beside this file")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(f"passes per product on {name}, torch {torch.__version__}")
    print(f"{'model':24}" + "".join(f"{column:>14}" for column in COLUMNS))
    rows = []
    for task in tasks(device):
        found = ratios(task, arguments.repeats)
        rows.append({"model": task.name, **found})
        print(f"{task.name:24}" + "".join(f"{found[column]:14.2f}" for column in COLUMNS), flush=True)
    if arguments.write:
        stored = {"device": name, "torch": torch.__version__, "rows": rows}
        file = RESULTS / f"hessian-cost-{device.type}.json"
        file.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
