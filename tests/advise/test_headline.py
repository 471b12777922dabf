"""The one line: try, keep, or nothing, and why."""

from __future__ import annotations

import pytest

from bsadvisor.advise.critical import predict_critical_batch_size
from bsadvisor.advise.headline import headline
from bsadvisor.advise.pairs import PairInUse, recommend
from bsadvisor.theory import calibration
from bsadvisor.values import CriticalBatchSize, Estimate, Headline


def critical(value: float | None = 95, *, high: float | None = 150) -> CriticalBatchSize:
    ratio = calibration.systematic_ratio()
    scale = Estimate(
        value=None if value is None else value * ratio,
        low=60 * ratio,
        high=None if high is None else high * ratio,
        confidence=0.95,
    )
    return predict_critical_batch_size(scale)


def decide(
    batch: int | None,
    found: CriticalBatchSize,
    *,
    checkpoint: bool = True,
    size: int | None = None,
    at_saddle: bool = False,
) -> Headline:
    pair = PairInUse(batch_size=batch, learning_rate=1e-3, optimizer=None)
    value = found.value
    rows = () if value is None else recommend(pair, critical=value, noise_scale=value, dataset_size=size)
    return headline(rows, found, batch_in_use=batch, has_checkpoint=checkpoint, at_saddle=at_saddle)


@pytest.mark.parametrize("batch", [32, 8, 1024])
def test_another_pair_is_tried_where_todays_is_far_from_critical(batch: int) -> None:
    found = decide(batch, critical())
    assert (found.action, found.batch_size) == ("try", 128)


@pytest.mark.parametrize("batch", [64, 96, 128, 180])
def test_todays_pair_is_kept_within_a_factor_of_two(batch: int) -> None:
    found = decide(batch, critical())
    assert (found.action, found.batch_size) == ("keep", batch)


def test_todays_pair_is_kept_where_the_data_allows_no_better() -> None:
    assert decide(32, critical(), size=40).action == "keep"


def test_no_change_is_recommended_from_initial_weights() -> None:
    assert decide(32, critical(), checkpoint=False).action == "none"


def test_no_change_is_recommended_at_a_saddle() -> None:
    found = decide(32, critical(), at_saddle=True)
    assert found.action == "none" and "saddle" in found.reason


def test_no_change_is_recommended_without_an_upper_end_or_a_value() -> None:
    assert decide(32, critical(high=None)).action == "none"
    assert decide(32, critical(None)).action == "none"


def test_without_a_batch_size_the_balanced_one_is_tried() -> None:
    assert decide(None, critical()).batch_size == 128


def test_the_band_is_wider_than_the_interval_and_grows_with_it() -> None:
    narrow, wide = critical(high=100), critical(high=900)
    assert narrow.value == pytest.approx(95) and narrow.band_low is not None and narrow.low is not None
    assert narrow.band_low < narrow.low and narrow.band_confidence == 0.8
    assert narrow.band_high is not None and 7 < narrow.band_high / 95 < 8
    assert wide.band_high is not None and wide.band_high > narrow.band_high
    assert critical(high=None).band_high is None and critical(None).band_low is None
