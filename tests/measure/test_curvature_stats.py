"""The ends of known spectra: what low, value and high of an estimate are made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bsadvisor.measure.curvature import MeasuredCurvature
from bsadvisor.measure.curvature_stats import curvature_stats, mean_estimate
from bsadvisor.measure.hessian import Hessian
from bsadvisor.measure.spectrum import Sample, Spectrum, find_spectrum
from bsadvisor.values import CurvatureStats, Estimate
from tests.worlds import bent_quadratic, quadratic

DIRECTION, CERTIFICATE, SIZE = 24, 8, 16
SCALE = 3.0


def spectrum(
    world: Any, *, scale: float | None = None, iterations: int = 40, keep_basis: bool = True
) -> Spectrum:
    hessian = Hessian(problem=world, seed=0)
    if scale is not None:
        hessian = replace(hessian, scale=torch.full((hessian.num_parameters,), scale))
    batches = list(world.data.fetch(np.arange((DIRECTION + CERTIFICATE) * SIZE).reshape(-1, SIZE)))
    sample = Sample(
        direction=batches[:DIRECTION],
        certificate=batches[DIRECTION:],
        micro_batch=SIZE,
        iterations=iterations,
    )
    found = find_spectrum(hessian, sample, keep_basis=keep_basis, seed=0)
    assert found is not None
    return found


def stats(own: Spectrum | None, plain: Spectrum | None, *, adaptive: bool = False) -> CurvatureStats:
    found = MeasuredCurvature(method="exact", method_reason=None, spectrum=own, plain_spectrum=plain)
    return curvature_stats(found, 0.95, adaptive=adaptive)


def ends(estimate: Estimate | None) -> tuple[float, float, float]:
    assert estimate is not None and estimate.value is not None
    assert estimate.low is not None and estimate.high is not None
    return estimate.low, estimate.value, estimate.high


@pytest.mark.parametrize("keep_basis", [True, False])
def test_where_all_examples_agree_both_ends_are_the_eigenvalues(keep_basis: bool) -> None:
    world = quadratic()
    own = spectrum(world, keep_basis=keep_basis)
    found = stats(own, own)
    for estimate, wanted in (
        (found.lambda_max, float(world.hessian.max())),
        (found.lambda_min, float(world.hessian.min())),
    ):
        low, value, high = ends(estimate)
        assert value == pytest.approx(wanted, abs=0.02 * float(world.hessian.max()))
        assert low - 1e-6 <= value <= high + 1e-6
    assert ends(found.lambda_max)[2] >= float(world.hessian.max()) * (1 - 1e-5)
    assert ends(found.lambda_min)[0] <= float(world.hessian.min()) + 1e-5


@pytest.mark.parametrize("kind", ["definite", "indefinite", "degenerate", "ill-conditioned"])
def test_an_interval_holds_the_end_of_the_spectrum_however_the_examples_scatter(kind: Any) -> None:
    held = []
    for seed in range(40):
        world = bent_quadratic(kind, seed=seed, examples=(DIRECTION + CERTIFICATE) * SIZE)
        own = spectrum(world)
        found = stats(own, own)
        low, _, high = ends(found.lambda_max)
        held.append(low <= float(world.hessian.max()) <= high)
        low, _, high = ends(found.lambda_min)
        held.append(low <= float(world.hessian.min()) <= high)
    assert np.mean(held) >= 0.9


def test_a_far_end_reaches_as_far_as_the_residual_and_both_samples_errors() -> None:
    own = spectrum(bent_quadratic("indefinite", examples=(DIRECTION + CERTIFICATE) * SIZE), iterations=3)
    found = stats(own, own)
    pair, other = own.extremes.highest, mean_estimate(own.highest.curvatures, 0.95)
    low, value, high = ends(found.lambda_max)
    assert (low, value) == (other.low, other.value)
    assert other.high is not None
    assert own.error_ratio == pytest.approx((CERTIFICATE / DIRECTION) ** 0.5)
    assert high == max(other.high, pair.value + pair.residual + (other.high - value) * own.error_ratio)
    pair, other = own.extremes.lowest, mean_estimate(own.lowest.curvatures, 0.95)
    low, value, high = ends(found.lambda_min)
    assert (value, high) == (other.value, other.high)
    assert other.low is not None
    assert low == min(other.low, pair.value - pair.residual - (value - other.low) * own.error_ratio)
    assert found.residual == max(
        end.residual / abs(end.value) for end in (own.extremes.lowest, own.extremes.highest)
    )


def test_without_a_plain_spectrum_the_optimizers_one_bounds_the_plain_ends_from_inside() -> None:
    world = quadratic()
    own = spectrum(world, scale=SCALE)
    found = stats(own, None, adaptive=True)
    top, bottom = float(world.hessian.max()), float(world.hessian.min())
    assert found.lambda_max is not None and found.lambda_min is not None
    assert found.lambda_max.value == pytest.approx(top, rel=0.02)
    assert found.lambda_min.value == pytest.approx(bottom, abs=0.02 * top)
    assert found.lambda_max.high is None and found.lambda_min.low is None
    assert ends(found.lambda_max_preconditioned)[1] == pytest.approx(SCALE**2 * top, rel=0.02)


def test_vectors_that_were_let_go_leave_every_figure() -> None:
    own = spectrum(bent_quadratic("indefinite", examples=(DIRECTION + CERTIFICATE) * SIZE))
    lean, leaner = own.lean(keep_lowest=True), own.lean(keep_lowest=False)
    assert (
        stats(lean, None, adaptive=True)
        == stats(leaner, None, adaptive=True)
        == stats(own, None, adaptive=True)
    )
    assert lean.lowest.displacement is own.lowest.displacement
    assert leaner.lowest.displacement.numel() == lean.highest.displacement.numel() == 0
    assert lean.lowest.squared_length == pytest.approx(float(own.lowest.displacement.square().sum()))


def test_without_any_spectrum_there_are_no_ends() -> None:
    found = stats(None, None, adaptive=True)
    assert found.lambda_max is found.lambda_min is found.lambda_max_preconditioned is None
    assert found.trace is None and found.iterations is None and found.residual is None
    assert found.direction_examples == 0
