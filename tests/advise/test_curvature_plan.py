"""Sizes that fit into the data, whatever it holds."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bsadvisor.advise.curvature_plan import (
    FREE_SECONDS,
    LONGEST_SECONDS,
    MOST_UNITS,
    CurvaturePlan,
    plan_curvature,
    seconds_allowed,
)
from bsadvisor.theory.noise_scale import MIN_MICRO_BATCHES


def plan(
    examples: int = 1024, *, available: int = 100_000, micro_batch: int = 32, coupled: bool = False
) -> CurvaturePlan:
    return plan_curvature(
        gradient_examples=examples, available=available, micro_batch=micro_batch, coupled=coupled
    )


@given(st.integers(1, 10_000), st.integers(0, 10_000), st.integers(1, 300), st.booleans())
@example(16, 0, 1, False)
@example(64, 20, 32, True)
def test_directions_and_certificates_never_share_an_example_nor_exceed_the_data(
    examples: int, available: int, micro_batch: int, coupled: bool
) -> None:
    found = plan(examples, available=available, micro_batch=micro_batch, coupled=coupled)
    pairs = [
        (found.direction_batches, found.certificate_batches),
        (found.search_direction_batches, found.search_certificate_batches),
    ]
    for direction, certificate in pairs:
        assert min(direction, certificate) >= 0
        assert (direction + certificate) * found.micro_batch <= available
    assert found.noise_batches * found.micro_batch <= available
    assert 1 <= found.micro_batch <= micro_batch


@given(st.integers(1, 10_000), st.integers(0, 10_000), st.integers(1, 300))
def test_examples_that_influence_each_other_stay_in_micro_batches_of_their_size(
    examples: int, available: int, micro_batch: int
) -> None:
    found = plan(examples, available=available, micro_batch=micro_batch, coupled=True)
    assert found.micro_batch == micro_batch


def test_the_usual_case() -> None:
    found = plan()
    assert (found.micro_batch, found.direction_batches, found.certificate_batches) == (16, 4, 16)
    assert found.noise_batches == 32
    assert (found.search_direction_batches, found.search_certificate_batches) == (128, 128)


def test_a_large_micro_batch_is_made_smaller_so_that_there_are_enough_of_them() -> None:
    found = plan(micro_batch=256)
    assert found.certificate_batches >= MIN_MICRO_BATCHES
    assert found.certificate_batches * found.micro_batch == 256


def test_a_long_gradient_phase_earns_a_larger_certificate_but_no_more_units() -> None:
    found = plan(100_000)
    assert found.certificate_batches * found.micro_batch == 1024
    assert found.noise_batches == MOST_UNITS


@pytest.mark.parametrize("available", [1, 5, 20])
def test_tiny_data_is_shared_out_one_example_at_a_time(available: int) -> None:
    found = plan(18, available=available)
    assert found.micro_batch == 1
    assert found.certificate_batches == available * 4 // 5
    assert found.direction_batches == max(available // 5, min(1, available - found.certificate_batches))


def test_half_the_micro_batch_holds_the_same_examples() -> None:
    whole, half = plan(), plan().halved()
    for name in ("noise_batches", "direction_batches", "certificate_batches"):
        assert getattr(half, name) * half.micro_batch == getattr(whole, name) * whole.micro_batch
    assert half.search_direction_batches == 2 * whole.search_direction_batches
    assert half.iterations == whole.iterations


def test_a_large_model_gets_smaller_micro_batches_but_no_more_sketches() -> None:
    usual, large = plan(), plan().for_large_model()
    assert large.micro_batch == usual.micro_batch // 8 and large.noise_batches == usual.noise_batches
    assert large.certificate_batches * large.micro_batch == usual.certificate_batches * usual.micro_batch
    single = plan(18, available=20).for_large_model()
    assert single.micro_batch == 1


@pytest.mark.parametrize(
    ("gradient", "allowed"),
    [(0.0, FREE_SECONDS), (0.1, FREE_SECONDS), (1.0, 10.0), (60.0, LONGEST_SECONDS)],
)
def test_the_time_follows_the_gradients_within_what_anybody_waits_for(
    gradient: float, allowed: float
) -> None:
    assert seconds_allowed(gradient) == allowed
