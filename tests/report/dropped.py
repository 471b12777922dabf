"""Reports of models with dropout, and of augmented data."""

from __future__ import annotations

from dataclasses import replace

from bsadvisor.values import DropoutRidge, DropoutStats, Estimate, KeepProbability, Report
from tests.report.sample import contract_report, estimate


def share(value: float) -> Estimate:
    """A part of a whole."""
    return Estimate(value=value, low=value - 0.05, high=value + 0.06, confidence=0.95)


def stats() -> DropoutStats:
    """Masks of every example, two rates, one layer with a ridge that matters."""
    return DropoutStats(
        data_trace=estimate(2.8, 1.1),
        mask_trace=estimate(1.4, 1.1),
        augmentation_trace=None,
        mask_share=share(0.33),
        augmentation_share=None,
        masks="per_example",
        mask_sharing=Estimate(value=0.01, low=-0.02, high=0.04, confidence=0.95),
        mask_floor=Estimate(value=0.001, low=-0.004, high=0.006, confidence=0.95),
        floor_batch_size=Estimate(value=None, low=700.0, high=None, confidence=0.95),
        averaged_away=Estimate(value=0.98, low=0.88, high=1.0, confidence=0.95),
        keep_probabilities=(
            KeepProbability(name="features.2", keep=0.9),
            KeepProbability(name="head.0", keep=0.5),
        ),
        ridges=(
            DropoutRidge(
                name="head.1",
                keep=0.5,
                strength=estimate(0.21, 1.05),
                learning_rate_factor=Estimate(value=0.81, low=0.79, high=0.83, confidence=0.95),
            ),
        ),
        micro_batches=32,
        micro_batch_size=32,
        small_micro_batch_size=8,
    )


def _with(dropout: DropoutStats) -> Report:
    report = contract_report()
    return replace(report, gradient=replace(report.gradient, dropout=dropout))


def dropout() -> Report:
    """That a batch averages away."""
    return _with(stats())


def shared_masks() -> Report:
    """A floor, and augmentation beside it."""
    size = Estimate(value=180.0, low=140.0, high=260.0, confidence=0.95)
    return _with(
        replace(
            stats(),
            masks="shared",
            mask_sharing=Estimate(value=1.0, low=0.9, high=1.1, confidence=0.95),
            floor_batch_size=size,
            ridges=(),
            augmentation_trace=estimate(0.6),
            augmentation_share=share(0.12),
        )
    )


def augmentation() -> Report:
    """Without dropout."""
    return _with(
        replace(
            stats(),
            mask_trace=None,
            mask_share=None,
            masks=None,
            mask_sharing=None,
            mask_floor=None,
            floor_batch_size=None,
            averaged_away=None,
            keep_probabilities=(),
            ridges=(),
            small_micro_batch_size=None,
            augmentation_trace=estimate(0.6),
            augmentation_share=share(0.12),
        )
    )
