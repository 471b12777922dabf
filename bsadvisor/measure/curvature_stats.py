"""From products and directions to the values of the report's section `curvature`."""

from __future__ import annotations

from dataclasses import replace

from bsadvisor.measure.curvature import MeasuredCurvature
from bsadvisor.measure.escape_direction import AlongDirection
from bsadvisor.measure.spectrum import Spectrum
from bsadvisor.measure.statistics import estimate
from bsadvisor.theory import curvature_noise
from bsadvisor.theory.curvature_noise import CurvatureProducts
from bsadvisor.theory.noise_scale import Array
from bsadvisor.values import CurvatureStats, Estimate


def curvature_stats(found: MeasuredCurvature, confidence: float, *, adaptive: bool) -> CurvatureStats:
    """All estimates of one curvature phase; the learning-rate limit is left to whoever knows the rule."""
    own, plain = found.spectrum, found.plain_spectrum
    return CurvatureStats(
        along_noise=None if found.products is None else noise_curvature(found.products, confidence),
        along_gradient=None if found.products is None else gradient_curvature(found.products, confidence),
        lambda_max=_largest(plain or own, confidence, in_own_units=plain is not None),
        lambda_max_preconditioned=_largest(own, confidence, in_own_units=True) if adaptive else None,
        lambda_min=_smallest(plain or own, confidence, in_own_units=plain is not None),
        trace=None if own is None else mean_estimate(own.traces, confidence),
        learning_rate_limit=None,
        method=found.method,
        direction_examples=own.sample.direction_examples if own else 0,
        certificate_examples=own.sample.certificate_examples if own else 0,
        iterations=own.extremes.iterations if own else None,
        residual=_residual(own) if own else None,
        skipped=tuple(found.skipped),
    )


def noise_scale(products: CurvatureProducts | None, confidence: float) -> Estimate | None:
    """B_noise, or its Gauss-Newton version; no value where it is not defined."""
    if products is None:
        return None
    return estimate(curvature_noise.curvature_noise_scale(products, confidence), confidence)


def gradient_curvature(products: CurvatureProducts, confidence: float) -> Estimate:
    """G'HG / |G|^2."""
    return estimate(curvature_noise.curvature_along_gradient(products, confidence), confidence)


def noise_curvature(products: CurvatureProducts, confidence: float) -> Estimate:
    """tr(H Sigma) / tr(Sigma)."""
    return estimate(curvature_noise.curvature_along_noise(products, confidence), confidence)


def mean_estimate(values: Array, confidence: float) -> Estimate:
    """The mean of independent values with its t interval."""
    return estimate(curvature_noise.mean_interval(values, confidence), confidence)


def _largest(spectrum: Spectrum | None, confidence: float, *, in_own_units: bool) -> Estimate | None:
    """Up from what a direction has on other examples, to what the best one had on its own."""
    if spectrum is None:
        return None
    other = _other_examples(spectrum.highest, confidence, in_own_units)
    if not in_own_units or other.value is None or other.high is None:
        return replace(other, high=None)
    pair = spectrum.extremes.highest
    reach = (other.high - other.value) * spectrum.error_ratio
    return replace(other, high=max(other.high, pair.value + pair.residual + reach))


def _smallest(spectrum: Spectrum | None, confidence: float, *, in_own_units: bool) -> Estimate | None:
    """Down from what a direction has on other examples, to what the best one had on its own."""
    if spectrum is None:
        return None
    other = _other_examples(spectrum.lowest, confidence, in_own_units)
    if not in_own_units or other.value is None or other.low is None:
        return replace(other, low=None)
    pair = spectrum.extremes.lowest
    reach = (other.value - other.low) * spectrum.error_ratio
    return replace(other, low=min(other.low, pair.value - pair.residual - reach))


def _other_examples(along: AlongDirection, confidence: float, in_own_units: bool) -> Estimate:
    """v'Hv of examples that did not choose v: never beyond the ends of the spectrum but by their own error."""
    return mean_estimate(along.curvatures / (1.0 if in_own_units else along.squared_length), confidence)


def _residual(spectrum: Spectrum) -> float | None:
    """Of the worse end, relative to its eigenvalue."""
    pairs = spectrum.extremes.lowest, spectrum.extremes.highest
    ratios = [pair.residual / abs(pair.value) for pair in pairs if pair.value]
    return max(ratios, default=None)
