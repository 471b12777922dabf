"""The critical batch size as far as one checkpoint can predict it."""

from __future__ import annotations

import math

from bsadvisor.theory import calibration
from bsadvisor.values import CriticalBatchSize, Estimate


def predict_critical_batch_size(noise_scale: Estimate) -> CriticalBatchSize:
    """B_simple with its systematic bias taken off, and the band that past predictions earned.

    The band joins the stored error of predicting with the sampling error of this probe.
    """
    ratio = calibration.systematic_ratio()
    value, low, high = (
        None if end is None else end / ratio for end in (noise_scale.value, noise_scale.low, noise_scale.high)
    )
    return CriticalBatchSize(
        value=value,
        low=low,
        high=high,
        confidence=noise_scale.confidence,
        band_low=_band_end(value, low, -1),
        band_high=_band_end(value, high, +1),
        band_confidence=calibration.BAND_CONFIDENCE,
        method=(
            f"B_simple / {ratio:.2f}: the mean ratio over {len(calibration.SIMPLE_OVER_CRITICAL)} "
            "long branches, whose scatter is the band"
        ),
    )


def _band_end(value: float | None, end: float | None, sign: int) -> float | None:
    if value is None or end is None:
        return None
    sampling = abs(math.log(end / value)) * calibration.SAMPLING_SHARE
    return value * math.exp(sign * math.hypot(calibration.band_log_half_width(), sampling))
