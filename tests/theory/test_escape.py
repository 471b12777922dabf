"""Escape times against simulated runs, and their limits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bsadvisor.theory import escape
from bsadvisor.theory.escape import Pair, Saddle, escape_steps
from bsadvisor.theory.stability import Scheme
from tests.benchmarks import escape as benchmark

SADDLE = Saddle(slope=0.02, descent=0.5, noise=1.0)
PAIR = Pair(batch_size=64, learning_rate=0.05)


@pytest.mark.parametrize("kind", ["quadratic", "quartic"])
@pytest.mark.parametrize(("scheme", "momentum"), benchmark.RULES)
def test_half_of_the_runs_have_escaped_when_predicted(scheme: Scheme, momentum: float, kind: str) -> None:
    """1,000 runs at each of 24 slopes, learning rates and batch sizes; noise alone reaches a third of the way."""
    for reach in benchmark.REACHES[1:]:
        errors = benchmark.judge(kind, scheme, momentum, reach).errors
        assert np.abs(errors).max() <= 0.15


@pytest.mark.parametrize(("scheme", "momentum"), benchmark.RULES)
def test_noise_that_reaches_half_of_the_way_delays_the_prediction_little(
    scheme: Scheme, momentum: float
) -> None:
    assert np.abs(benchmark.judge("quadratic", scheme, momentum, 2.0).errors).max() <= 0.15
    assert np.abs(benchmark.judge("quartic", scheme, momentum, 2.0).errors).max() <= 0.3


@pytest.mark.parametrize(
    ("wrong", "row"),
    [
        (lambda pair: replace(pair, momentum=0.0), ("quadratic", "heavy_ball", 0.5)),
        (lambda pair: replace(pair, scheme="heavy_ball"), ("quadratic", "ema", 0.5)),
        (lambda pair: replace(pair, batch_size=4 * pair.batch_size), ("quadratic", "gradient_descent", 0.0)),
    ],
)
def test_another_rule_or_batch_size_would_not_fit(
    wrong: object, row: tuple[str, Scheme, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(saddle: Saddle, pair: Pair, distance: float, *, minimum: float) -> float:
        assert callable(wrong)
        return escape_steps(saddle, wrong(pair), distance, minimum=minimum)

    monkeypatch.setattr(benchmark, "escape_steps", mistaken)
    assert np.abs(benchmark.judge(*row, 10.0).errors).max() > 0.15


def test_without_the_slowing_down_the_quartic_saddle_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    near = 1.05
    monkeypatch.setitem(benchmark.MINIMUM, "quartic", near)
    assert np.abs(benchmark.judge("quartic", "gradient_descent", 0.0, 100.0).errors).max() <= 0.15
    monkeypatch.setattr(escape, "stretched_distance", lambda distance, minimum: distance)
    assert np.abs(benchmark.judge("quartic", "gradient_descent", 0.0, 100.0).errors).max() > 0.15


@pytest.mark.parametrize(("scheme", "momentum"), [*benchmark.RULES, ("heavy_ball", 0.99), ("nesterov", 0.99)])
def test_without_noise_the_step_is_exact(scheme: Scheme, momentum: float) -> None:
    pair = replace(PAIR, scheme=scheme, momentum=momentum)
    for slope in (1e-6, 0.02, 0.3, 0.49):
        saddle = replace(SADDLE, slope=slope, noise=0.0)
        assert escape_steps(saddle, pair, 1.0) == benchmark.median_passage(saddle, pair, cubic=0.0, seed=0)


@pytest.mark.parametrize("scheme", ["heavy_ball", "nesterov", "ema"])
def test_noise_that_momentum_still_gathers_is_counted(scheme: Scheme) -> None:
    """Runs escape in less than the memory of 1,000 steps, long before a single mode is left."""
    saddle = replace(SADDLE, slope=0.0, descent=1e-4)
    pair = Pair(batch_size=1, learning_rate=1.0 if scheme == "ema" else 1e-3, momentum=0.999, scheme=scheme)
    measured = benchmark.median_passage(saddle, pair, cubic=0.0, seed=0)
    assert measured < 1000
    assert escape_steps(saddle, pair, 1.0) == pytest.approx(measured, rel=0.05)


def test_the_growth_is_a_root_of_the_recursion() -> None:
    for scheme, momentum in benchmark.RULES:
        pair = replace(PAIR, scheme=scheme, momentum=momentum)
        x, buffer = 1e-9, 0.0
        beta = 0.0 if scheme == "gradient_descent" else momentum
        for _ in range(2000):
            before = x
            buffer = beta * buffer + (1 - beta if scheme == "ema" else 1) * -SADDLE.descent * x
            step = -SADDLE.descent * x + beta * buffer if scheme == "nesterov" else buffer
            x -= pair.learning_rate * step
        assert x / before - 1 == pytest.approx(escape.growth_per_step(pair, SADDLE.descent), rel=1e-9)


def test_a_larger_batch_costs_a_logarithm_of_steps_while_noise_matters_and_none_beyond() -> None:
    pure = replace(SADDLE, slope=0.0)
    doubling = math.log(2) / 2 / math.log1p(PAIR.learning_rate * pure.descent)
    larger = replace(PAIR, batch_size=2**10 * PAIR.batch_size)
    assert escape.steps_saved_by(pure, PAIR, larger, 1.0) == pytest.approx(-10 * doubling, abs=2)
    matters = escape.batch_size_that_matters(SADDLE, PAIR)
    assert escape.noise_share(SADDLE, replace(PAIR, batch_size=matters)) == pytest.approx(1 / 2)
    beyond = replace(PAIR, batch_size=1e4 * matters)
    assert abs(escape.steps_saved_by(SADDLE, beyond, replace(beyond, batch_size=1e8 * matters), 1.0)) <= 1


def test_a_larger_learning_rate_saves_steps_in_proportion() -> None:
    faster = replace(PAIR, learning_rate=2 * PAIR.learning_rate)
    steps = escape_steps(SADDLE, PAIR, 1.0)
    assert escape.steps_saved_by(SADDLE, PAIR, faster, 1.0) == pytest.approx(steps / 2, rel=0.1)


@pytest.mark.parametrize(
    ("saddle", "minimum"),
    [
        (replace(SADDLE, slope=0.0, noise=0.0), math.inf),
        (replace(SADDLE, descent=0.0), math.inf),
        (replace(SADDLE, descent=-1.0), math.inf),
        (SADDLE, 0.9),
    ],
)
def test_what_never_escapes_takes_infinitely_long(saddle: Saddle, minimum: float) -> None:
    assert escape_steps(saddle, PAIR, 1.0, minimum=minimum) == math.inf
    assert escape.steps_saved_by(saddle, PAIR, replace(PAIR, batch_size=1), 1.0, minimum=minimum) == 0


def test_what_is_far_already_takes_no_step() -> None:
    assert escape_steps(replace(SADDLE, slope=0.6), PAIR, 1.0) == 0


def test_shares_are_defined_at_their_ends() -> None:
    still, silent = replace(SADDLE, slope=0.0), replace(SADDLE, noise=0.0)
    assert math.isnan(escape.noise_share(replace(still, noise=0.0), PAIR))
    assert escape.noise_share(silent, PAIR) == 0
    assert escape.batch_size_that_matters(still, PAIR) == math.inf
    assert escape.batch_size_that_matters(silent, PAIR) == 0


@pytest.mark.parametrize(("scheme", "momentum"), [*benchmark.RULES, ("nesterov", 0.999)])
@pytest.mark.parametrize("rate", [1e-12, 1e-3, 1e3])
def test_extreme_saddles_stay_finite_and_ordered(scheme: Scheme, momentum: float, rate: float) -> None:
    pair = replace(PAIR, scheme=scheme, momentum=momentum, learning_rate=rate)
    for descent in (1e-300, 1e-12, 1.0, 1e12):
        for noise in (1e-300, 1.0, 1e300):
            saddle = Saddle(slope=0.0, descent=descent, noise=noise)
            near, far = (escape_steps(saddle, pair, distance) for distance in (1e-3, 1.0))
            assert 1 <= near <= far


def test_without_any_descent_to_speak_of_noise_walks_the_distance() -> None:
    """P(max |W| < 1) = 1/2 at time 0.757 for Brownian motion."""
    saddle, pair = Saddle(slope=0.0, descent=1e-12, noise=1.0), Pair(batch_size=1, learning_rate=1e-3)
    assert escape_steps(saddle, pair, 1.0) == pytest.approx(0.757 * 1e6, rel=0.01)
