"""Whether the numbers of a saved report still follow from one another."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bsadvisor.findings import finding
from bsadvisor.theory.training_cost import examples_over_minimum, steps_over_minimum, usable_fit
from bsadvisor.values import CriticalBatchSize, Estimate, Finding, RawSums, Report

TOLERANCE = 1e-3


def contradictions(report: Report) -> Iterator[Finding]:
    """At most one finding: the first number that does not follow from those it was computed from."""
    try:
        where = next(_wrong(report), None)
    except ArithmeticError:
        where = "some of its numbers are too large or too small to be reckoned with"
    if where is not None:
        yield finding("BSA393", what=where)


def _wrong(report: Report) -> Iterator[str]:
    gradient, critical = report.gradient, report.predicted_critical_batch_size
    if not _is_ordered(gradient.noise_scale_simple):
        yield "the ends of gradient.noise_scale_simple are not around its value"
    if not (_is_ordered(critical) and _is_banded(critical)):
        yield "the ends of predicted_critical_batch_size are not around its value"
    expected = _noise_scale(gradient.raw)
    if not _follows(gradient.noise_scale_simple.value, expected):
        yield f"gradient.noise_scale_simple does not follow from gradient.raw, which gives {expected:.4g}"
    name, size = _source_of_rows(report)
    for row in report.recommendations:
        if row.basis == "predicted" and size:
            examples = examples_over_minimum(row.batch_size, size)
            steps = steps_over_minimum(row.batch_size, size)
            if not (
                _follows(row.examples_over_minimum, examples) and _follows(row.steps_over_minimum, steps)
            ):
                yield f"the row of B = {row.batch_size:,} does not follow from {name}"


def _source_of_rows(report: Report) -> tuple[str, float | None]:
    """Name and value of the critical batch size that rows without a measurement of their own stand on."""
    trial = report.trial
    fit = usable_fit(trial.measured_critical_batch_size, trial.minimum_steps) if trial else None
    if fit is not None and any(row.basis == "measured" for row in report.recommendations):
        return "trial.measured_critical_batch_size", fit[0]
    return "predicted_critical_batch_size", report.predicted_critical_batch_size.value


def _is_ordered(estimate: Estimate | CriticalBatchSize) -> bool:
    known = [end for end in (estimate.low, estimate.value, estimate.high) if end is not None]
    return known == sorted(known)


def _is_banded(critical: CriticalBatchSize) -> bool:
    known = [end for end in (critical.band_low, critical.value, critical.band_high) if end is not None]
    return known == sorted(known)


def _noise_scale(raw: RawSums) -> float | None:
    """tr(Sigma) / |G|^2 as `theory.noise_scale` has it; None where it is not resolved."""
    weight, examples, batches = sum(raw.weight), sum(raw.examples), sum(raw.micro_batches)
    pairs = weight**2 - sum(raw.weight_squared)
    if pairs <= 0 or batches <= 0 or weight <= 0:
        return None
    squared_norm = (raw.total_squared_norm - sum(raw.weight_squared_squared_norm)) / pairs
    trace = (sum(raw.weighted_squared_norm) - weight * squared_norm) / batches * examples / weight
    return trace / squared_norm if squared_norm > 0 and trace > 0 else None


def _follows(stated: float | None, expected: float | None) -> bool:
    return stated is None or expected is None or math.isclose(stated, expected, rel_tol=TOLERANCE)
