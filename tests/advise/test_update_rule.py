"""Every optimizer to its update rule, and to the limits that it sets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bsadvisor.advise.update_rule import UpdateRule, full_batch_limit, limit_by_batch_size, update_rule
from bsadvisor.theory.stability import Scheme, mini_batch_limit
from bsadvisor.values import OptimizerDetails
from tests.advise.saddles import curvature, within

ADAM = OptimizerDetails(family="adam", betas=(0.9, 0.95), state_loaded=True)


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (None, UpdateRule(scheme="gradient_descent", momentum=0.0)),
        (OptimizerDetails(family="sgd"), UpdateRule(scheme="gradient_descent", momentum=0.0)),
        (OptimizerDetails(family="sgd", momentum=0.0), UpdateRule(scheme="gradient_descent", momentum=0.0)),
        (OptimizerDetails(family="sgd", momentum=0.9), UpdateRule(scheme="heavy_ball", momentum=0.9)),
        (
            OptimizerDetails(family="sgd", momentum=0.9, nesterov=True),
            UpdateRule(scheme="nesterov", momentum=0.9),
        ),
        (ADAM, UpdateRule(scheme="ema", momentum=0.9, second_beta=0.95)),
        (replace(ADAM, betas=None, momentum=0.0), UpdateRule(scheme="gradient_descent", momentum=0.0)),
        (replace(ADAM, betas=None, momentum=0.5), UpdateRule(scheme="heavy_ball", momentum=0.5)),
        (
            replace(ADAM, state_loaded=False),  # it can be run afresh, and no more
            UpdateRule(scheme="ema", momentum=0.9, second_beta=0.95, knows_geometry=False),
        ),
        (replace(ADAM, state_loaded=False, betas=None), None),
        (OptimizerDetails(family="other", betas=(0.9, 0.99), state_loaded=True), None),
        (replace(ADAM, signed=True), None),
        (replace(ADAM, trust_ratios=True), None),
        (
            OptimizerDetails(family="sgd", momentum=0.9, dampening=0.9),
            UpdateRule(scheme="heavy_ball", momentum=0.9, gradient_weight=1 - 0.9),
        ),
    ],
)
def test_every_optimizer_has_its_update_rule(
    details: OptimizerDetails | None, expected: UpdateRule | None
) -> None:
    assert update_rule(details) == expected


def test_dampening_as_large_as_the_momentum_makes_sgd_an_average_of_gradients() -> None:
    damped = update_rule(OptimizerDetails(family="sgd", momentum=0.9, dampening=0.9))
    average = UpdateRule(scheme="ema", momentum=0.9)
    assert damped is not None
    assert damped.amplification == pytest.approx(1.0)
    for found, wanted in (
        (full_batch_limit(within(2.0, 1.0), rule) for rule in (damped, average)),
        (limit_by_batch_size(curvature(), rule)(8) for rule in (damped, average)),
    ):
        assert getattr(found, "value", found) == pytest.approx(getattr(wanted, "value", wanted))


@pytest.mark.parametrize(
    ("scheme", "limit"),
    [("gradient_descent", 1.0), ("heavy_ball", 1.9), ("nesterov", 1.9 / 2.8), ("ema", 19.0)],
)
def test_the_limit_is_that_of_the_scheme_with_its_ends_exchanged(scheme: Scheme, limit: float) -> None:
    found = full_batch_limit(within(2.0, 1.0), UpdateRule(scheme=scheme, momentum=0.9))
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((limit, limit * 2 / 3, limit * 2))
    assert found.confidence == 0.99


def test_without_the_optimizers_geometry_there_is_no_limit() -> None:
    rule = update_rule(replace(ADAM, state_loaded=False))
    assert full_batch_limit(within(2.0, 1.0), rule) is None
    assert limit_by_batch_size(curvature(), rule)(64) is None


def test_where_the_curvature_may_be_zero_the_limit_has_no_upper_end() -> None:
    found = full_batch_limit(within(2.0, 3.0), UpdateRule(scheme="gradient_descent", momentum=0.0))
    assert found is not None
    assert found.high is None and (found.value, found.low) == pytest.approx((1.0, 0.4))


def test_an_open_interval_stays_open() -> None:
    largest = replace(within(2.0, 1.0), high=None)
    found = full_batch_limit(largest, UpdateRule(scheme="gradient_descent", momentum=0.0))
    assert found is not None and found.low is None and found.high == 2.0


def test_without_positive_curvature_or_rule_nothing_is_limited() -> None:
    rule = UpdateRule(scheme="gradient_descent", momentum=0.0)
    downhill = full_batch_limit(within(-2.0, 1.0), rule)
    assert downhill is not None and (downhill.value, downhill.low, downhill.high) == (None, None, None)
    assert full_batch_limit(None, rule) is None and full_batch_limit(within(2.0, 1.0), None) is None
    for limit in (
        limit_by_batch_size(None, rule),
        limit_by_batch_size(curvature(), None),
        limit_by_batch_size(curvature(largest=-1.0), rule),
        limit_by_batch_size(replace(curvature(), lambda_max=None), rule),
    ):
        assert limit(32) is None


def test_mini_batches_have_a_lower_limit_that_rises_to_that_of_the_full_batch() -> None:
    limit = limit_by_batch_size(curvature(), UpdateRule(scheme="gradient_descent", momentum=0.0))
    limits = [limit(batch_size) or 0.0 for batch_size in (1, 8, 64, 2**30)]
    assert limits == sorted(limits)
    assert limits[1] == pytest.approx(mini_batch_limit("gradient_descent", 2.0, 8.0, 8, 0.0))
    assert limits[-1] == pytest.approx(1.0)


def test_an_adaptive_optimizer_is_limited_in_its_own_geometry() -> None:
    rule = UpdateRule(scheme="ema", momentum=0.9)
    limit = limit_by_batch_size(curvature(preconditioned=200.0, trace=None), rule)
    assert limit(2**30) == pytest.approx(38 / 200)
