"""The verdict on a pair: when a rule is broken, when it is kept, and when it cannot be told."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bsadvisor.advise.check.anchor import independent_anchor, pair_to_judge
from bsadvisor.advise.check.judge import judge
from bsadvisor.advise.check.outcome import CODES, at_most
from bsadvisor.advise.check.reach import critical_batch_size, factor_between, noise_scale
from bsadvisor.advise.check.soundness import contradictions
from bsadvisor.errors import UsageError
from bsadvisor.findings import CATALOGUE
from bsadvisor.report import from_json, to_json
from bsadvisor.settings import RuleSeverity
from bsadvisor.values import (
    CheckRequest,
    CheckRule,
    CurvatureStats,
    Estimate,
    Reach,
    Report,
    RuleName,
    Source,
    SourcedPair,
)
from tests.report import curved, sample, tried
from tests.report.anything import REPORTS
from tests.report.valid import validate

VALUES: dict[RuleName, float | str | None] = {
    "max_examples_over_minimum": 2.0,
    "max_steps_over_minimum": 2.0,
    "learning_rate": "range",
    "escape_steps": 100.0,
    "memory": None,
    "max_drift": 2.0,
}

IN_USE = SourcedPair(batch_size=32, learning_rate=1e-3)


def rule(name: RuleName, severity: RuleSeverity = "error") -> CheckRule:
    return CheckRule(name=name, value=VALUES[name], severity=severity, source=None)


def verdict_on(
    report: Report,
    pair: SourcedPair,
    *names: RuleName,
    severity: RuleSeverity = "error",
    fail_on: RuleSeverity = "error",
    baseline: Report | None = None,
) -> Report:
    request = CheckRequest(pair=pair, rules=tuple(rule(name, severity) for name in names), fail_on=fail_on)
    return judge(report, request, in_use=IN_USE, filling=IN_USE, baseline=baseline, baseline_pair=IN_USE)


# --- what is possible ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (2.1, 3.0, 4.0, "fail"),
        (2.0, 3.0, 4.0, "pass"),
        (None, 1.9, 4.0, "pass"),
        (None, 2.1, None, "unknown"),
        (None, None, 1.9, "pass"),
        (None, None, 2.1, "unknown"),
        (None, None, None, "unknown"),
        (2.1, None, None, "fail"),
    ],
)
def test_a_limit_is_broken_only_at_the_favourable_end(
    low: float | None, value: float | None, high: float | None, verdict: str
) -> None:
    assert at_most(Reach(value=value, low=low, high=high), 2.0) == verdict


def test_the_reach_of_the_critical_batch_size_is_the_wider_of_interval_and_band() -> None:
    report = sample.contract_report()
    assert critical_batch_size(report) == Reach(value=95.0, low=12.0, high=760.0)
    wide = replace(report.predicted_critical_batch_size, low=5.0, high=2000.0)
    report = replace(report, predicted_critical_batch_size=wide)
    assert critical_batch_size(report) == Reach(value=95.0, low=5.0, high=2000.0)


def test_at_initial_weights_no_upper_end_is_believed() -> None:
    assert critical_batch_size(sample.initial_weights()) == Reach(value=95.0, low=12.0, high=None)
    assert noise_scale(sample.initial_weights()).high is None


def test_at_a_saddle_no_end_is_believed() -> None:
    assert critical_batch_size(curved.at_a_saddle()) == Reach(value=95.0, low=None, high=None)
    assert critical_batch_size(curved.perhaps_at_a_saddle()).high is not None


@pytest.mark.parametrize(
    ("new", "old", "value", "low", "high"),
    [
        ((10.0, 20.0, 40.0), (1.0, 2.0, 4.0), 10.0, 2.5, 40.0),
        ((1.0, 2.0, 4.0), (10.0, 20.0, 40.0), 10.0, 2.5, 40.0),
        ((1.0, 2.0, 4.0), (1.0, 2.0, 4.0), 1.0, 1.0, 4.0),
    ],
)
def test_a_drift_is_the_same_in_both_directions(
    new: tuple[float, float, float], old: tuple[float, float, float], value: float, low: float, high: float
) -> None:
    ends = (Estimate(low=a, value=b, high=c, confidence=0.95) for a, b, c in (new, old))
    assert factor_between(*ends) == Reach(value=value, low=low, high=high)


# --- pairs --------------------------------------------------------------------------------------


def test_a_half_that_is_not_asked_for_is_filled_in() -> None:
    asked = SourcedPair(batch_size=512)
    assert pair_to_judge(asked, IN_USE) == SourcedPair(batch_size=512, learning_rate=1e-3)


@pytest.mark.parametrize(
    ("asked", "in_use", "baseline", "anchor"),
    [
        (SourcedPair(batch_size=64), IN_USE, None, IN_USE),
        (SourcedPair(learning_rate=0.1), IN_USE, SourcedPair(batch_size=8, learning_rate=0.1), IN_USE),
        (SourcedPair(), IN_USE, None, None),
        (SourcedPair(), IN_USE, IN_USE, IN_USE),
        (SourcedPair(batch_size=64), SourcedPair(batch_size=32), None, None),
        (SourcedPair(batch_size=64), SourcedPair(batch_size=32), IN_USE, IN_USE),
        (SourcedPair(batch_size=64), SourcedPair(), SourcedPair(batch_size=32), None),
    ],
)
def test_a_pair_is_never_judged_from_itself(
    asked: SourcedPair, in_use: SourcedPair, baseline: SourcedPair | None, anchor: SourcedPair | None
) -> None:
    assert independent_anchor(asked, in_use, baseline) == anchor


# --- the rules ----------------------------------------------------------------------------------


def test_a_recommended_pair_is_never_against_the_advice() -> None:
    """Of the tool's own rows, the largest useful batch size included."""
    from bsadvisor.advise.pairs import PairInUse, recommend

    report = sample.contract_report()
    pair = PairInUse(batch_size=32, learning_rate=1e-3, optimizer=report.target.optimizer_details)
    rows = recommend(pair, critical=95.0, noise_scale=95.0, dataset_size=None)
    assert len(rows) > 4
    for row in rows:
        asked = SourcedPair(batch_size=row.batch_size, learning_rate=row.learning_rate)
        assert verdict_on(report, asked, "max_examples_over_minimum", "learning_rate").verdict == "pass"


def test_the_range_is_as_wide_as_the_interval_of_the_noise_scale_and_the_errors_of_the_rule() -> None:
    judged = verdict_on(
        sample.contract_report(), SourcedPair(batch_size=320, learning_rate=100.0), "learning_rate"
    )
    (violation,) = judged.violations or ()
    low, high = (((1 + noise / 32) / (1 + noise / 320)) ** 0.75 for noise in (60, 180))
    band = math.exp(math.log(1.49) * math.log(5))
    assert violation.passes is not None
    assert violation.passes.low == pytest.approx(1e-3 * low / band)
    assert violation.passes.high == pytest.approx(1e-3 * high * band)


@pytest.mark.parametrize(
    ("batch", "best_step", "beyond"),
    [
        (32, 1e-7, 3.0),  # 45 best steps are less than that
        (512, 1e-7, 3.0 * 2),  # further away, less is known
        (32, 1e3, 30.0),  # however long the best single step is
        (512, 1e3, 30.0 * 2),
    ],
)
def test_how_far_beyond_the_predicted_range_is_wrong(batch: int, best_step: float, beyond: float) -> None:
    report = sample.contract_report()
    assert report.local is not None
    point = replace(report.local.curve[0], learning_rate=sample.estimate(best_step))
    report = replace(report, local=replace(report.local, curve=(point,)))
    asked = SourcedPair(batch_size=batch, learning_rate=1e6)
    (violation,) = verdict_on(report, asked, "learning_rate").violations or ()
    assert violation.passes is not None and violation.passes.high is not None
    for factor, verdict in ((0.99, "unknown"), (1.01, "fail")):
        rate = violation.passes.high * beyond * factor
        asked = SourcedPair(batch_size=batch, learning_rate=rate)
        assert verdict_on(report, asked, "learning_rate").verdict == verdict


def test_a_trial_judges_batch_sizes_beside_those_that_it_tried() -> None:
    """By its own learning rates, whatever the pair in use was."""
    report = tried.measured(best_rate=2e-2)
    points = {row.batch_size: row.learning_rate for row in report.recommendations if row.basis == "measured"}
    low, high = (size for size in sorted(points) if size >= 32 and size <= 128)
    between = 64
    assert between not in points and (low, high) == (32, 128)
    middle = math.sqrt((points[low] or 0) * (points[high] or 0))
    for factor, verdict in ((1.0, "pass"), (8.0, "fail"), (1 / 8, "fail")):
        asked = SourcedPair(batch_size=between, learning_rate=middle * factor)
        assert verdict_on(report, asked, "learning_rate").verdict == verdict
    assert middle > 8 * 1e-3, "the pair in use is far from tuned"


def test_the_range_ends_at_the_stability_limit_but_not_below_the_rate_in_use() -> None:
    sharp = replace(curved.curvature(), lambda_max_preconditioned=sample.estimate(1e4, 1.1))
    report = replace(sample.contract_report(), curvature=sharp)
    judged = verdict_on(report, SourcedPair(batch_size=512, learning_rate=100.0), "learning_rate")
    (violation,) = judged.violations or ()
    assert violation.passes is not None and violation.passes.high is not None
    unlimited = verdict_on(
        sample.contract_report(), SourcedPair(batch_size=512, learning_rate=100.0), "learning_rate"
    )
    (other,) = unlimited.violations or ()
    assert other.passes is not None and other.passes.high is not None
    assert 1e-3 <= violation.passes.high < other.passes.high


def against_limit(curvature: CurvatureStats, rate: float, batch_size: int = 32) -> Report:
    """The verdict on a learning rate by the stability limit alone."""
    report = replace(sample.contract_report(), curvature=curvature)
    limit = replace(rule("learning_rate"), value="limit")
    request = CheckRequest(
        pair=SourcedPair(batch_size=batch_size, learning_rate=rate), rules=(limit,), fail_on="error"
    )
    return judge(report, request, in_use=IN_USE, filling=IN_USE)


def test_the_limit_is_broken_only_where_the_flattest_possible_curvature_allows_no_such_rate() -> None:
    at_value, at_low = (
        38 / curvature
        for curvature in (162.0, 154.0)  # Adam's limit: 2 (1 + 0.9) / ((1 - 0.9) lambda)
    )
    huge = 10**9  # gradient noise lowers the limit of a smaller batch
    assert against_limit(curved.curvature(), (at_value + at_low) / 2, huge).verdict == "pass"
    broken = against_limit(curved.curvature(), 1.01 * at_low, huge)
    assert broken.verdict == "fail"
    (violation,) = broken.violations or ()
    assert violation.passes is not None
    assert violation.passes.high == pytest.approx(at_low, rel=1e-3)


def test_the_rate_in_use_is_stable_whatever_the_limit_of_one_point_says() -> None:
    sharp = replace(curved.curvature(), lambda_max_preconditioned=sample.estimate(1e6, 1.1))
    assert against_limit(sharp, 1e-3).verdict == "pass"
    assert against_limit(sharp, 1.1e-3).verdict == "fail"


def test_a_violation_stands_at_the_half_of_the_pair_that_a_file_sets() -> None:
    here = Source(by="bsadvisor.yaml", file="bsadvisor.yaml", line=3)
    flag = Source(by="--lr")
    for rate_from, batch_from, expected in [(flag, here, here), (here, flag, here), (flag, None, flag)]:
        pair = SourcedPair(
            batch_size=64, batch_size_from=batch_from, learning_rate=9.0, learning_rate_from=rate_from
        )
        (violation,) = verdict_on(sample.contract_report(), pair, "learning_rate").violations or ()
        assert violation.source == expected


def test_every_violation_says_what_was_measured_what_was_asked_and_what_would_pass() -> None:
    names: list[RuleName] = ["max_examples_over_minimum", "learning_rate"]
    judged = verdict_on(sample.contract_report(), SourcedPair(batch_size=9999, learning_rate=9.0), *names)
    for violation in judged.violations or ():
        assert violation.measured is not None and violation.measured.low is not None
        assert violation.asked is not None
        assert violation.passes is not None
        assert "would pass" in violation.remedy
        assert violation.code in CATALOGUE


@pytest.mark.parametrize("fail_on", get_args(RuleSeverity))
@pytest.mark.parametrize("severity", get_args(RuleSeverity))
def test_a_violation_fails_from_the_asked_severity_on(severity: RuleSeverity, fail_on: RuleSeverity) -> None:
    pair = SourcedPair(batch_size=9999)
    judged = verdict_on(
        sample.contract_report(), pair, "max_examples_over_minimum", severity=severity, fail_on=fail_on
    )
    ranks = list(get_args(RuleSeverity))
    assert len(judged.violations or ()) == 1
    assert judged.verdict == ("fail" if ranks.index(severity) >= ranks.index(fail_on) else "pass")


def test_all_rules_unknown_is_unknown_and_one_that_is_kept_is_a_pass() -> None:
    report = sample.contract_report()
    assert verdict_on(report, IN_USE, "memory").verdict == "unknown"
    assert verdict_on(report, IN_USE, "memory", "learning_rate").verdict == "pass"


def test_the_drift_is_judged_with_a_baseline_only() -> None:
    report = sample.contract_report()
    with pytest.raises(UsageError, match="nothing to check"):
        verdict_on(report, IN_USE, "max_drift")
    assert verdict_on(report, IN_USE, "max_drift", baseline=report).verdict == "pass"


def test_every_rule_has_words_of_its_own_in_the_catalogue() -> None:
    assert set(CODES) == set(get_args(RuleName)) == set(VALUES)
    for name, code in CODES.items():
        assert name in CATALOGUE[code].explanation


# --- any report ---------------------------------------------------------------------------------

PAIRS = st.builds(
    SourcedPair,
    batch_size=st.none() | st.integers(min_value=1, max_value=10**12),
    learning_rate=st.none() | st.floats(min_value=1e-30, max_value=1e30),
)


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(REPORTS, PAIRS, PAIRS, st.sampled_from(["range", "limit"]))
def test_whatever_a_report_holds_the_answer_is_a_valid_report(
    report: Report, asked: SourcedPair, in_use: SourcedPair, against: str
) -> None:
    rules = tuple(
        replace(rule(name), value=against if name == "learning_rate" else VALUES[name]) for name in VALUES
    )
    request = CheckRequest(pair=asked, rules=rules, fail_on="error")
    judged = judge(report, request, in_use=in_use, filling=in_use, baseline=report, baseline_pair=in_use)
    assert judged.check is not None and judged.violations is not None
    results = (*judged.check.passed, *judged.check.unknown, *judged.violations)
    assert sorted(result.rule for result in results) == sorted(VALUES)
    assert from_json(to_json(judged)) == judged
    validate(json.loads(to_json(judged)))
    assert len(list(contradictions(report))) <= 1
