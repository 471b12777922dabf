"""What a report remarks on its trial."""

from __future__ import annotations

from collections.abc import Iterator

from bsadvisor.findings import finding
from bsadvisor.values import CriticalBatchSize, Finding, TrialStats


def about_trial(
    trial: TrialStats | None, impossible: str | None, critical: CriticalBatchSize, *, asked: bool
) -> Iterator[Finding]:
    """Why there is none, or how far to trust it.

    Args:
        impossible: why the target cannot be trained on trial, in words.
        critical: as predicted.
        asked: whether somebody asked for the trial; else nothing is said of one that did not run.
    """
    if impossible is not None and asked:
        yield finding("BSA310", reason=impossible)
    if trial is None:
        return
    if trial.target_loss is None:
        yield finding("BSA311", tried=trial.notes[-1] if trial.notes else "the target is out of reach")
        return
    if trial.curve and not trial.fits:
        yield finding("BSA312", residual=trial.residual or 0.0)
    for point in trial.curve:
        if point.at_edge:
            yield finding("BSA313", batch_size=point.batch_size, learning_rate=point.learning_rate)
    if trial.stopped_by != "precision":
        yield finding("BSA314", reason=_STOPPED[trial.stopped_by])
    value = trial.measured_critical_batch_size.value
    outside = value is not None and not (
        (critical.band_low or 0.0) <= value <= (critical.band_high or float("inf"))
    )
    if value is not None and critical.value is not None and outside:
        yield finding("BSA315", measured=value, predicted=critical.value)
    for note in trial.notes:
        yield finding("BSA316", note=note)


_STOPPED = {
    "time": "the time budget was spent",
    "max_examples": "--max-examples was reached",
    "interrupt": "it was interrupted",
}
