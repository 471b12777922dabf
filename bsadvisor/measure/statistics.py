"""From sums to the values of the report's section `gradient`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bsadvisor.measure.accumulator import GradientAccumulator
from bsadvisor.measure.gradients import GradientProbe
from bsadvisor.theory import noise_scale as theory
from bsadvisor.theory.noise_scale import Array, BlockSums, Interval, Moments
from bsadvisor.theory.signal_to_noise import shares, squared_t
from bsadvisor.values import Estimate, GradientStats, GroupStats, RawSums, SignalToNoise, UpdateNoise

MIN_BLOCKS = 4
"""Below this nothing is estimated: tr(Sigma^2) takes four distinct blocks."""


def gradient_stats(
    probe: GradientProbe,
    *,
    confidence: float,
    precision: float,
    batch_size: int | None,
    learning_rate: float | None,
) -> GradientStats:
    """All estimates that one probe's gradients allow, at the pair in use where there is one."""
    accumulator = probe.accumulator
    sums = accumulator.sums()
    adaptive = accumulator.sums(preconditioned=True) if probe.has_geometry else None
    estimated = probe.problem.preconditioner is None
    size = probe.problem.data.size
    return GradientStats(
        squared_norm=squared_norm(sums, confidence),
        noise_trace=noise_trace(sums, confidence),
        noise_scale_simple=noise_scale(sums, confidence),
        noise_scale_training_set=None if size is None else noise_scale(sums, confidence, size),
        noise_scale=None,
        noise_scale_preconditioned=None if adaptive is None else noise_scale(adaptive, confidence),
        squared_norm_preconditioned=None
        if adaptive is None or estimated
        else squared_norm(adaptive, confidence),
        effective_noise_dimensions=effective_dimensions(sums, confidence),
        update_noise=update_noise(sums, adaptive, confidence, batch_size, learning_rate),
        raw=raw_sums(sums),
        groups=group_stats(probe, confidence),
        left_out=probe.left_out(),
        signal_to_noise=signal_to_noise(accumulator, confidence, batch_size),
        examples_for_precision=examples_for_precision(sums, precision, confidence),
    )


def signal_to_noise(
    accumulator: GradientAccumulator, confidence: float, batch_size: int | None
) -> SignalToNoise | None:
    """How many coordinates are mostly noise at the batch size in use; of some, picked at random."""
    count = accumulator.num_micro_batches
    if batch_size is None or count < theory.MIN_MICRO_BATCHES:
        return None
    statistics = squared_t(*accumulator.coordinate_means(), count)
    if not len(statistics):
        return None
    noise, signal = shares(statistics, count - 1, accumulator.num_examples, batch_size, confidence)
    return SignalToNoise(
        batch_size=batch_size,
        coordinates=len(statistics),
        noise_dominated=estimate(noise, confidence),
        signal_dominated=estimate(signal, confidence),
    )


def squared_norm(sums: BlockSums, confidence: float) -> Estimate:
    """|G|^2 by the U-statistic, which can be negative."""
    return _jackknifed(sums, lambda moments: moments.squared_norm, confidence)


def noise_trace(sums: BlockSums, confidence: float) -> Estimate:
    """tr(Sigma) of one example."""
    return _jackknifed(sums, lambda moments: moments.noise_trace, confidence)


def noise_trace_in_use(probe: GradientProbe) -> float | None:
    """tr(Sigma), or tr(D Sigma) with an adaptive optimizer's D."""
    adaptive = probe.problem.preconditioner is not None
    return noise_trace(probe.accumulator.sums(preconditioned=adaptive), 0.95).value


def noise_scale(sums: BlockSums, confidence: float, dataset_size: int | None = None) -> Estimate:
    """B_simple of the population, or of a data set of the given size."""
    if sums.num_blocks < MIN_BLOCKS or not sums.weighted_squared_norm.any():
        return _unresolved(confidence)
    return estimate(theory.noise_scale(sums, confidence, dataset_size), confidence)


def update_noise(
    plain: BlockSums,
    adaptive: BlockSums | None,
    confidence: float,
    batch_size: int | None,
    learning_rate: float | None,
) -> UpdateNoise | None:
    """Variance of one update, without momentum: eta^2 tr(Sigma) / B, or tr(D Sigma) with an adaptive D."""
    if batch_size is None or learning_rate is None:
        return None
    trace = noise_trace(plain if adaptive is None else adaptive, confidence)
    factor = learning_rate**2 / batch_size
    return UpdateNoise(
        geometry="eta^2 tr(Sigma) / B" if adaptive is None else "eta^2 tr(D Sigma) / B, in the norm of 1/D",
        variance=Estimate(
            value=_scaled(trace.value, factor),
            low=_scaled(trace.low, factor),
            high=_scaled(trace.high, factor),
            confidence=confidence,
        ),
    )


def effective_dimensions(sums: BlockSums, confidence: float) -> Estimate:
    """tr(Sigma)^2 / tr(Sigma^2), jackknifed on its logarithm."""
    if sums.num_blocks <= MIN_BLOCKS:
        return _unresolved(confidence)
    gram = theory.block_mean_gram(sums)
    value = theory.noise_shape(gram).effective_dimensions
    kept = [np.delete(np.delete(gram, block, 0), block, 1) for block in range(len(gram))]
    replicates = np.array([theory.noise_shape(rest).effective_dimensions for rest in kept])
    if not math.isfinite(value) or not np.isfinite(replicates).all() or value <= 0:
        return _unresolved(confidence)
    variance = float(theory.jackknife_variance(np.log(replicates)))
    interval = theory.symmetric_interval(math.log(value), variance, confidence, len(gram) - 1)
    return estimate(
        Interval(value=value, low=math.exp(interval.low), high=math.exp(min(interval.high, 700.0))),
        confidence,
    )


def group_stats(probe: GradientProbe, confidence: float) -> tuple[GroupStats, ...]:
    """One row per module that owns parameters."""
    groups = parameter_groups([name for name in probe.accumulator.names if name in probe.reached])
    numbers = {name: number for number, name in enumerate(probe.accumulator.names)}
    members = {group: [numbers[name] for name in names] for group, names in groups.items()}
    return tuple(
        GroupStats(
            name=name,
            squared_norm=squared_norm(sums, confidence),
            noise_trace=noise_trace(sums, confidence),
            noise_scale_simple=noise_scale(sums, confidence),
        )
        for name, sums in probe.accumulator.sums_per_group(members).items()
    )


def parameter_groups(names: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Parameter names by the module that owns them.

    Example:
        >>> parameter_groups(["net.0.weight", "net.0.bias", "scale"])
        {'net.0': ['net.0.weight', 'net.0.bias'], 'scale': ['scale']}
        >>> parameter_groups(["_orig_mod.0.weight"])  # as torch.compile calls it
        {'0': ['_orig_mod.0.weight']}
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        plain = name.replace("_orig_mod.", "")
        groups.setdefault(plain.rpartition(".")[0] or plain, []).append(name)
    return groups


def examples_for_precision(sums: BlockSums, precision: float, confidence: float) -> int | None:
    """Forecast of the probe size that the asked precision takes; None once it is reached."""
    if sums.num_blocks < MIN_BLOCKS:
        return None
    scale = theory.noise_scale(sums, confidence)
    if theory.relative_half_width(scale) <= precision:
        return None
    needed = theory.examples_for_precision(sums, precision, confidence)
    return math.ceil(needed) if math.isfinite(needed) else None


def order_p_value(probe: GradientProbe) -> float | None:
    """Probability of neighbouring micro-batches this alike in shuffled data."""
    sums = probe.accumulator.sums()
    if sums.num_blocks < theory.MIN_MICRO_BATCHES:
        return None
    return theory.order_p_value(theory.block_mean_gram(sums))


def raw_sums(sums: BlockSums) -> RawSums:
    """The sums as plain values, to be stored."""
    return RawSums(
        micro_batches=tuple(int(count) for count in sums.micro_batches),
        examples=tuple(int(count) for count in sums.examples),
        weight=_floats(sums.weight),
        weight_squared=_floats(sums.weight_squared),
        weighted_squared_norm=_floats(sums.weighted_squared_norm),
        weight_squared_squared_norm=_floats(sums.weight_squared_squared_norm),
        total_squared_norm=float(sums.total_squared_norm),
        gram=tuple(_floats(row) for row in sums.gram),
    )


def _jackknifed(sums: BlockSums, statistic: Callable[[Moments], Array], confidence: float) -> Estimate:
    if sums.num_blocks < MIN_BLOCKS:
        return _unresolved(confidence)
    value = float(statistic(theory.moments(sums)))
    variance = float(theory.jackknife_variance(statistic(theory.leave_one_out(sums))))
    return estimate(theory.symmetric_interval(value, variance, confidence, sums.num_blocks - 1), confidence)


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _unresolved(confidence: float) -> Estimate:
    return Estimate(value=None, low=None, high=None, confidence=confidence)


def estimate(interval: Interval, confidence: float) -> Estimate:
    """The interval as a value of the report: what is not finite is None."""
    value, low, high = (
        number if math.isfinite(number) else None for number in (interval.value, interval.low, interval.high)
    )
    return Estimate(value=value, low=low, high=high, confidence=confidence)


def _floats(array: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in array)
