"""Numbers as text: what a person can read, with no more digits than are known."""

from __future__ import annotations

import pytest

from bsadvisor.report import numbers
from bsadvisor.values import Estimate


def bounded(value: float | None, low: float | None, high: float | None) -> Estimate:
    return Estimate(value=value, low=low, high=high, confidence=0.95)


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (212.0, 160.0, 300.0, "212 [160, 300]"),
        (212.34, 160.2, 299.8, "212 [160, 300]"),
        (15_234.0, 12_000.0, 20_000.0, "15,200 [12,000, 20,000]"),
        (1.234, 1.1, 1.4, "1.23 [1.10, 1.40]"),
        (212.00012, 212.00001, 212.00019, "212.0 [212.0, 212.0]"),
        (212.0, 0.4, 9000.0, "210 [0.40, 9,000]"),
        (1e9, 8e8, 1.3e9, "1.0e9 [8.0e8, 1.3e9]"),
        (3e-12, 1e-12, 5e-12, "3.0e-12 [1.0e-12, 5.0e-12]"),
        (0.0, -1.0, 1.0, "0 [-1.0, 1.0]"),
    ],
)
def test_an_estimate_shows_the_digits_that_its_interval_supports(
    value: float, low: float, high: float, text: str
) -> None:
    assert numbers.interval(bounded(value, low, high)) == text


def test_an_interval_that_is_wider_than_any_number_is_shown() -> None:
    assert numbers.interval(bounded(0.0, -1e308, 1e308)) == "0 [-1.0e308, 1.0e308]"


@pytest.mark.parametrize("value", [None, 212.0])
def test_without_an_upper_end_only_the_lower_bound_is_stated(value: float | None) -> None:
    assert numbers.interval(bounded(value, 160.0, None)) == "≥ 160, no upper bound"


def test_without_a_lower_end_only_the_upper_bound_is_stated() -> None:
    assert numbers.interval(bounded(212.0, None, 300.0)) == "≤ 300, no lower bound"


@pytest.mark.parametrize("low", [None, 0.0])
def test_an_estimate_with_nothing_in_it_is_not_resolved(low: float | None) -> None:
    assert numbers.interval(bounded(None, low, None), "images") == "not resolved"


def test_an_interval_without_a_value_is_still_shown() -> None:
    assert numbers.interval(bounded(None, 12.0, 760.0)) == "12 … 760"


def test_a_value_without_an_interval_says_so() -> None:
    assert numbers.interval(bounded(212.0, None, None), "images") == "210 images, no interval"


def test_the_unit_stands_beside_the_number() -> None:
    assert numbers.interval(bounded(212.0, 160.0, 300.0), "images") == "212 [160, 300] images"
    assert numbers.interval(bounded(None, 160.0, None), "images") == "≥ 160 images, no upper bound"


@pytest.mark.parametrize(
    ("rate", "text"), [(1.9e-3, "1.9e-3"), (0.1, "1.0e-1"), (1e-12, "1.0e-12"), (0.00999, "1.0e-2")]
)
def test_a_learning_rate_is_a_power_of_ten_with_two_digits(rate: float, text: str) -> None:
    assert numbers.learning_rate(rate) == text


@pytest.mark.parametrize(("rate", "text"), [(1e-3, "1.0e-3"), (3.25e-4, "3.25e-4"), (1.2345e-5, "1.234e-5")])
def test_a_learning_rate_that_somebody_chose_keeps_its_digits(rate: float, text: str) -> None:
    assert numbers.given_learning_rate(rate) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0.444, "0.44"), (1.0, "1.00"), (12.54, "12.5"), (128.4, "128"), (0.00312, "0.0031")]
)
def test_a_ratio_has_about_three_digits(number: float, text: str) -> None:
    assert numbers.ratio(number) == text


def test_factors_counts_and_shares_read_as_in_the_readme() -> None:
    assert numbers.factor(0.444) == "0.44x"
    assert numbers.integer(1024) == "1,024"
    assert numbers.counted(1, "image") == "1 image"
    assert numbers.counted(1437, "image") == "1,437 images"
    assert numbers.percent(0.8) == "80 %"
    assert numbers.percent(0.999) == "99.9 %"
    assert numbers.percent(0.99999) == "99.999 %"
    assert numbers.share(0.4123) == "41 %"
    assert numbers.seconds(6.24) == "6.2"


@pytest.mark.parametrize(
    ("decay", "text"),
    [
        (0.9, "0.9"),
        (0.999**8, "0.992"),
        (0.999 ** (1 / 16), "0.999937"),
        (0.9999 ** (1 / 64), "0.9999984"),
        (0.2, "0.2"),
        (0.0, "0"),
    ],
)
def test_a_beta_shows_how_far_it_is_from_one(decay: float, text: str) -> None:
    assert numbers.beta(decay) == text
