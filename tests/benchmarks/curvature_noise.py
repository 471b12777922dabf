"""Do the intervals of B_noise and its parts cover the truth, on linear regression with a known one?

    python -m tests.benchmarks.curvature_noise [--seeds 1000] [--write]

An example x ~ N(0, S) with residual r has gradient r x and its own Hessian x x', so that both are tied
together and Hessians differ from one another as much as gradients. A constant term A d, with Hessian A,
makes the mean Hessian S + A indefinite. S and A are diagonal; the mean gradient is (S + A) d.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict, dataclass

import numpy as np
import torch

from bsadvisor.theory import curvature_noise as theory
from bsadvisor.theory.curvature_noise import CurvatureProducts
from bsadvisor.theory.noise_scale import Array
from tests.benchmarks.coverage import RESULTS as COVERAGE

RESULTS = COVERAGE.with_name("curvature-noise.json")

SIZES = ((16, 8), (16, 32), (32, 8), (32, 32))
"""K micro-batches of b examples."""

QUANTITIES = {
    "G'HG": theory.along_gradient,
    "tr(H Sigma)": theory.noise_curvature,
    "G'HG/|G|^2": theory.curvature_along_gradient,
    "B_noise": theory.curvature_noise_scale,
}


@dataclass(frozen=True, kw_only=True)
class World:
    """Linear regression plus a quadratic without noise."""

    spectrum: Array
    """Diagonal of S."""
    constant: Array
    """Diagonal of A."""
    displacement: float
    """Every entry of d."""
    residual: float
    """Standard deviation of the targets' noise."""

    def draw(self, rng: np.random.Generator, k: int, b: int) -> CurvatureProducts:
        """Inner products of k micro-batches of b examples."""
        size = len(self.spectrum)
        x = rng.normal(size=(k, b, size)) * np.sqrt(self.spectrum)
        errors = x.sum(-1) * self.displacement + self.residual * rng.normal(size=(k, b))
        h = (x * errors[..., None]).mean(1) + self.constant * self.displacement
        following = np.roll(h, -1, axis=0)
        along = np.einsum("kbp,kp->kb", x, following)
        u = np.einsum("kbp,kb->kp", x, along) / b + self.constant * following
        return products_of(u, h, b)

    def truth(self) -> dict[str, float]:
        """From the Gaussian's fourth moments."""
        hessian, pull = self.spectrum + self.constant, self.spectrum * self.displacement
        gradient = hessian * self.displacement
        variance = self.spectrum.sum() * self.displacement**2 + self.residual**2
        noise = float((hessian * (self.spectrum * variance + pull**2)).sum())
        along, norm = float((hessian * gradient**2).sum()), float((gradient**2).sum())
        return dict(zip(QUANTITIES, (along, noise, along / norm, noise / along), strict=True))


def products_of(u: Array, h: Array, b: int) -> CurvatureProducts:
    """From vectors."""
    total = h.sum(0)
    return CurvatureProducts(
        products=u @ h.T,
        summed_product=float(u.sum(0) @ total),
        gram=h @ h.T,
        summed_squared_norm=float(total @ total),
        examples=b,
    )


INDEX = np.arange(1, 13.0)
WORLDS = {
    "definite": World(spectrum=INDEX**0, constant=0 * INDEX, displacement=0.29, residual=1.0),
    "ill-conditioned": World(spectrum=INDEX**-2, constant=0 * INDEX, displacement=0.7, residual=1.0),
    "indefinite": World(
        spectrum=1 / INDEX, constant=np.where(INDEX % 3 == 0, -0.5, 0.2), displacement=0.4, residual=1.0
    ),
    "weak gradient": World(spectrum=1 / INDEX, constant=0 * INDEX, displacement=0.15, residual=1.0),
    "unlike Hessians": World(spectrum=INDEX**-0.5, constant=0 * INDEX, displacement=0.5, residual=0.1),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Over seeds; an interval without an end on one side holds everything there."""

    world: str
    micro_batches: int
    examples: int
    quantity: str
    truth: float
    coverage: float
    resolved: float
    """Share of values that are not NaN."""
    coverage_where_resolved: float


def judge(name: str, k: int, b: int, seeds: int, confidence: float = 0.95) -> list[Row]:
    """Coverage of every quantity in one world."""
    rng, world = np.random.default_rng(1), WORLDS[name]
    draws = [world.draw(rng, k, b) for _ in range(seeds)]
    rows = []
    for quantity, truth in world.truth().items():
        intervals = [QUANTITIES[quantity](draw, confidence) for draw in draws]
        held = np.array([not (interval.low > truth or interval.high < truth) for interval in intervals])
        resolved = np.array([not np.isnan(interval.value) for interval in intervals])
        rows.append(
            Row(
                world=name,
                micro_batches=k,
                examples=b,
                quantity=quantity,
                truth=truth,
                coverage=float(held.mean()),
                resolved=float(resolved.mean()),
                coverage_where_resolved=float((held & resolved).sum() / max(1, resolved.sum())),
            )
        )
    return rows


def main() -> None:
    """Print a row per world, size and quantity."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--write", action="store_true", help="store the rows beside this file")
    arguments = parser.parse_args()
    rows = [row for name in WORLDS for k, b in SIZES for row in judge(name, k, b, arguments.seeds)]
    print("world             K   b  quantity        truth  coverage  resolved  coverage where resolved")
    for row in rows:
        print(
            f"{row.world:15} {row.micro_batches:3} {row.examples:3}  {row.quantity:12} {row.truth:8.4f}"
            f" {row.coverage:9.3f} {row.resolved:9.2f} {row.coverage_where_resolved:9.3f}"
        )
    for quantity in QUANTITIES:
        some = [row.coverage for row in rows if row.quantity == quantity]
        print(f"{quantity:12} pooled coverage {np.mean(some):.3f}, least {min(some):.3f}, nominal 0.95")
    if arguments.write:
        stored = {
            "torch": torch.__version__,
            "numpy": np.__version__,
            "device": f"cpu, {platform.machine()}",
            "seeds": arguments.seeds,
            "rows": [asdict(row) for row in rows],
        }
        RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
