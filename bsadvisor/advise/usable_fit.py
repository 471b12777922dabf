"""What the fit of a trial leaves to reckon with: without numpy, as saved reports are judged by it, too."""

from __future__ import annotations

from bsadvisor.values import TrialStats


def usable_fit(trial: TrialStats) -> tuple[float, float] | None:
    """B_crit and S_min, or the least B_crit that is possible with the S_min that belongs to it."""
    critical, steps = trial.measured_critical_batch_size, trial.minimum_steps
    if critical.value is not None and steps.value is not None:
        return critical.value, steps.value
    if critical.low is not None and steps.high is not None:
        return critical.low, steps.high
    return None
