"""The ladder, its roles and its learning rates: the figures of the contract's example."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bsadvisor.advise.pairs import CAPPED, PairInUse, ladder, recommend, surest
from bsadvisor.values import OptimizerDetails, Recommendation

ADAM = OptimizerDetails(family="adam", betas=(0.9, 0.999), weight_decay=0.1)
TODAY = PairInUse(batch_size=32, learning_rate=1e-3, optimizer=ADAM)


def rows(
    pair: PairInUse = TODAY, critical: float = 95, dataset_size: int | None = None
) -> dict[int, Recommendation]:
    found = recommend(pair, critical=critical, noise_scale=critical, dataset_size=dataset_size)
    return {row.batch_size: row for row in found}


def test_the_contracts_example_comes_out() -> None:
    found = rows()
    assert list(found) == [16, 32, 64, 128, 256, 512]
    assert {b: row.role for b, row in found.items()} == {
        16: "efficient",
        32: "current",
        64: None,
        128: "balanced",
        256: None,
        512: "largest_useful",
    }
    assert found[128].learning_rate == pytest.approx(1.85e-3, rel=0.01)
    assert found[128].steps_factor == pytest.approx(0.44, abs=0.005)
    assert found[128].examples_factor == pytest.approx(1.76, abs=0.005)
    assert found[128].relative_update_noise == pytest.approx(0.86, abs=0.01)
    assert found[512].steps_over_minimum == pytest.approx(1 + 95 / 512)
    assert found[512].examples_over_minimum == pytest.approx(1 + 512 / 95)


def test_todays_pair_is_itself() -> None:
    today = rows()[32]
    assert today.current and today.learning_rate == 1e-3 and today.learning_rate_low is None
    assert today.steps_factor == today.examples_factor == today.relative_temperature == 1
    assert today.adam_betas == (0.9, 0.999) and today.weight_decay == pytest.approx(0.1)


def test_the_range_has_its_level_and_the_textbook_rules_stand_beside() -> None:
    row = rows()[128]
    assert row.learning_rate is not None and row.learning_rate_low is not None
    assert row.learning_rate_low < row.learning_rate < (row.learning_rate_high or 0)
    assert row.learning_rate_confidence == 0.8
    assert row.other_rules is not None
    assert (row.other_rules.square_root, row.other_rules.linear) == pytest.approx((2e-3, 4e-3))


def test_momentum_free_rules_use_their_own_power() -> None:
    sgd = PairInUse(batch_size=32, learning_rate=0.1, optimizer=OptimizerDetails(family="sgd"))
    expected = 0.1 * ((1 + 95 / 32) / (1 + 95 / 128)) ** 0.5
    row = rows(sgd)[128]
    assert row.learning_rate == pytest.approx(expected) and row.adam_betas is None


# --- the stability limit ------------------------------------------------------------------------


def capped(limit: Callable[[int], float | None], pair: PairInUse = TODAY) -> dict[int, Recommendation]:
    found = recommend(pair, critical=95, noise_scale=95, dataset_size=None, limit=limit)
    return {row.batch_size: row for row in found}


def test_no_learning_rate_nor_its_range_goes_beyond_the_limit() -> None:
    free, found = rows(), capped(lambda batch_size: 1.5e-3)
    for batch_size in (128, 256, 512):
        row = found[batch_size]
        assert row.learning_rate == row.learning_rate_high == row.learning_rate_limit == 1.5e-3
        assert row.learning_rate_factor == pytest.approx(1.5)
        assert row.learning_rate_low is not None and row.learning_rate_low < 1.5e-3
        assert row.rule.endswith(f"{CAPPED} the stability limit")
        assert row.relative_update_noise == pytest.approx(1.5**2 * 32 / batch_size)
    assert found[16].learning_rate == free[16].learning_rate


def test_a_rate_below_the_limit_keeps_its_rule_and_only_its_range_is_cut() -> None:
    free, found = rows()[64], capped(lambda batch_size: 1.5e-3)[64]
    assert (found.learning_rate, found.rule) == (free.learning_rate, free.rule)
    assert found.learning_rate_high == 1.5e-3 < (free.learning_rate_high or 0)


def test_every_row_has_the_limit_of_its_own_batch_size() -> None:
    found = capped(lambda batch_size: batch_size * 2e-5)
    assert [row.learning_rate_limit for row in found.values()] == [b * 2e-5 for b in found]
    assert found[64].learning_rate == pytest.approx(1.28e-3)
    assert found[512].learning_rate == rows()[512].learning_rate


def test_no_rate_is_capped_below_the_one_in_use() -> None:
    found = capped(lambda batch_size: 1e-5)
    assert found[32].learning_rate == found[512].learning_rate == found[512].learning_rate_high == 1e-3
    assert found[16].learning_rate == rows()[16].learning_rate  # the rule itself lowers that one
    assert found[512].rule.endswith(f"{CAPPED} the rate in use")
    assert CAPPED not in found[32].rule


def test_without_limit_or_learning_rate_nothing_is_capped() -> None:
    assert capped(lambda batch_size: None) == rows()
    factors = capped(lambda batch_size: 1e-5, PairInUse(batch_size=32, learning_rate=None, optimizer=ADAM))
    assert factors[128].learning_rate_factor == pytest.approx(1.85, rel=0.01)


# --- what is not known --------------------------------------------------------------------------


def test_of_batch_sizes_that_are_as_good_one_whose_rates_were_compared_is_recommended() -> None:
    assert surest({32: 3, 256: 3, 512: 2}, 400) == 512
    assert surest({32: 3, 256: 3, 512: 1}, 400) == 256
    assert surest({32: 3, 128: 3, 512: 1}, 400) == 512, "those that were compared are too far away"


def test_without_a_learning_rate_factors_are_given() -> None:
    row = rows(PairInUse(batch_size=32, learning_rate=None, optimizer=ADAM))[128]
    assert row.learning_rate is None and row.learning_rate_low is None
    assert row.learning_rate_factor == pytest.approx(1.85, rel=0.01)
    assert row.other_rules is not None and row.other_rules.linear == 4


def test_without_a_batch_size_costs_are_given_over_their_minimum_only() -> None:
    found = rows(PairInUse(batch_size=None, learning_rate=1e-3, optimizer=ADAM))
    assert list(found) == [16, 32, 64, 128, 256, 512]
    assert found[128].role == "balanced" and found[16].role == "efficient"
    assert all(row.learning_rate is None and row.steps_factor is None for row in found.values())
    assert not any(row.current for row in found.values())


@pytest.mark.parametrize(
    ("base", "critical", "size", "multiple", "expected"),
    [
        (4096, 95, None, 1, [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]),
        (48, 95, None, 1, [12, 24, 48, 96, 192, 384]),
        (1, 1000, None, 1, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]),
        (32, 95, 200, 1, [16, 32, 64, 128]),
        (32, 95, None, 8, [16, 32, 64, 128, 256, 512]),
        (64, 3, None, 16, [16, 32, 64]),
        (7, 0.5, None, 1, [7]),
        (512, 95, 100, 1, [16, 32, 64, 128, 256, 512]),
    ],
)
def test_the_ladder(base: int, critical: float, size: int | None, multiple: int, expected: list[int]) -> None:
    assert ladder(base, critical, size, multiple) == expected
