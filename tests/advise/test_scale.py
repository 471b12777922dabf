"""The recommended learning rate at another batch size, with and without a noise scale."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from bsadvisor.advise.pairs import PairInUse, recommend
from bsadvisor.advise.rules import NoiseScales
from bsadvisor.advise.scale import FAR, recommend_at
from bsadvisor.theory import scaling
from bsadvisor.values import Estimate, OptimizerFamily
from tests.advise.test_rules import ADAM, SGD, UNKNOWN, noise

KNOWN = NoiseScales(own=Estimate(value=95.0, low=60.0, high=180.0, confidence=0.95))


@pytest.mark.parametrize("pair", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("limit", [None, 0.12, 1.2e-3])
def test_with_a_noise_scale_it_is_what_a_probe_recommends(pair: PairInUse, limit: float | None) -> None:
    """The same rule, range, cap, betas and weight decay in both places."""
    rows = recommend(pair, critical=95, noise_scale=95, dataset_size=None, limit=lambda batch_size: limit)
    for row in rows:
        found = recommend_at(row.batch_size, pair, KNOWN, limit=limit)
        assert found.learning_rate == pytest.approx(row.learning_rate)
        for name in ("learning_rate_low", "learning_rate_high", "weight_decay"):
            expected = getattr(row, name)
            assert getattr(found, name) == (None if expected is None else pytest.approx(expected))
        assert (found.adam_betas, found.learning_rate_limit) == (row.adam_betas, limit)
        assert found.learning_rate_confidence == row.learning_rate_confidence
        assert found.capped == ("capped" in row.rule)


@pytest.mark.parametrize(("family", "steepest"), [("adam", 8**0.75), ("sgd", 8.0), ("other", 8.0)])
def test_without_a_noise_scale_it_is_the_root_within_the_rules_that_may_hold(
    family: OptimizerFamily, steepest: float
) -> None:
    assert SGD.optimizer is not None
    pair = replace(SGD, learning_rate=1.0, optimizer=replace(SGD.optimizer, family=family))
    found = recommend_at(256, pair, UNKNOWN)
    assert (found.rule, found.basis) == ("square_root", "predicted")
    assert found.learning_rate == pytest.approx(8**0.5)
    assert found.learning_rate_low is not None and found.learning_rate_high is not None
    assert found.learning_rate_low <= 1 and found.learning_rate_high >= steepest
    assert "without a noise scale" in found.reason


@pytest.mark.parametrize("pair", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("batch_size", [4, 16, 33, 64, 4096])
@pytest.mark.parametrize("known", [1e-3, 95.0, 1e6])
def test_knowing_the_noise_scale_never_widens_the_range(
    pair: PairInUse, batch_size: int, known: float
) -> None:
    wide = recommend_at(batch_size, pair, UNKNOWN)
    narrow = recommend_at(batch_size, pair, noise(known / 2, known * 2, known))

    def span(low: float | None, high: float | None) -> float:
        assert low is not None and high is not None
        return high / low

    within = span(narrow.learning_rate_low, narrow.learning_rate_high)
    assert within <= span(wide.learning_rate_low, wide.learning_rate_high)


def test_a_range_without_a_noise_scale_is_no_narrower_than_the_roots_own_errors() -> None:
    found = recommend_at(33, ADAM, UNKNOWN)
    assert found.learning_rate_high == pytest.approx(
        found.learning_rate * scaling.range_factor("adam", scaling.SQUARE_ROOT_ERROR)
    )
    assert found.learning_rate_confidence is None


TUNED = {
    "sgd": {88: (0.185, 0.60, 1.94, 2.86, 3.24), 102: (0.13, 0.60, 1.94, 2.86, 3.24)},
    "adam": {159: (0.0106, 0.0209, 0.0403, 0.0710, 0.146), 700: (0.0053, 0.0074, 0.0285, 0.0502, 0.103)},
}
"""Digits, MLP 64-32-10: rates tuned at B = 2, 8, 32, 128 and 512, by the fitted critical batch size."""

SIZES = (2, 8, 32, 128, 512)


def held(pair: PairInUse, rates: tuple[float, ...], scales: NoiseScales, *, least: int) -> list[bool]:
    """Whether the range holds the tuned rate, from every tuned pair to every other at least so far away."""
    tuned = list(zip(SIZES, rates, strict=True))
    found = []
    for (start, rate), (end, truth) in itertools.permutations(tuned, 2):
        if max(start, end) >= least * min(start, end):
            best = recommend_at(end, replace(pair, batch_size=start, learning_rate=rate), scales)
            assert best.learning_rate_low is not None and best.learning_rate_high is not None
            found.append(best.learning_rate_low <= truth <= best.learning_rate_high)
    return found


@pytest.mark.parametrize(("family", "pair"), [("sgd", SGD), ("adam", ADAM)])
def test_the_range_without_a_noise_scale_holds_nine_of_ten_tuned_rates(family: str, pair: PairInUse) -> None:
    found = [kept for rates in TUNED[family].values() for kept in held(pair, rates, UNKNOWN, least=4)]
    assert len(found) == 40 and sum(found) >= 0.9 * len(found)


@pytest.mark.parametrize(("family", "pair"), [("sgd", SGD), ("adam", ADAM)])
def test_far_from_the_pair_in_use_a_noise_scale_narrows_nothing(family: str, pair: PairInUse) -> None:
    for critical, rates in TUNED[family].items():
        found = held(pair, rates, noise(critical / 2, critical * 2, critical), least=4 * FAR)
        assert len(found) == 6 and all(found)
    best = recommend_at(32 * FAR + 1, pair, KNOWN)
    assert best.learning_rate_confidence is None and "all rules that may hold" in best.reason
    assert recommend_at(32 * FAR, pair, KNOWN).learning_rate_confidence == 0.8


@pytest.mark.parametrize("scales", [UNKNOWN, KNOWN], ids=["unknown", "known"])
def test_the_same_batch_size_keeps_its_learning_rate_and_needs_no_range(scales: NoiseScales) -> None:
    found = recommend_at(32, ADAM, scales)
    assert found.learning_rate == 1e-3
    assert found.learning_rate_low is found.learning_rate_high is None


def test_the_stability_limit_caps_the_rate_and_its_range_and_says_so() -> None:
    found = recommend_at(256, SGD, UNKNOWN, limit=0.15)
    assert (found.learning_rate, found.learning_rate_high, found.capped) == (0.15, 0.15, True)
    assert found.reason.endswith("capped at the stability limit")
    assert recommend_at(256, SGD, UNKNOWN, limit=0.01).learning_rate == 0.1  # never below the one in use


def test_what_was_measured_comes_before_every_rule() -> None:
    (row, *_) = recommend(ADAM, critical=95, noise_scale=95, dataset_size=None)
    measured = replace(row, batch_size=256, learning_rate=1.7e-3, basis="measured")
    found = recommend_at(256, ADAM, KNOWN, measured=measured)
    assert (found.learning_rate, found.basis, found.rule) == (1.7e-3, "measured", "measured")
    assert found.weight_decay == pytest.approx(0.1 * 8 / 1.7)
