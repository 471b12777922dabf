"""What interval and band leave possible of the numbers that rules compare with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from bsadvisor.values import Estimate, Reach, Report


def critical_batch_size(report: Report) -> Reach:
    """B_crit: as a trial measured it; else predicted, with the wider of its interval and its band at either end."""
    measured = report.trial.measured_critical_batch_size if report.trial else None
    if measured is not None and measured.value is not None:
        return Reach(value=measured.value, low=measured.low, high=measured.high)
    found = report.predicted_critical_batch_size
    value, low, high = map(_positive, (found.value, found.low, found.high))
    if value is not None:
        low = _outer(min, low, _positive(found.band_low))
        high = _outer(max, high, _positive(found.band_high))
    return _trusted(report, Reach(value=value, low=low, high=high))


def noise_scale(report: Report) -> Reach:
    """Bn of the learning-rate rule, as far as it can be trusted."""
    found = report.gradient.own_noise_scale
    value, low, high = map(_positive, (found.value, found.low, found.high))
    return _trusted(report, Reach(value=value, low=low, high=high))


def why_open(report: Report) -> tuple[str, str]:
    """Why an end is missing, and what would give it."""
    if at_initial_weights(report):
        return (
            "measured at initial weights, where noise scales are far below the run's",
            "probe with --checkpoint FILE from the run",
        )
    if at_saddle(report):
        return (
            "the weights sit at a saddle, whose noise says little of the run that leaves it",
            "probe a later checkpoint",
        )
    if report.gradient.noise_scale_simple.value is None:
        return "the gradient was not resolved from its noise", "probe more examples: raise --time-budget"
    return "the noise scale has no upper end yet", "probe more examples: raise --time-budget"


def why_no_curvature(report: Report, missing: str) -> tuple[str, str]:
    """Why a part of it is missing, and what would give it."""
    if any(found.code == "BSA219" for found in report.findings):
        return (
            "no second derivative of this model could be had",
            "a rule that needs none, such as `learning_rate: range`",
        )
    return missing, "probe without --no-curvature"


def unknown_optimizer(report: Report) -> str:
    """Where no rule knows its steps."""
    return f"what {report.target.optimizer or 'the optimizer'} makes of a gradient is not known here"


def at_initial_weights(report: Report) -> bool:
    """Noise scales grow during training: what was measured is a lower bound of the run's."""
    return report.target.checkpoint is None


def at_saddle(report: Report) -> bool:
    """Surely so."""
    return report.saddle is not None and report.saddle.verdict == "warning"


def finite(number: float | None) -> float | None:
    """Without what JSON cannot say."""
    return number if number is not None and math.isfinite(number) else None


def reach(value: float | None, low: float | None, high: float | None) -> Reach:
    """Of numbers that may have run over."""
    return Reach(value=finite(value), low=finite(low), high=finite(high))


def factor_between(new: Estimate, old: Estimate) -> Reach:
    """By what factor, above 1, a positive number has changed in either direction."""
    grown = _ratio(new.value, old.value)
    larger, smaller = (new, old) if grown is None or grown >= 1 else (old, new)
    low = _ratio(larger.low, smaller.high)
    return reach(
        _ratio(larger.value, smaller.value),
        None if low is None else max(low, 1.0),
        _ratio(larger.high, smaller.low),
    )


def _trusted(report: Report, found: Reach) -> Reach:
    """Without the ends that the run may be beyond."""
    if at_saddle(report):
        return Reach(value=found.value, low=None, high=None)
    if at_initial_weights(report):
        return Reach(value=found.value, low=found.low, high=None)
    return found


def _outer(choose: Callable[[Iterable[float]], float], end: float | None, band: float | None) -> float | None:
    return None if end is None or band is None else choose((end, band))


def _positive(number: float | None) -> float | None:
    return number if number is not None and number > 0 else None


def _ratio(a: float | None, b: float | None) -> float | None:
    a, b = _positive(a), _positive(b)
    return None if a is None or b is None else a / b
