"""The verdict on generalization, and what is remarked about it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bsadvisor.advise.generalization import about_generalization, about_temperature, judge_generalization
from bsadvisor.values import Estimate, Generalization, Headline, HeldOutFacts, Shrinking
from tests.report.sample import contract_report


def between(low: float | None, high: float | None) -> Estimate:
    value = None if low is None or high is None else (low + high) / 2
    return Estimate(value=value, low=low, high=high, confidence=0.95)


def found(
    gap: tuple[float | None, float | None],
    growth: tuple[float | None, float | None] | None,
    apart: tuple[float | None, float | None] | None = (0.1, 0.3),
    *,
    gains: tuple[float, float] = (0.02, -0.01),
) -> Generalization:
    return Generalization(
        train_loss=between(0.9, 1.1),
        heldout_loss=between(1.1, 1.3),
        gap=between(*gap),
        alignment=None,
        self_share=None,
        verdict=None,
        heldout_growth=None if growth is None else between(*growth),
        growth_gap=None if apart is None else between(*apart),
        shrinking=Shrinking(
            factor=0.94,
            heldout_gain=between(gains[0] - 0.005, gains[0] + 0.005),
            train_gain=between(gains[1] - 0.005, gains[1] + 0.005),
        ),
        train_examples=512,
        heldout_examples=400,
        mode="eval",
    )


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (found((0.1, 0.3), (0.2, 0.4)), "memorization"),
        (found((0.1, 0.3), (0.2, 0.4), (-0.1, 0.3)), "overfitting"),
        (found((0.1, 0.3), (0.2, 0.4), gains=(0.008, -0.01)), "overfitting"),
        (found((0.1, 0.3), (0.2, 0.4), gains=(0.02, 0.015)), "overfitting"),
        (found((0.1, 0.3), (0.2, 0.4), gains=(0.004, -0.01)), "overfitting"),
        (replace(found((0.1, 0.3), (0.2, 0.4)), shrinking=None), "overfitting"),
        (found((0.1, 0.3), (-0.1, 0.4)), "overfitting"),
        (found((0.1, 0.3), (-0.4, -0.2)), "fitting"),
        (found((-0.1, 0.2), (-0.4, -0.2)), "fitting"),
        (found((-0.1, 0.2), (0.2, 0.4)), "fitting"),
        (found((-0.1, 0.5), (-0.4, -0.2)), None),
        (found((-0.4, -0.2), (-0.4, -0.2)), "fitting"),
        (found((0.1, 0.3), None, None), "overfitting"),
        (found((None, None), (0.2, 0.4)), None),
        (replace(found((0.1, 0.3), (-0.1, 0.4)), alignment=between(0.1, 0.5)), "fitting"),
        (replace(found((0.1, 0.3), (-0.1, 0.4)), alignment=between(-0.1, 0.5)), "overfitting"),
        (replace(found((0.1, 0.3), (0.2, 0.4)), alignment=between(0.1, 0.5)), "memorization"),
    ],
)
def test_the_verdict_follows_the_gap_and_what_growing_weights_do(
    measured: Generalization, verdict: str | None
) -> None:
    assert judge_generalization(measured, shared=0.0) == verdict


def test_no_verdict_where_many_held_out_examples_are_training_examples() -> None:
    assert judge_generalization(found((0.1, 0.3), (0.2, 0.4)), shared=0.05) == "memorization"
    assert judge_generalization(found((0.1, 0.3), (0.2, 0.4)), shared=0.2) is None


FACTS = HeldOutFacts(shared=0.0)


def codes(facts: HeldOutFacts | None, measured: Generalization | None) -> list[str]:
    return [remark.code for remark in about_generalization(facts, measured, "images")]


def test_each_situation_has_its_remark() -> None:
    measured = found((0.1, 0.3), (0.2, 0.4))
    assert codes(None, None) == []
    assert codes(FACTS, replace(measured, verdict="fitting")) == []
    assert codes(FACTS, replace(measured, verdict="overfitting")) == ["BSA603"]
    assert codes(FACTS, replace(measured, verdict="memorization")) == ["BSA604"]
    assert codes(FACTS, measured) == ["BSA605"]
    assert codes(FACTS, replace(measured, verdict="fitting", mode="train")) == ["BSA606"]
    assert codes(replace(FACTS, shared=1.0), None) == ["BSA601"]
    assert codes(replace(FACTS, shared=0.3), measured) == ["BSA602"]


def test_the_remark_on_memorization_says_what_one_checkpoint_cannot_see() -> None:
    (remark,) = about_generalization(
        FACTS, replace(found((0.1, 0.3), (0.2, 0.4)), verdict="memorization"), ""
    )
    assert "held-out loss may fall again later (double descent): one checkpoint cannot tell" in remark.remedy
    assert "`bsadvisor track`" in remark.remedy


def test_how_sharing_was_told_is_named() -> None:
    (by_rows,) = about_generalization(replace(FACTS, shared=1.0), None, "images")
    looked = replace(FACTS, shared=0.97, compared=512, looked_through=4096)
    (by_looks,) = about_generalization(looked, None, "images")
    assert by_rows.message.endswith(
        "100% of the held-out examples are training examples: both are rows of one data set"
    )
    assert by_looks.message.endswith("512 of them were looked for in 4,096 training images")


@pytest.mark.parametrize(
    ("batch_size", "temperature", "size", "action", "warned"),
    [
        (128, 0.4, 1000, "try", True),
        (128, 0.4, 1000, "keep", False),
        (128, 0.6, 1000, "try", False),
        (128, 0.4, 2000, "use", False),
        (128, 0.4, None, "use", False),
        (None, 0.4, 1000, "none", False),
    ],
)
def test_a_large_cool_batch_is_warned_of(
    batch_size: int | None, temperature: float, size: int | None, action: str, warned: bool
) -> None:
    report = contract_report()
    rows = [
        replace(row, relative_temperature=temperature if row.batch_size == 128 else 1.0)
        for row in report.recommendations
    ]
    headline = Headline(action=action, batch_size=batch_size, reason="")  # type: ignore[arg-type]
    remarks = list(about_temperature(replace(report.target, dataset_size=size), headline, rows))
    assert [remark.code for remark in remarks] == (["BSA607"] if warned else [])
