"""Rows that a trial measured, rows anchored on them, and the headline that follows."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from bsadvisor.advise.measured import measured_headline, recommend_measured
from bsadvisor.advise.measured_rates import expected_rate
from bsadvisor.advise.pairs import PairInUse
from bsadvisor.advise.trial_remarks import about_trial
from bsadvisor.values import Estimate, OptimizerDetails, TrialStats
from tests.report.sample import contract_report
from tests.report.tried import begun, far_from_tuned, measured, trial

PAIR = PairInUse(
    batch_size=32, learning_rate=1e-3, optimizer=OptimizerDetails(family="adam", betas=(0.9, 0.999))
)


def codes(found: TrialStats | None, impossible: str | None = None, *, asked: bool = True) -> set[str]:
    critical = contract_report().predicted_critical_batch_size
    return {remark.code for remark in about_trial(found, impossible, critical, asked=asked)}


def test_measured_rows_say_what_their_runs_took() -> None:
    report = measured()
    assert report.trial is not None
    own = report.trial.steps_in_use
    assert own is not None
    rows = {row.batch_size: row for row in report.recommendations}
    for point in report.trial.curve:
        row = rows[point.batch_size]
        assert row.basis == "measured" and row.learning_rate == point.learning_rate
        assert row.steps_factor == pytest.approx((point.steps.value or 0) / own)
        assert row.examples_factor == pytest.approx((row.steps_factor or 0) * point.batch_size / 32)
        assert row.steps_over_minimum == pytest.approx(
            (point.steps.value or 0) / (report.trial.minimum_steps.value or 1)
        )
        assert row.learning_rate_confidence is None and row.learning_rate_low is not None


def test_rows_between_are_predicted_from_those_beside_them() -> None:
    report = measured()
    between = [row for row in report.recommendations if row.basis == "predicted"]
    assert between and all("measured learning rates" in row.rule for row in between)
    rates = [(row.batch_size, row.learning_rate or 0) for row in report.recommendations]
    assert all(b[1] > 0.7 * a[1] for a, b in itertools.pairwise(rates))


def test_a_better_pair_is_to_be_used_and_was_measured() -> None:
    report = measured()
    assert report.headline.action == "use"
    chosen = next(row for row in report.recommendations if row.batch_size == report.headline.batch_size)
    assert chosen.basis == "measured" and chosen.role == "balanced"


def test_a_pair_that_is_as_good_is_kept() -> None:
    found = trial(critical=36.0, best_rate=1e-3)
    rows = recommend_measured(PAIR, found, dataset_size=1437, limit=lambda size: None)
    headline = measured_headline(rows, found, PAIR, has_checkpoint=True)
    assert headline is not None and headline.action == "keep" and headline.batch_size == 32


def test_the_same_batch_size_with_another_rate_is_no_keeping() -> None:
    found = trial(critical=36.0, best_rate=2.2e-3)
    rows = recommend_measured(PAIR, found, dataset_size=1437, limit=lambda size: None)
    headline = measured_headline(rows, found, PAIR, has_checkpoint=True)
    assert headline is not None and headline.action == "use"


def test_nothing_is_recommended_at_initial_weights() -> None:
    found = trial(critical=140.0, best_rate=1.3e-3)
    rows = recommend_measured(PAIR, found, dataset_size=1437, limit=lambda size: None)
    headline = measured_headline(rows, found, PAIR, has_checkpoint=False)
    assert headline is not None and headline.action == "none"


def test_steps_are_not_compared_with_a_pair_that_was_not_run_so_far() -> None:
    report = far_from_tuned()
    assert report.trial is not None and report.trial.steps_in_use is None
    assert all(row.steps_factor is None for row in report.recommendations)
    assert "sets the target" in " ".join(report.trial.notes)


def test_a_trial_that_has_only_begun_recommends_nothing() -> None:
    report = begun()
    assert report.headline.action == "try", "that of the prediction"
    assert "BSA314" in codes(report.trial)


def test_a_critical_batch_size_without_an_upper_end_makes_the_largest_the_best() -> None:
    found = trial(critical=140.0, best_rate=1.3e-3)
    low = Estimate(value=None, low=400.0, high=None, confidence=0.9)
    open_ended = replace(
        found,
        measured_critical_batch_size=low,
        minimum_steps=Estimate(value=None, low=None, high=20.0, confidence=0.9),
    )
    rows = recommend_measured(PAIR, open_ended, dataset_size=1437, limit=lambda size: None)
    headline = measured_headline(rows, open_ended, PAIR, has_checkpoint=True)
    assert headline is not None and headline.batch_size == max(p.batch_size for p in found.curve)
    assert "lies beyond" in headline.reason


def test_a_rate_that_was_compared_with_others_is_rather_recommended_than_one_that_ran_alone() -> None:
    found = trial(critical=300.0, best_rate=1.3e-3)
    nearer, farther = found.curve[-1], found.curve[-2]
    critical = Estimate(value=0.9 * nearer.batch_size, low=100.0, high=900.0, confidence=0.9)
    for tried, chosen, why in (
        (farther.tried, nearer, "nearest"),
        (nearer.tried[:1], farther, "compared with others"),
    ):
        curve = (*found.curve[:-1], replace(nearer, tried=tried))
        again = replace(found, curve=curve, measured_critical_batch_size=critical)
        rows = recommend_measured(PAIR, again, dataset_size=1437, limit=lambda size: None)
        headline = measured_headline(rows, again, PAIR, has_checkpoint=True)
        assert headline is not None and headline.batch_size == chosen.batch_size and why in headline.reason
        row = next(row for row in rows if row.batch_size == nearer.batch_size)
        assert ("the only learning rate tried" in row.rule) == (len(tried) == 1)


# --- what is remarked ---------------------------------------------------------------------------


def test_a_trial_that_went_well_is_remarked_on_for_its_warm_up_only() -> None:
    assert codes(measured().trial) == {"BSA316"}


def test_what_was_impossible_is_said_where_somebody_asked() -> None:
    assert codes(None, "the data is a stream") == {"BSA310"}
    assert codes(None, "the data is a stream", asked=False) == set()


def test_points_off_the_curve_edges_and_surprises_are_remarked() -> None:
    found = measured().trial
    assert found is not None
    assert "BSA312" in codes(replace(found, fits=False, residual=0.4))
    edge = replace(found, curve=(replace(found.curve[0], at_edge=True), *found.curve[1:]))
    assert "BSA313" in codes(edge)
    far = Estimate(value=5000.0, low=4000.0, high=6000.0, confidence=0.9)
    assert "BSA315" in codes(replace(found, measured_critical_batch_size=far))


# --- learning rates between batch sizes ---------------------------------------------------------


def test_between_two_batch_sizes_rates_lie_on_a_line() -> None:
    found = expected_rate({8: 1.0, 128: 4.0}, 32, family="sgd", noise_scale=None)
    assert found == pytest.approx(2.0)


def test_a_measured_rate_is_its_own() -> None:
    assert expected_rate({8: 1.0, 32: 3.0}, 32, family="sgd", noise_scale=None) == 3.0


def test_from_one_batch_size_the_rule_leads_on() -> None:
    found = expected_rate({32: 1.0}, 128, family="sgd", noise_scale=1e9)
    assert found == pytest.approx(2.0, rel=1e-3)


def test_beyond_the_measured_ones_rates_rise_more_slowly() -> None:
    found = expected_rate({8: 1.0, 32: 4.0}, 128, family="sgd", noise_scale=1.0)
    assert 4.0 < found < 16.0 and math.isfinite(found)
