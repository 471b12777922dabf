"""How much is measured, in what pieces, and when it stops."""

from __future__ import annotations

import pytest

from bsadvisor.advise import rounds
from bsadvisor.advise.rounds import Available
from bsadvisor.errors import DataError, UsageError
from bsadvisor.settings import ProbeSettings
from tests.worlds import probe, quadratic

SETTINGS = ProbeSettings()


@pytest.mark.parametrize(
    ("examples", "batch_in_use", "expected"),
    [
        (100_000, 256, 128),
        (100_000, 100, 64),
        (100_000, None, 32),
        (1_258, 32, 32),
        (600, 32, 16),
        (16, 32, 1),
        (None, 64, 16),
    ],
)
def test_the_micro_batch_fits_and_leaves_enough_of_them(
    examples: int | None, batch_in_use: int | None, expected: int
) -> None:
    available = Available(examples=examples, certain=examples or 768, batch_in_use=batch_in_use)
    assert rounds.micro_batch(available, SETTINGS) == expected


def test_fewer_than_sixteen_examples_are_refused() -> None:
    with pytest.raises(DataError, match="15 examples are too few"):
        rounds.refuse_too_few(15, SETTINGS)
    with pytest.raises(DataError, match="3 examples are too few"):
        rounds.refuse_too_few(1000, ProbeSettings(max_examples=3))


def test_a_micro_batch_that_leaves_too_few_is_refused_with_one_that_does_not() -> None:
    with pytest.raises(UsageError) as caught:
        rounds.micro_batch(
            Available(examples=1000, certain=1000, batch_in_use=None), ProbeSettings(micro_batch=64)
        )
    assert "--micro-batch 62" in caught.value.remedy


def test_coupled_examples_get_their_devices_batch_as_far_as_the_data_allows() -> None:
    assert (
        rounds.coupled_micro_batch(Available(examples=100_000, certain=100_000, batch_in_use=256), SETTINGS)
        == 256
    )
    assert (
        rounds.coupled_micro_batch(Available(examples=1_600, certain=1_600, batch_in_use=256), SETTINGS)
        == 100
    )


def test_the_first_round_has_thirty_two_micro_batches() -> None:
    assert (
        rounds.next_round(None, 8, Available(examples=10_000, certain=10_000, batch_in_use=8), SETTINGS)
        == 256
    )


def test_rounds_at_most_double_and_the_last_is_sized_by_the_forecast() -> None:
    available = Available(examples=100_000, certain=100_000, batch_in_use=8)
    far = probe(quadratic(noise_scale=5000), examples=256, micro_batch=8).accumulator.sums()
    assert rounds.next_round(far, 8, available, SETTINGS) == 512
    near = probe(quadratic(noise_scale=100), examples=256, micro_batch=8).accumulator.sums()
    plan = rounds.next_round(near, 8, available, ProbeSettings(precision=0.35))
    assert isinstance(plan, int) and 256 < plan < 512 and plan % 8 == 0


def test_it_stops_for_precision_for_the_limit_and_for_the_data() -> None:
    sums = probe(quadratic(noise_scale=5), examples=256, micro_batch=8).accumulator.sums()
    roomy = Available(examples=100_000, certain=100_000, batch_in_use=8)
    assert rounds.next_round(sums, 8, roomy, SETTINGS) == "precision"
    strict = ProbeSettings(precision=1e-3, max_examples=260)
    assert rounds.next_round(sums, 8, roomy, strict) == "max_examples"
    spent = Available(examples=260, certain=260, batch_in_use=8)
    assert rounds.next_round(sums, 8, spent, ProbeSettings(precision=1e-3)) == "data"


def test_a_limit_is_not_overstepped_and_not_left_unused() -> None:
    sums = probe(quadratic(noise_scale=5000), examples=256, micro_batch=8).accumulator.sums()
    assert rounds.next_round(sums, 8, Available(examples=301, certain=301, batch_in_use=8), SETTINGS) == 296
