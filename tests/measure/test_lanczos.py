"""Both ends of known spectra against `numpy.linalg.eigh`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bsadvisor.measure.lanczos import Extremes, RitzPair, lanczos

SIZE = 60


def symmetric(eigenvalues: Any, seed: int = 0) -> Any:
    """A matrix with these eigenvalues along random directions."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.as_tensor(eigenvalues, dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))
    return basis.Q @ torch.diag(values) @ basis.Q.T


def ends(matrix: Tensor, *, iterations: int = SIZE, tolerance: float = 0.0, **options: Any) -> Extremes:
    generator = torch.Generator().manual_seed(7)
    start = torch.randn(len(matrix), generator=generator, dtype=torch.float64).to(matrix.dtype)
    options.setdefault("keep_basis", True)
    return lanczos(
        lambda v, total: total.add_(matrix @ v),
        start.clone,
        max_iterations=iterations,
        tolerance=tolerance,
        **options,
    )


def true_residual(matrix: Tensor, pair: RitzPair) -> float:
    return float((matrix @ pair.vector - pair.value * pair.vector).norm())


WORLDS = {
    "definite": np.linspace(1, 5, SIZE),
    "negative definite": np.linspace(-5, -1, SIZE),
    "indefinite": np.linspace(-2, 5, SIZE),
    "degenerate": np.repeat([-2.0, 0.0, 1.0, 3.0], SIZE // 4),
    "ill-conditioned": np.geomspace(1e-6, 1, SIZE),
    "ill-conditioned, indefinite": np.concatenate([-np.geomspace(1e-6, 1e-2, 30), np.geomspace(1e-6, 1, 30)]),
    "zero": np.zeros(SIZE),
    "identity": np.ones(SIZE),
    "rank one": np.eye(SIZE)[0] * 4,
    "negative rank one": np.eye(SIZE)[0] * -4,
    "one outlier below": np.concatenate([[-1.0], np.linspace(0, 0.1, SIZE - 1)]),
    "size one": np.array([-3.0]),
    "size two": np.array([-3.0, 2.0]),
    "tiny": 1e-20 * np.linspace(-2, 5, SIZE),
    "huge": 1e15 * np.linspace(-2, 5, SIZE),
}


@pytest.mark.parametrize("keep_basis", [True, False])
@pytest.mark.parametrize("world", list(WORLDS))
def test_both_ends_are_those_of_eigh(world: str, keep_basis: bool) -> None:
    matrix = symmetric(WORLDS[world])
    wanted = np.linalg.eigh(matrix.numpy())[0]
    size = np.abs(wanted).max() or 1.0
    found = ends(matrix, keep_basis=keep_basis)
    for pair, value in ((found.lowest, wanted[0]), (found.highest, wanted[-1])):
        assert pair.value == pytest.approx(value, abs=(1e-8 if keep_basis else 1e-5) * size)
        assert float(pair.vector.norm()) == pytest.approx(1)
        assert true_residual(matrix, pair) < 1e-4 * size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("keep_basis", [True, False])
@pytest.mark.parametrize("iterations", [1, 2, 5, 12, 24])
def test_residuals_are_estimated_right(iterations: int, keep_basis: bool, dtype: torch.dtype) -> None:
    matrix = symmetric(WORLDS["indefinite"]).to(dtype)
    found = ends(matrix, iterations=iterations, keep_basis=keep_basis)
    values = torch.linalg.eigvalsh(matrix)
    for pair in (found.lowest, found.highest):
        assert pair.residual == pytest.approx(true_residual(matrix, pair), rel=0.02, abs=1e-5)
        assert float((values - pair.value).abs().min()) <= pair.residual + 1e-5
        assert values[0] - 1e-5 <= pair.value <= values[-1] + 1e-5


@pytest.mark.parametrize("world", ["definite", "indefinite", "ill-conditioned, indefinite", "rank one"])
def test_without_a_basis_the_same_is_found(world: str) -> None:
    matrix = symmetric(WORLDS[world]).float()
    kept, lean = (ends(matrix, iterations=24, keep_basis=keep) for keep in (True, False))
    assert lean.iterations == 2 * kept.iterations - 1 or world == "rank one"
    for one, other in ((kept.lowest, lean.lowest), (kept.highest, lean.highest)):
        assert one.value == pytest.approx(other.value, abs=1e-4)
    assert abs(float(kept.highest.vector @ lean.highest.vector)) == pytest.approx(1, abs=1e-3)


def test_products_are_counted_and_end_with_the_tolerance() -> None:
    matrix, calls = symmetric(WORLDS["one outlier below"]), []

    def product(vector: Tensor, total: Tensor) -> None:
        calls.append(1)
        total += matrix @ vector

    start = torch.randn(SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = lanczos(product, start.clone, max_iterations=50, tolerance=1e-2, keep_basis=True)
    assert found.iterations == len(calls) < 20
    assert max(found.lowest.residual, found.highest.residual) <= 1e-2
    assert found.lowest.value == pytest.approx(-1, abs=1e-3)
    calls.clear()
    lean = lanczos(product, start.clone, max_iterations=50, tolerance=1e-2, keep_basis=False)
    assert lean.iterations == len(calls) == 2 * found.iterations - 1


def test_a_stop_returns_what_was_found() -> None:
    answers = iter([False, False, True])
    found = ends(symmetric(WORLDS["indefinite"]), should_stop=lambda: next(answers))
    assert found.iterations == 3
    assert found.lowest.value < 1.5 < found.highest.value


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_products_that_are_not_finite_are_told(bad: float) -> None:
    matrix = symmetric(WORLDS["indefinite"])
    matrix[3, 4] = bad
    with pytest.raises(FloatingPointError, match="not finite"):
        ends(matrix)
