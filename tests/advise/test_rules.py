"""Which named rules hold, and how far they are from what is recommended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bsadvisor.advise.pairs import PairInUse
from bsadvisor.advise.rules import NoiseScales, Rung, judge_rules
from bsadvisor.scaling_rules import SCALING_RULES
from bsadvisor.theory import adam_rules, scaling
from bsadvisor.values import Estimate, OptimizerDetails, OptimizerFamily, RuleVerdict

ADAM = PairInUse(
    batch_size=32,
    learning_rate=1e-3,
    optimizer=OptimizerDetails(family="adam", betas=(0.9, 0.999), epsilon=1e-8, weight_decay=0.1),
)
SGD = PairInUse(batch_size=32, learning_rate=0.1, optimizer=OptimizerDetails(family="sgd", momentum=0.9))

UNKNOWN = NoiseScales()


def noise(low: float | None, high: float | None, value: float | None = 1000) -> NoiseScales:
    return NoiseScales(own=Estimate(value=value, low=low, high=high, confidence=0.95))


def judged(
    pair: PairInUse, scales: NoiseScales, *batch_sizes: int, limit: float | None = None
) -> dict[str, RuleVerdict]:
    rungs = [Rung(batch_size=batch_size, factor=2.0, limit=limit) for batch_size in batch_sizes]
    return {rule.name: rule for rule in judge_rules(pair, scales, rungs)}


def test_every_rule_of_the_catalogue_is_judged_at_every_batch_size() -> None:
    found = judged(ADAM, noise(900, 1100), 64, 128)
    assert list(found) == list(SCALING_RULES)
    assert {tuple(at.batch_size for at in rule.learning_rates) for rule in found.values()} == {(64, 128)}


def test_each_rule_sets_what_its_formula_says() -> None:
    scales = replace(noise(900, 1100), by_curvature=Estimate(value=50, low=40, high=60, confidence=0.95))
    found = judged(ADAM, scales, 128)
    rates = {name: rule.learning_rates[0].learning_rate for name, rule in found.items()}
    sde = adam_rules.square_root_sde(128, 32, betas=(0.9, 0.999), epsilon=1e-8)
    assert rates == {
        "saturating_power": pytest.approx(1e-3 * scaling.saturating_power(128, 32, 1000, 0.75)),
        "square_root": pytest.approx(2e-3),
        "linear": pytest.approx(4e-3),
        "adascale": pytest.approx(1e-3 * scaling.adascale(128, 32, 1000)),
        "malladi": pytest.approx(2e-3),
        "half_life": None,
        "constant_timescale": None,
        "constant_update": pytest.approx(1e-3 * adam_rules.constant_update(128, 32, 1000)),
        "constant_progress": pytest.approx(1e-3 * adam_rules.constant_progress(128, 32, 1000)),
        "surge": pytest.approx(1e-3 * adam_rules.surge(128, 32, adam_rules.surge_peak(50))),
    }
    (malladi,), (half_life,), (decay,) = (
        found[name].learning_rates for name in ("malladi", "half_life", "constant_timescale")
    )
    assert (malladi.adam_betas, malladi.epsilon) == (sde.betas, sde.epsilon)
    assert half_life.adam_betas == pytest.approx((0.9, 0.999**4))
    assert decay.weight_decay == pytest.approx(0.1 * 4 / 2)


def test_how_far_a_rule_is_from_the_recommended_rate() -> None:
    (at,) = judged(ADAM, UNKNOWN, 128)["linear"].learning_rates
    assert at.over_recommended == pytest.approx(4 / 2)


@pytest.mark.parametrize("family", ["sgd", "adam", "other"])
def test_a_rule_holds_for_its_own_optimizers_only(family: OptimizerFamily) -> None:
    pair = replace(ADAM, optimizer=OptimizerDetails(family=family, betas=(0.9, 0.999), weight_decay=0.1))
    scales = replace(noise(1e5, 1e6), by_curvature=Estimate(value=1e5, low=9e4, high=2e5, confidence=0.95))
    found = judged(pair, scales, 128)
    holding = {name for name, rule in found.items() if rule.valid}
    euclidean = {"saturating_power", "square_root", "linear", "adascale"}
    adaptive = set(SCALING_RULES) - {"linear", "adascale"}
    assert holding == (adaptive if family == "adam" else euclidean)
    assert all(rule.reason for rule in found.values())


@pytest.mark.parametrize(
    ("scales", "valid", "reason"),
    [
        (noise(1000, 2000), True, "same progress and noise per example"),
        (noise(100, 200), False, "a quarter of the noise scale, 100 to 200: not at B = 128"),
        (noise(300, 2000), None, "perhaps not at B = 128"),
        (noise(600, None), True, "same progress"),
        (noise(0.3, 0.4), False, "a quarter of the noise scale, 0.3 to 0.4: not at B = 128"),
        (noise(300, None), None, "a quarter of the noise scale, at least 300: perhaps not"),
        (noise(None, None, None), None, "holds well below the noise scale, which is not known"),
        (UNKNOWN, None, "holds well below the noise scale, which is not known"),
    ],
)
def test_the_linear_rule_needs_a_batch_well_below_the_noise_scale(
    scales: NoiseScales, valid: bool | None, reason: str
) -> None:
    found = judged(SGD, scales, 128)["linear"]
    assert found.valid is valid
    assert reason in found.reason


def test_going_down_it_is_the_batch_that_is_left_that_decides() -> None:
    assert judged(SGD, noise(100, 120), 8)["linear"].valid is False
    assert judged(SGD, noise(200, 220), 8)["linear"].valid is True


def test_a_rule_that_holds_at_some_batch_sizes_says_where_it_ends() -> None:
    found = judged(SGD, noise(400, 410), 16, 64, 128, 256)["linear"]
    assert [at.valid for at in found.learning_rates] == [True, True, False, False]
    assert found.valid is None
    assert found.reason.endswith("not at B = 128")


def test_todays_own_batch_size_breaks_no_rule_and_saves_none() -> None:
    assert judged(SGD, noise(1, 2), 32)["linear"].valid is True
    found = judged(SGD, noise(1, 2), 32, 64)["linear"]
    assert found.valid is False
    assert [at.valid for at in found.learning_rates] == [True, False]


def test_a_rate_above_the_stability_limit_is_no_valid_one() -> None:
    found = judged(SGD, noise(1e5, 1e6), 128, limit=0.3)
    assert (found["linear"].valid, found["square_root"].valid) == (False, True)
    assert found["linear"].reason == "above the stability limit at B = 128"
    assert judged(SGD, noise(1e5, 1e6), 128, limit=0.5)["linear"].valid is True


def test_a_beta_below_zero_ends_malladis_rule() -> None:
    found = judged(ADAM, noise(1e5, 1e6), 512)["malladi"]
    assert (found.valid, found.reason) == (False, "it would need a beta below zero")


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("adascale", "the noise scale"),
        ("saturating_power", "the noise scale"),
        ("surge", "B_noise"),
        ("malladi", "betas"),
        ("constant_timescale", "weight decay"),
    ],
)
def test_what_a_rule_lacks_is_named(name: str, missing: str) -> None:
    family: OptimizerFamily = "sgd" if name == "adascale" else "adam"
    pair = PairInUse(batch_size=32, learning_rate=1e-3, optimizer=OptimizerDetails(family=family))
    found = judged(pair, UNKNOWN, 64)[name]
    assert found.valid is None and missing in found.reason
    assert found.learning_rates[0].learning_rate is None


def test_without_a_learning_rate_factors_are_told() -> None:
    (at,) = judged(replace(SGD, learning_rate=None), UNKNOWN, 128)["linear"].learning_rates
    assert (at.learning_rate, at.learning_rate_factor) == (None, 4)


def test_without_a_batch_size_there_is_nothing_to_scale_from() -> None:
    assert judged(replace(SGD, batch_size=None), UNKNOWN, 128) == {}


@pytest.mark.parametrize(
    ("sizes", "regime"), [((32, 250), "noise"), ((32, 251), "between"), ((4000, 9000), "signal")]
)
def test_the_regime_is_that_of_both_batch_sizes(sizes: tuple[int, int], regime: str) -> None:
    assert noise(900, 1100).regime(*sizes) == regime


def test_a_lower_bound_alone_can_tell_that_noise_dominates() -> None:
    assert noise(900, None, None).regime(32, 64) == "noise"
    assert noise(900, None, None).regime(32, 640) is None
    assert UNKNOWN.regime(32, 64) is None


@pytest.mark.parametrize(
    ("low", "high", "batch_size", "regime"),
    [
        (800, 1200, 200, "noise"),
        (800, 1200, 250, None),
        (800, 1200, 301, "between"),
        (800, 1200, 3199, "between"),
        (800, 1200, 4000, None),
        (800, 1200, 4800, "signal"),
        (800, None, 200, "noise"),
        (800, None, 10**6, None),
        (None, 1200, 4800, "signal"),
        (None, None, 100, None),
    ],
)
def test_the_regime_of_a_batch_size_is_told_where_the_whole_interval_says_so(
    low: float | None, high: float | None, batch_size: int, regime: str | None
) -> None:
    assert noise(low, high).regime_at(batch_size) == regime
    assert UNKNOWN.regime_at(batch_size) is None
