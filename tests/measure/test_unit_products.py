"""What B_noise is made of, entry by entry, and what the intervals made of it cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bsadvisor.advise.curvature_plan import CurvaturePlan
from bsadvisor.measure import curvature as phase
from bsadvisor.measure.curvature import CurvatureProbe, MeasuredCurvature
from bsadvisor.measure.curvature_stats import curvature_stats, mean_estimate, noise_scale
from bsadvisor.measure.hessian import Hessian, Products
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.unit_products import unit_products
from bsadvisor.theory.curvature_noise import CurvatureProducts, bends_up
from bsadvisor.values import Estimate
from tests.worlds import BentQuadratic, bent_quadratic

PROBES = 200
KINDS = ["definite", "indefinite", "degenerate", "ill-conditioned"]


class Matrices:
    """Hessians and gradients that are simply given."""

    def __init__(self, units: int, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.gradients = torch.randn(units, size, generator=generator)
        self.hessians = torch.randn(units, size, size, generator=generator)
        self.numbers: list[int] = []

    def multiply(self, batch: int, number: int, vectors: Sequence[Tensor]) -> Products:
        self.numbers.append(number)
        return Products(
            gradient=self.gradients[batch], products=[self.hessians[batch] @ vector for vector in vectors]
        )

    def gradient(self, batch: int, number: int) -> Tensor:
        assert number == batch
        return self.gradients[batch]


def products_of(matrices: Any, units: int, sizes: Sequence[int], **options: Any) -> CurvatureProducts:
    found = unit_products(matrices, range(units), examples=4, sizes=sizes, seed=0, **options)
    assert found is not None
    return found


def test_every_hessian_meets_the_next_ones_gradient() -> None:
    units, matrices = 17, Matrices(17, 5)
    found = products_of(matrices, units, [2, 3])
    partners = matrices.gradients.roll(-1, 0)
    turned = torch.einsum("kij,kj->ki", matrices.hessians, partners)
    assert found.products == pytest.approx((turned @ matrices.gradients.T).numpy(), rel=1e-4, abs=1e-5)
    gram = (matrices.gradients @ matrices.gradients.T).numpy()
    assert found.gram == pytest.approx(gram, rel=1e-4, abs=1e-5)
    assert found.summed_product == pytest.approx(float(turned.sum(0) @ matrices.gradients.sum(0)), rel=1e-4)
    assert found.summed_squared_norm == pytest.approx(gram.sum(), rel=1e-4)
    assert found.examples == 4 and matrices.numbers == list(range(17))[::-1]


def test_sketches_of_long_vectors_keep_the_exact_entries_exact() -> None:
    units, size = 16, 20_000

    class Long(Matrices):
        def __init__(self) -> None:
            generator = torch.Generator().manual_seed(0)
            self.gradients = torch.randn(units, size, generator=generator) + 1
            self.numbers = []

        def multiply(self, batch: int, number: int, vectors: Sequence[Tensor]) -> Products:
            return Products(gradient=self.gradients[batch], products=[(batch + 1) * v for v in vectors])

    matrices = Long()
    found = products_of(matrices, units, [size])
    factors = torch.arange(1.0, units + 1)[:, None]
    turned = (factors * matrices.gradients.roll(-1, 0)).double()
    wanted = (turned @ matrices.gradients.double().T).numpy()
    at = np.arange(units)
    for columns in (at, (at + 1) % units):
        assert found.products[at, columns] == pytest.approx(wanted[at, columns], rel=1e-5)
    assert found.products == pytest.approx(wanted, rel=0.2)
    assert not np.allclose(found.products, wanted, rtol=1e-5)  # the others are sketched
    assert found.summed_product == pytest.approx(wanted.sum(), rel=1e-5)


def test_the_sign_of_the_gradients_curvature_leaves_out_shared_examples() -> None:
    class Shared(Matrices):
        """Of G'HG = -1 per pair of disjoint units, under a large positive product with their own noise."""

        def __init__(self) -> None:
            noise = 100 * torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(0))).Q
            self.gradients = torch.cat([torch.ones(20, 1), noise], dim=1)
            self.numbers = []

        def multiply(self, batch: int, number: int, vectors: Sequence[Tensor]) -> Products:
            bend = torch.tensor([-1.0] + [1.0] * 20)
            return Products(gradient=self.gradients[batch], products=[bend * vector for vector in vectors])

    found = products_of(Shared(), 20, [21])
    assert found.summed_product > 0 and not bends_up(found)


@pytest.mark.parametrize("where", ["gradients", "hessians"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_told(where: str, bad: float) -> None:
    matrices = Matrices(16, 4)
    getattr(matrices, where)[2, 1] = bad
    with pytest.raises(FloatingPointError, match="not finite"):
        products_of(matrices, 16, [4])


def test_a_stop_leaves_nothing_half_done() -> None:
    answers = iter([False, False, True])
    matrices = Matrices(16, 4)
    found = unit_products(
        matrices, range(16), examples=4, sizes=[4], seed=0, should_stop=lambda: next(answers)
    )
    assert found is None and matrices.numbers == [15, 14]


# --- coverage, in worlds whose examples have Hessians of their own ---


def closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products without autograd, so that thousands take seconds; the saddle verdict is not asked for."""

    def multiply(self: Hessian, batch: Tensor, number: int, vectors: Sequence[Tensor]) -> Products:
        world: Any = self.problem
        size, mean = len(world.position), batch.mean(0)
        bent = torch.diag(world.hessian) + mean[size:].view(size, size)
        gradient = bent @ world.position + mean[:size]
        return Products(gradient=gradient, products=[bent @ vector for vector in vectors])

    def add(self: Hessian, total: Tensor, batch: Tensor, number: int, v: Tensor, *, share: float) -> None:
        total.add_(multiply(self, batch, number, [v]).products[0], alpha=share)

    def inner(self: Hessian, batch: Tensor, number: int, vectors: Sequence[Tensor]) -> Any:
        found = multiply(self, batch, number, vectors)
        curvatures = [float(v @ product) for v, product in zip(vectors, found.products, strict=True)]
        return [float(v @ found.gradient) for v in vectors], curvatures

    monkeypatch.setattr(Hessian, "multiply", multiply)
    monkeypatch.setattr(Hessian, "add_product", add)
    monkeypatch.setattr(Hessian, "inner_products", inner)
    monkeypatch.setattr(
        Hessian, "gradient", lambda *given: multiply(given[0], given[1], given[2], []).gradient
    )
    monkeypatch.setattr(phase, "choose_method", lambda *_: ("exact", None))
    monkeypatch.setattr(CurvatureProbe, "_escape", lambda *_: None)


PLAN = CurvaturePlan(
    micro_batch=16,
    noise_batches=20,
    direction_batches=2,
    certificate_batches=16,
    iterations=6,
    search_direction_batches=4,
    search_certificate_batches=4,
    search_iterations=6,
)
EXAMPLES = 512


def measured(world: BentQuadratic, seed: int) -> MeasuredCurvature:
    sampler = Sampler(world.data, seed=seed)
    probe = CurvatureProbe(
        world, sampler, PLAN, divide_by_examples=False, noise_trace=None, seconds_per_pass=0.0, seed=seed
    )
    return probe.run(time_left=lambda: 1e9, stop=lambda: False)


def test_the_closed_form_is_what_autograd_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    world = bent_quadratic("indefinite", examples=EXAMPLES)
    wanted = measured(world, 0)
    closed_form(monkeypatch)
    found = measured(world, 0)
    assert found.products is not None and wanted.products is not None
    assert found.products.products == pytest.approx(wanted.products.products, rel=1e-4, abs=1e-5)
    assert found.spectrum is not None and wanted.spectrum is not None
    assert found.spectrum.lowest.curvatures == pytest.approx(wanted.spectrum.lowest.curvatures, abs=1e-4)


def inside(estimate: Estimate | None, truth: float) -> bool:
    assert estimate is not None
    low = -np.inf if estimate.low is None else estimate.low
    return low <= truth <= (np.inf if estimate.high is None else estimate.high)


def judged(kind: str, seed: int) -> dict[str, bool]:
    """Which statements about one draw of a finite table of the world hold."""
    world = bent_quadratic(kind, seed=seed, examples=EXAMPLES)
    found = measured(world, seed)
    stats = curvature_stats(found, 0.95, adaptive=False)
    hessian, spectrum = world.hessian.double(), found.spectrum
    assert spectrum is not None and stats.lambda_max is not None and stats.lambda_min is not None
    assert stats.lambda_max.low is not None and stats.lambda_min.high is not None
    along = {
        name: inside(mean_estimate(end.curvatures, 0.95), float(hessian @ end.displacement.double().square()))
        for name, end in (("lowest", spectrum.lowest), ("highest", spectrum.highest))
    }
    b_noise = noise_scale(found.products, 0.95)
    return {
        **{f"v'Hv, {name}": holds for name, holds in along.items()},
        "trace": inside(stats.trace, float(hessian.sum())),
        "G'HG / |G|^2": inside(stats.along_gradient, world.gradient_curvature / world.squared_norm),
        "B_noise": inside(b_noise, world.noise_scale),
        "B_noise is told": b_noise is not None and b_noise.value is not None,
        "lambda_max.low": stats.lambda_max.low <= float(hessian.max()),
        "lambda_min.high": stats.lambda_min.high >= float(hessian.min()),
    }


def coverage(kind: str, probes: int = PROBES) -> dict[str, float]:
    rows = [judged(kind, seed) for seed in range(probes)]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_cover_the_truth_of_the_population(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    closed_form(monkeypatch)
    found = coverage(kind)
    assert found.pop("B_noise is told") >= 0.5  # else the interval would cover by being endless
    one_sided = {name: found.pop(name) for name in ("lambda_max.low", "lambda_min.high")}
    assert min(found.values()) >= 0.93, found
    assert min(one_sided.values()) >= 0.97, one_sided


def test_what_was_found_on_its_own_examples_would_not_bound_the_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    closed_form(monkeypatch)
    outside = []
    for seed in range(60):
        world = bent_quadratic("degenerate", seed=seed, examples=EXAMPLES)
        spectrum = measured(world, seed).spectrum
        assert spectrum is not None
        outside.append(spectrum.extremes.highest.value > float(world.hessian.max()))
        outside.append(spectrum.extremes.lowest.value < float(world.hessian.min()))
    assert np.mean(outside) > 0.8


@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_a_noise_that_is_far_off_would_be_noticed(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    closed_form(monkeypatch)
    right = unit_products

    def wrong(*given: Any, **options: Any) -> CurvatureProducts | None:
        found = right(*given, **options)
        return found and replace(found, examples=int(found.examples * factor))

    monkeypatch.setattr(phase, "unit_products", wrong)
    assert coverage("indefinite", 60)["B_noise"] < 0.9
