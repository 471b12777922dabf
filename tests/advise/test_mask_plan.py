"""What the split of the noise may cost."""

from __future__ import annotations

from typing import Any

from bsadvisor.advise.mask_plan import MaskPlan, mask_plan, seconds_allowed


def plan(**changed: Any) -> MaskPlan | None:
    usual: dict[str, Any] = {"available": 1000, "micro_batch": 32, "coupled": False, "parameters": 10**4}
    return mask_plan(**(usual | changed))


def test_a_small_model_is_measured_as_its_gradient_was() -> None:
    assert plan() == MaskPlan(micro_batches=31, micro_batch=32, small=8)


def test_a_large_model_takes_a_quarter_of_the_examples_but_not_single_ones() -> None:
    assert plan(parameters=10**7) == MaskPlan(micro_batches=32, micro_batch=8, small=2)
    assert plan(parameters=10**7, micro_batch=8) == MaskPlan(micro_batches=32, micro_batch=4, small=1)
    assert plan(parameters=10**7, micro_batch=2) == MaskPlan(micro_batches=32, micro_batch=2, small=1)


def test_coupled_examples_keep_their_micro_batch_and_show_no_floor() -> None:
    assert plan(coupled=True, parameters=10**7) == MaskPlan(micro_batches=31, micro_batch=32, small=None)
    assert plan(coupled=True, available=300) is None


def test_few_examples_make_small_micro_batches() -> None:
    assert plan(available=40) == MaskPlan(micro_batches=20, micro_batch=2, small=1)
    assert plan(available=20) == MaskPlan(micro_batches=20, micro_batch=1, small=None)
    assert plan(available=10) is None


def test_it_may_take_as_long_as_the_gradient() -> None:
    assert seconds_allowed(0.1) == 5.0 and seconds_allowed(20.0) == 20.0
