"""Our Lanczos iteration against ARPACK's for the same number of products.

    python -m tests.benchmarks.lanczos [--write]

The Hessian of a digits MLP in training, on 256 examples: the error of both ends, and the time spent
outside the products, relative to one of them. ARPACK (`scipy.sparse.linalg.eigsh`) counts its own
products; ours gets as many. It works on the host in numpy and keeps its whole basis.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn

from bsadvisor.measure.hessian import Hessian
from bsadvisor.measure.lanczos import lanczos
from tests.benchmarks.tasks import Task, digits, sgd, trained

RESULTS = Path(__file__).parent / "results"
EXAMPLES = 256


class Counted:
    """A product that counts and times its calls."""

    def __init__(self, product: Callable[[Tensor], Tensor]) -> None:
        self._product = product
        self.calls = 0
        self.seconds = 0.0

    def __call__(self, vector: Tensor) -> Tensor:
        began = time.perf_counter()
        result = self._product(vector)
        self.seconds += time.perf_counter() - began
        self.calls += 1
        return result


def operator(steps: int) -> tuple[Callable[[Tensor], Tensor], int]:
    """Products with the Hessian of a checkpoint, and its number of parameters."""
    torch.manual_seed(0)
    images, labels = digits()
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    task = trained(Task(name="MLP", model=model, inputs=images, targets=labels), steps, sgd(0.1, 0.9))
    hessian = Hessian(problem=task, seed=0)
    batch = [images[:EXAMPLES], labels[:EXAMPLES]]
    return lambda v: hessian.multiply(batch, 0, [v]).products[0], hessian.num_parameters


def dense_ends(product: Callable[[Tensor], Tensor], size: int) -> tuple[float, float]:
    """The truth: all columns, in float64."""
    columns = [product(column).double() for column in torch.eye(size)]
    values = torch.linalg.eigvalsh(torch.stack(columns))
    return float(values[0]), float(values[-1])


def arpack(product: Callable[[Tensor], Tensor], size: int, basis: int) -> tuple[float, float]:
    """Both ends with one restart of ARPACK's, so that it makes about `basis` products."""
    matrix = LinearOperator(
        (size, size), lambda v: product(torch.from_numpy(v.ravel())).numpy(), dtype="float32"
    )
    start = torch.randn(size, generator=torch.Generator().manual_seed(0)).numpy()
    try:
        values = eigsh(matrix, k=2, which="BE", ncv=basis, maxiter=1, v0=start, tol=1e-2)[0]
    except ArpackNoConvergence as unfinished:
        values = unfinished.eigenvalues
    return (float(values[0]), float(values[-1])) if len(values) == 2 else (np.nan, np.nan)


def row(steps: int, basis: int) -> dict[str, Any]:
    """Errors relative to the largest |eigenvalue|, and seconds outside the products."""
    product, size = operator(steps)
    truth = dense_ends(product, size)
    norm = max(map(abs, truth))

    def judged(run: Callable[[Counted], tuple[float, float]]) -> dict[str, float]:
        counted = Counted(product)
        began = time.perf_counter()
        found = run(counted)
        outside = time.perf_counter() - began - counted.seconds
        return {
            "products": counted.calls,
            "error, lowest": abs(found[0] - truth[0]) / norm,
            "error, highest": abs(found[1] - truth[1]) / norm,
            "overhead in products": outside / (counted.seconds / counted.calls),
        }

    theirs = judged(lambda counted: arpack(counted, size, basis))

    def ours(counted: Counted, keep_basis: bool) -> tuple[float, float]:
        generator = torch.Generator()
        found = lanczos(
            lambda v, total: total.add_(counted(v)),
            lambda: torch.randn(size, generator=generator.manual_seed(0)),
            max_iterations=int(theirs["products"]),
            tolerance=0.0,
            keep_basis=keep_basis,
        )
        return found.lowest.value, found.highest.value

    return {
        "step": steps,
        "ARPACK": theirs,
        "ours": judged(lambda counted: ours(counted, True)),
        "ours, lean": judged(lambda counted: ours(counted, False)),
    }


def main() -> None:
    """Print three lines per checkpoint."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="store the rows beside this file")
    arguments = parser.parse_args()
    rows = [row(steps, 24) for steps in (0, 60, 300)]
    print("step  method       products  error lowest  error highest  overhead in products")
    for found in rows:
        for method in ("ARPACK", "ours", "ours, lean"):
            figures = found[method]
            print(
                f"{found['step']:4}  {method:12} {figures['products']:8} {figures['error, lowest']:13.1e}"
                f" {figures['error, highest']:14.1e} {figures['overhead in products']:10.2f}"
            )
    if arguments.write:
        stored = {"device": "cpu", "torch": torch.__version__, "rows": rows}
        (RESULTS / "lanczos-cpu.json").write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
