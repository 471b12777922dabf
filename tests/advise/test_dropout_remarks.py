"""What is remarked on dropout, and what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bsadvisor.advise.dropout_remarks import about_dropout
from bsadvisor.values import AssumptionFacts, DropoutStats, Finding, KeepProbability, Recommendation
from tests.report.dropped import share, stats
from tests.report.sample import contract_report, estimate


def remarks(
    found: DropoutStats | None, row: Recommendation | None = None, **facts: Any
) -> dict[str, Finding]:
    gradient = replace(contract_report().gradient, dropout=found)
    return {found.code: found for found in about_dropout(gradient, AssumptionFacts(**facts), row)}


def row(batch_size: int) -> Recommendation:
    return next(row for row in contract_report().recommendations if row.batch_size == batch_size)


def test_a_third_of_the_noise_being_masks_is_no_remark() -> None:
    assert remarks(stats()) == {} and remarks(None) == {}


def test_most_of_the_noise_being_masks_is_one_when_the_low_end_says_so() -> None:
    assert remarks(replace(stats(), mask_share=share(0.52))) == {}
    found = remarks(replace(stats(), mask_share=share(0.75)))["BSA230"]
    assert found.message.startswith("75% of the gradient noise") and "about 0.25x without any" in found.remedy


def test_shared_masks_are_a_warning_from_the_batch_size_where_they_make_half_the_noise() -> None:
    floored = replace(stats(), masks="shared", floor_batch_size=estimate(180.0), mask_share=share(0.75))
    found = remarks(floored, row(128))
    assert list(found) == ["BSA231"] and "at B = 180 it is half of the noise" in found["BSA231"].message


def test_rates_of_one_are_named_up_to_three() -> None:
    places = tuple(KeepProbability(name=f"drop{number}", keep=0.0) for number in range(5))
    assert "drop0, drop1, drop2, …:" in remarks(None, dropout=places)["BSA232"].message


def test_another_batch_size_keeps_the_ridge_and_changes_the_noise_by_its_temperature() -> None:
    found = remarks(stats(), row(128))["BSA233"]
    assert found.evidence["noise"] == row(128).relative_temperature and "B = 128" in found.message
    assert "BSA233" not in remarks(stats(), row(32))
    assert "BSA233" not in remarks(replace(stats(), keep_probabilities=()), row(128))


def test_most_of_the_noise_being_augmentation_is_noted() -> None:
    assert "BSA234" in remarks(replace(stats(), augmentation_share=share(0.7)))


def test_what_was_not_measured_is_said_with_its_reason() -> None:
    assert (
        "fit in memory"
        in remarks(None, dropout_problem="a second gradient did not fit in memory")["BSA235"].message
    )
