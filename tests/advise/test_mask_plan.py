"""What the split of the noise may cost."""

from __future__ import annotations

from typing import Any

import pytest

from bsadvisor.advise.mask_plan import MaskPlan, mask_plan, seconds_allowed


def plan(**changed: Any) -> MaskPlan | None:
    usual: dict[str, Any] = {
        "available": 1000,
        "micro_batch": 32,
        "coupled": False,
        "seconds_per_example": 1e-4,
        "passes": 3,
        "seconds": 1.0,
    }
    return mask_plan(**(usual | changed))


def test_with_time_it_is_measured_as_the_gradient_was() -> None:
    assert plan() == MaskPlan(micro_batches=31, micro_batch=32, small=8)


@pytest.mark.parametrize("seconds", [0.1, 0.05, 0.03])
def test_with_little_time_micro_batches_are_smaller_and_fit(seconds: float) -> None:
    found = plan(seconds=seconds)
    assert found is not None and 4 <= found.micro_batch < 32
    assert found.micro_batch * 16 * 3 * 1e-4 <= seconds < 2 * found.micro_batch * 16 * 3 * 1e-4


def test_with_too_little_time_it_is_left_out() -> None:
    assert plan(seconds=0.01) is None and plan(seconds=-1.0) is None


def test_coupled_examples_keep_their_micro_batch_and_show_no_floor() -> None:
    assert plan(coupled=True) == MaskPlan(micro_batches=31, micro_batch=32, small=None)
    assert plan(coupled=True, seconds=0.1) is None and plan(coupled=True, available=300) is None


def test_few_examples_make_small_micro_batches() -> None:
    assert plan(available=40) == MaskPlan(micro_batches=20, micro_batch=2, small=1)
    assert plan(available=20) == MaskPlan(micro_batches=20, micro_batch=1, small=None)


def test_it_may_take_as_long_as_the_gradient() -> None:
    assert seconds_allowed(0.1) == 2.0 and seconds_allowed(20.0) == 20.0
