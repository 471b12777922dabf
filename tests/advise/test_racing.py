"""A trial's strategy in worlds whose every answer is known, played through without training anything."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Literal

import pytest

from bsadvisor.advise.racing import next_heat
from bsadvisor.advise.racing_course import Course, legs
from bsadvisor.advise.trial_lines import Line
from bsadvisor.advise.trial_plan import World, plan_trial
from bsadvisor.advise.trial_stats import trial_stats
from bsadvisor.theory.rate_curve import USUAL_CURVATURE
from bsadvisor.theory.training_cost import inefficiency, steps_factor
from bsadvisor.values import BranchResult, Heat, HeatResult, TrialPlan, TrialPoint, TrialStats

COURSE = Course(
    batch_size=32,
    learning_rate=0.1,
    smallest=1,
    largest=100_000,
    horizon=200,
    target_loss=None,
    family="sgd",
    noise_scale=None,
    seed=0,
)


def play(world: World, most: int = 80) -> list[HeatResult]:
    """All heats of a trial, in order."""
    results: list[HeatResult] = []
    while (heat := next_heat(world.course, results)) is not None:
        assert len(results) < most, "the strategy does not end"
        assert all(size >= world.course.smallest for size in [heat.batch_size])
        assert heat.batch_size <= world.course.largest
        results.append(world.run(heat))
    return results


def stats(world: World) -> TrialStats:
    return trial_stats(world.course, play(world), evaluation_examples=1, stopped_by="precision", notes=())


def first_above(size: int, found: TrialStats) -> TrialPoint:
    return min(
        (point for point in found.curve if point.batch_size > size), key=lambda point: point.batch_size
    )


def timed_rates(world: World, size: int) -> list[float]:
    """Learning rates of the runs that were timed at a batch size, in order."""
    return [
        run.learning_rate
        for result in play(world)
        for run in result.branches
        if result.heat.batch_size == size and run.seed != world.course.seeds.search
    ]


def world(critical: float = 100.0, best_rate: float = 0.12, **course: object) -> World:
    return World(course=replace(COURSE, **course), critical=critical, best_rate=best_rate)  # type: ignore[arg-type]


@pytest.mark.parametrize("critical", [20, 100, 500])
@pytest.mark.parametrize("best_rate", [0.05, 0.12, 0.3])
def test_the_critical_batch_size_of_a_hyperbola_is_found(critical: float, best_rate: float) -> None:
    found = stats(world(critical, best_rate))
    estimate = found.measured_critical_batch_size
    assert estimate.value == pytest.approx(critical, rel=0.35)
    assert (estimate.low or 0) <= critical <= (estimate.high or math.inf)
    assert found.fits and len(found.curve) >= 3


def test_every_batch_size_ends_with_a_rate_close_to_its_best() -> None:
    truth = world(100, 0.12)
    for point in stats(truth).curve:
        took = truth.excess(point.batch_size, point.learning_rate)
        searched = point.batch_size <= 4 * COURSE.batch_size
        assert took < (1.06 if searched else 1.12)
        assert point.learning_rate_low is not None and point.learning_rate_high is not None
        assert point.learning_rate_low < point.learning_rate < point.learning_rate_high


@pytest.mark.parametrize("critical", [30, 100, 400])
def test_a_trial_of_scattering_runs_takes_a_tenth_of_a_grid_search(critical: float) -> None:
    truth = replace(world(critical), scatter=(-0.3, 0.3, 0.1, -0.2, 0.25))
    results = play(truth)
    target = results[0].target_loss
    assert target is not None
    grid = sum(
        21 * 1.4 * size * truth.steps(size, 0.1, seed=2, target_loss=target) / truth.excess(size, 0.1)
        for size in (4, 8, 16, 32, 64, 128, 256, 512)
    )
    spent = sum(result.examples for result in results)
    assert 0.03 < spent / grid < 0.1
    assert max(point.seeds for point in stats(truth).curve) > 2, "further seeds are what is left out first"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capped(World):
    """Above eight times the batch size in use the best learning rate is that of the batch size in use again."""

    def excess(self, batch_size: int, rate: float) -> float:
        own = self.course.batch_size
        return World.excess(self, own if batch_size > 8 * own else batch_size, rate)


def test_a_rate_without_a_search_that_took_far_longer_than_expected_is_followed_by_a_lower_one() -> None:
    capped = Capped(course=COURSE, critical=2000.0, best_rate=0.12)
    unsearched = first_above(8 * COURSE.batch_size, stats(capped))
    assert len(unsearched.tried) > 1
    assert unsearched.learning_rate == min(rate.learning_rate for rate in unsearched.tried)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturated(World):
    """Above eight times the batch size in use every learning rate takes 2.2 times as long as the hyperbola says."""

    def excess(self, batch_size: int, rate: float) -> float:
        return 2.2 if batch_size > 8 * self.course.batch_size else World.excess(self, batch_size, rate)


def test_a_lower_rate_that_saves_nothing_is_the_last_one() -> None:
    """Runs there are dear, and it was the expectation that was wrong."""
    saturated = Saturated(course=COURSE, critical=4000.0, best_rate=0.12)
    assert len(first_above(8 * COURSE.batch_size, stats(saturated)).tried) == 2


def test_a_pair_far_from_tuned_hands_the_target_over_to_a_better_one() -> None:
    results = play(world(100, best_rate=3.0))
    assert len(legs(results)) > 1
    setter = legs(results)[-1][0].heat.pace_setter
    assert setter > 1.0, "the pace setter is near the best rate"
    found = stats(world(100, best_rate=3.0))
    assert found.steps_in_use is None and "sets the target" in found.notes[0]


def test_a_given_target_is_kept() -> None:
    results = play(world(100, best_rate=3.0, target_loss=0.5))
    assert {result.heat.target_loss for result in results} == {0.5}


def test_the_same_results_lead_to_the_same_heats() -> None:
    assert [result.heat for result in play(world())] == [result.heat for result in play(world())]


def test_batch_sizes_stay_within_the_data_and_are_multiples_of_the_devices() -> None:
    results = play(world(1000, smallest=8, largest=300))
    sizes = {result.heat.batch_size for result in results}
    assert max(sizes) <= 300 and all(size % 8 == 0 for size in sizes)


def test_beyond_eight_times_the_batch_size_in_use_the_next_is_twice_as_large() -> None:
    sizes = sorted({result.heat.batch_size for result in play(world(5000))})
    above = [size for size in sizes if size >= 256]
    assert above[:2] == [256, 512] and all(b == 2 * a for a, b in itertools.pairwise(above))


def test_a_larger_batch_size_is_left_out_where_it_would_take_too_large_a_share() -> None:
    """Two runs there take at most 0.4 of what all the others took."""
    for critical in (100, 500, 5000):
        results = play(world(critical))
        for place, result in enumerate(results):
            size = result.heat.batch_size
            first = all(other.heat.batch_size != size for other in results[:place])
            if size > 256 and first:
                before = sum(other.examples for other in results[:place])
                assert 2 * size * result.heat.expected_steps <= 0.4 * before


def test_a_rate_beyond_those_tried_has_steps_to_beat() -> None:
    results = play(world(100, best_rate=0.5))
    search = (COURSE.seeds.search,)
    single = [r.heat for r in results if len(r.heat.learning_rates) == 1 and r.heat.seeds == search]
    assert single and all(heat.steps_to_beat == heat.expected_steps for heat in single)


def test_few_runs_that_happen_to_agree_do_not_prove_more_than_other_trials_say() -> None:
    exact = replace(world(), scatter=(0.0,) * 5)
    estimate = stats(exact).measured_critical_batch_size
    assert estimate.low is not None and estimate.high is not None
    assert estimate.high / estimate.low > 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Cliff(World):
    """Above a rate, every run blows up."""

    edge: float

    def run(self, heat: Heat) -> HeatResult:
        result = World.run(self, heat)
        return replace(
            result,
            branches=tuple(
                replace(branch, outcome="diverged", steps=None, final_log_loss=None)
                if branch.learning_rate > self.edge
                else branch
                for branch in result.branches
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragile(Cliff):
    """Only at one batch size."""

    fragile: int

    def run(self, heat: Heat) -> HeatResult:
        return Cliff.run(self, heat) if heat.batch_size == self.fragile else World.run(self, heat)


def test_where_a_rate_that_was_not_searched_blows_up_a_lower_one_is_timed() -> None:
    fragile = Fragile(course=COURSE, critical=5000.0, best_rate=0.12, edge=0.25, fragile=512)
    rates = [result.heat.learning_rates[0] for result in play(fragile) if result.heat.batch_size == 512]
    assert rates[0] > 0.25 > rates[1]
    assert 512 in {point.batch_size for point in stats(fragile).curve}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lucky(World):
    """Above an edge, only the order of the data that rates are searched on gets there."""

    edge: float
    otherwise: Literal["out_of_reach", "diverged"] = "out_of_reach"

    def run(self, heat: Heat) -> HeatResult:
        found = World.run(self, heat)
        search = self.course.seeds.search
        return replace(
            found,
            branches=tuple(
                replace(branch, outcome=self.otherwise, steps=None)
                if branch.learning_rate > self.edge and branch.seed != search
                else branch
                for branch in found.branches
            ),
        )


@pytest.mark.parametrize("edge", [0.1, 0.07, 0.04])
def test_where_the_best_searched_rate_was_luck_a_lower_one_is_timed(edge: float) -> None:
    found = stats(Lucky(course=COURSE, critical=100.0, best_rate=0.12, edge=edge))
    own = next(point for point in found.curve if point.batch_size == COURSE.batch_size)
    assert own.learning_rate <= edge


@pytest.mark.parametrize(("otherwise", "lower"), [("diverged", math.sqrt(2)), ("out_of_reach", 2.0)])
def test_a_rate_that_blew_up_when_timed_is_followed_by_one_a_little_lower(
    otherwise: Literal["out_of_reach", "diverged"], lower: float
) -> None:
    """The search got there, so it is just beyond what is stable; where it is merely never there, who knows."""
    lucky = Lucky(course=COURSE, critical=100.0, best_rate=0.12, edge=0.07, otherwise=otherwise)
    timed = timed_rates(lucky, COURSE.batch_size)
    assert timed[0] > lucky.edge and timed[0] / timed[1] == pytest.approx(lower)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dips(World):
    """A noisy loss dips below the target early with rates above an edge, on the data that rates are searched on;
    on other data it takes as long as with the rate at the edge, or longer."""

    edge: float

    def run(self, heat: Heat) -> HeatResult:
        def honest(branch: BranchResult) -> BranchResult:
            dips, steps = branch.learning_rate > self.edge, branch.steps or math.inf
            if branch.seed != self.course.seeds.search:
                late = heat.max_steps < (2 * steps if dips else steps)
                return replace(branch, outcome="out_of_reach", steps=None) if late else branch
            return replace(branch, steps=steps * (self.edge / branch.learning_rate) ** 3) if dips else branch

        found = World.run(self, heat)
        return replace(found, branches=tuple(honest(branch) for branch in found.branches))


def test_where_the_target_is_within_the_noise_the_pair_in_use_is_still_timed() -> None:
    """Far lower rates are timed, and given as long as they took when they were searched."""
    dips = Dips(course=replace(COURSE, target_loss=0.4), critical=100.0, best_rate=0.5, edge=0.09)
    results = play(dips)
    own = next(p for p in stats(dips).curve if p.batch_size == COURSE.batch_size)
    assert own.steps.value is not None
    assert len({r.heat.learning_rates for r in results if r.heat.batch_size == 32}) > 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempting(World):
    """Above an edge, rates are ahead at first, so that lower ones beside them are given up, and never get there."""

    edge: float

    def run(self, heat: Heat) -> HeatResult:
        found = World.run(self, heat)
        tempted = max(heat.learning_rates) > self.edge
        lost = [
            replace(branch, outcome="out_of_reach", steps=None, final_log_loss=-0.6)
            if branch.learning_rate > self.edge
            else replace(branch, outcome="slower", steps=None, final_log_loss=-0.3)
            for branch in found.branches
        ]
        return replace(found, branches=tuple(lost)) if tempted else found


@pytest.mark.parametrize("edge", [0.15, 0.09, 0.05])
def test_rates_that_were_given_up_for_one_that_never_got_there_get_another_chance(edge: float) -> None:
    tempting = Tempting(
        course=replace(COURSE, target_loss=0.4), critical=100.0, best_rate=0.8 * edge, edge=edge
    )
    found = stats(tempting)
    own = next(point for point in found.curve if point.batch_size == COURSE.batch_size)
    assert own.learning_rate <= edge


@dataclass(frozen=True, slots=True, kw_only=True)
class Distant(World):
    """So many steps with the best rate, and in proportion to the rate far from it; heats end where they may not go on,
    or where the highest rate leads."""

    away: float

    def steps(self, batch_size: int, rate: float, seed: int, target_loss: float) -> float:
        return (
            self.away
            * steps_factor(batch_size, self.course.batch_size, self.critical)
            * self.excess(batch_size, rate)
        )

    def excess(self, batch_size: int, rate: float) -> float:
        log, curvature = math.log(World.excess(self, batch_size, rate)), USUAL_CURVATURE
        far = log > 1 / (4 * curvature)
        return math.exp(math.sqrt(log / curvature) - 1 / (4 * curvature) if far else log)

    def run(self, heat: Heat) -> HeatResult:
        found = World.run(self, heat)
        steps = [branch.steps or math.inf for branch in found.branches]
        leads = len(steps) > 1 and 1.6 * steps[-1] < min(steps[:-1])
        end = round(heat.patience) if leads and heat.patience else heat.max_steps
        if min(steps) <= end:
            return found
        ends = [
            replace(
                branch,
                outcome="out_of_reach" if own == min(steps) else "slower",
                steps=None,
                steps_taken=end,
                final_log_loss=-end / own,
            )
            for branch, own in zip(found.branches, steps, strict=True)
        ]
        return replace(found, branches=tuple(ends))


@pytest.mark.parametrize("rate", [0.05, 0.01, 0.002])
@pytest.mark.parametrize("away", [100, 300, 600])
def test_a_target_that_the_pair_in_use_is_far_too_slow_for_is_sought_with_higher_rates(
    rate: float, away: float
) -> None:
    """Those that were given up on the way are no reason to look lower."""
    distant = Distant(
        course=replace(COURSE, target_loss=0.4, learning_rate=rate), critical=100.0, best_rate=0.2, away=away
    )
    own = next(p for p in stats(distant).curve if p.batch_size == COURSE.batch_size)
    assert own.learning_rate == pytest.approx(0.2, rel=0.4)


def test_two_higher_rates_follow_where_the_highest_led_and_was_cut_short() -> None:
    """It took few steps, and it may take as few with the next ones."""
    distant = Distant(
        course=replace(COURSE, target_loss=0.4, learning_rate=0.01), critical=100.0, best_rate=0.2, away=100
    )
    first, second = (result.heat for result in play(distant)[:2])
    assert second.learning_rates == pytest.approx((0.04, 0.08))
    assert second.expected_steps == first.expected_steps


def test_only_at_the_batch_size_in_use_patience_is_short() -> None:
    """And only to a given target: elsewhere it is the expectation that may be wrong."""
    given = [result.heat for result in play(world(100, 3.0, target_loss=0.4))]
    assert {heat.batch_size for heat in given if heat.patience} == {COURSE.batch_size}
    assert not any(result.heat.patience for result in play(world(100, 3.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timid(World):
    """On the data that rates are searched on, lower ones do best."""

    def run(self, heat: Heat) -> HeatResult:
        if heat.seeds != (self.course.seeds.search,):
            return World.run(self, heat)
        other = World(course=self.course, critical=self.critical, best_rate=0.6 * self.best_rate)
        return other.run(heat)


def recommended(world: World) -> TrialPoint:
    """The batch size nearest to the critical one."""
    found = stats(world)
    critical = found.measured_critical_batch_size.value or math.nan
    return min(found.curve, key=lambda point: inefficiency(point.batch_size, critical))


def test_the_pair_that_will_be_recommended_is_timed_beside_a_higher_rate() -> None:
    timid = Timid(course=COURSE, critical=30.0, best_rate=0.12)
    point = recommended(timid)
    timed = [run for result in play(timid) for run in result.branches if run.seed != COURSE.seeds.search]
    assert timid.excess(COURSE.batch_size, timed[0].learning_rate) > 1.15, "the search stops too low"
    assert timid.excess(point.batch_size, point.learning_rate) < 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Frayed(World):
    """Above an edge, rates that do well on the data that they are searched on take longer on other data."""

    edge: float
    longer: float

    def run(self, heat: Heat) -> HeatResult:
        found = World.run(self, heat)
        frays = heat.batch_size == 128 and self.course.seeds.search not in heat.seeds
        return replace(
            found,
            branches=tuple(
                replace(branch, steps=self.longer * branch.steps)
                if frays and branch.steps and branch.learning_rate > self.edge
                else branch
                for branch in found.branches
            ),
        )


@pytest.mark.parametrize(("longer", "lower"), [(1.5, True), (1.2, False)])
def test_where_the_pair_that_will_be_recommended_is_late_a_lower_rate_is_timed(
    longer: float, lower: bool
) -> None:
    frayed = Frayed(course=COURSE, critical=128.0, best_rate=0.12, edge=0.16, longer=longer)
    point = recommended(frayed)
    timed = timed_rates(frayed, 128)
    assert point.batch_size == 128 and timed[0] > frayed.edge
    assert (min(timed) < timed[0]) == lower == (point.learning_rate < frayed.edge)


@dataclass(frozen=True, slots=True, kw_only=True)
class Brink(Cliff):
    """Below the rate that blows up, the valley of the others is flat."""

    def excess(self, batch_size: int, rate: float) -> float:
        return math.sqrt(World.excess(self, batch_size, rate))


@pytest.mark.parametrize(("edge", "lower"), [(0.3, True), (9.0, False)])
def test_below_a_rate_that_blew_up_a_lower_one_that_is_hardly_slower_is_recommended(
    edge: float, lower: bool
) -> None:
    brink = Brink(course=COURSE, critical=32.0, best_rate=0.2, edge=edge)
    point = recommended(brink)
    timed = timed_rates(brink, 32)
    assert point.batch_size == 32 and (point.learning_rate < 0.15) == lower == (min(timed) < 0.15)


@pytest.mark.parametrize(("horizon", "near"), [(200, False), (20, True)])
def test_a_given_target_a_few_steps_away_is_remarked(horizon: int, near: bool) -> None:
    notes = stats(world(100, 0.12, target_loss=0.5, horizon=horizon)).notes
    assert any("steps away" in note for note in notes) == near


@pytest.mark.parametrize("critical", [30, 100, 200])
def test_the_pair_that_will_be_recommended_is_timed_twice(critical: float) -> None:
    """Or with a rate next to it, and before anything further out, which may cost all that is left."""
    truth = world(critical)
    point, results = recommended(truth), play(truth)
    timed = [
        (place, result.heat.seeds)
        for place, result in enumerate(results)
        if result.heat.batch_size == point.batch_size
        and result.heat.seeds != (COURSE.seeds.search,)
        and 0.6 < result.heat.learning_rates[0] / point.learning_rate < 1.6
    ]
    assert len({seeds for _, seeds in timed}) >= 2
    sizes = {result.heat.batch_size for result in results[: timed[1][0]]}
    assert len(sizes | {point.batch_size}) <= 4, "the one in use, one either side, and the balanced one"


def test_at_the_balanced_batch_size_two_rates_are_compared() -> None:
    results = play(world(100))
    between = [result.heat for result in results if 32 < result.heat.batch_size < 256]
    assert {heat.batch_size for heat in between} == {128}
    assert len(between[0].learning_rates) == 2
    assert between[0].seeds == (COURSE.seeds.search,) != between[-1].seeds


def test_a_lower_rate_is_compared_on_the_same_data() -> None:
    """A rate that was timed on a second order of the data is no better for that one being easy."""
    seeds = COURSE.seeds

    def ran(rate: float, seed: int, steps: float) -> BranchResult:
        return BranchResult(
            learning_rate=rate, seed=seed, outcome="reached", steps=steps, steps_taken=1, final_log_loss=0.0
        )

    first, second = seeds.timing[:2]
    runs = (ran(0.2, first, 150.0), ran(0.2, second, 50.0), ran(0.1, first, 120.0))
    line = Line(batch_size=32, runs=runs, seeds=seeds)
    assert line.timed_steps == {0.1: pytest.approx(120.0), 0.2: pytest.approx(150.0)}
    assert line.chosen == 0.1


def test_further_runs_go_where_they_tell_most() -> None:
    """Far below the critical batch size they cost little, and near it they say little."""
    results = play(replace(world(critical=20.0), scatter=(-0.3, 0.3, 0.1, -0.2, 0.25)))
    further = [result.heat.batch_size for result in results[-4:]]
    assert further.count(min(result.heat.batch_size for result in results)) >= 3


def test_rates_that_blow_up_are_counted_and_never_recommended() -> None:
    cliff = Cliff(course=COURSE, critical=100.0, best_rate=0.15, edge=0.16)
    found = stats(cliff)
    assert found.curve and all(point.learning_rate <= 0.16 for point in found.curve)
    tried = [tried for point in found.curve for tried in point.tried]
    assert any(one.outcome == "diverged" and one.steps is None for one in tried)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desert(World):
    """The loss goes down nowhere."""

    def run(self, heat: Heat) -> HeatResult:
        branch = BranchResult(
            learning_rate=0.0, seed=0, outcome="out_of_reach", steps=None, steps_taken=9, final_log_loss=0.1
        )
        return HeatResult(
            heat=heat,
            target_loss=None,
            start_loss=1.0,
            branches=tuple(
                replace(branch, learning_rate=rate, seed=seed)
                for rate in heat.learning_rates
                for seed in heat.seeds
            ),
        )


@pytest.mark.parametrize("target", [None, 0.5])
def test_a_loss_that_goes_down_nowhere_is_given_up_with_what_was_tried(target: float | None) -> None:
    desert = Desert(course=replace(COURSE, target_loss=target), critical=100.0, best_rate=0.1)
    found = stats(desert)
    assert found.target_loss is None and not found.curve
    assert "any learning rate tried: " in found.notes[-1]
    assert len(play(desert)) <= 5


@pytest.mark.parametrize("target", [0.2, 3.0])
def test_a_plan_takes_any_given_target_for_one_at_the_horizon(target: float) -> None:
    """How far away it is nobody knows; losses above 1 have a logarithm above 0."""

    def plan(target: float | None) -> TrialPlan:
        course = replace(COURSE, target_loss=target)
        return plan_trial(course, critical=100.0, step_seconds=lambda size: 1e-3, evaluation_seconds=0.01)

    assert plan(target).examples == pytest.approx(plan(None).examples, rel=0.1)


def test_a_plan_counts_what_the_strategy_would_run() -> None:
    plan = plan_trial(
        COURSE, critical=100.0, step_seconds=lambda size: 0.001 + 1e-5 * size, evaluation_seconds=0.01
    )
    results = play(World(course=COURSE, critical=100.0, best_rate=0.12))
    assert plan.runs == sum(len(result.branches) for result in results)
    assert plan.examples == sum(result.examples for result in results)
    assert plan.seconds > plan.examples * 1e-5 and 32 in plan.batch_sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor(World):
    """Small batches are too noisy to get as far as the target."""

    def run(self, heat: Heat) -> HeatResult:
        result = World.run(self, heat)
        if heat.batch_size >= 32:
            return result
        lost = [replace(branch, outcome="out_of_reach", steps=None) for branch in result.branches]
        return replace(result, branches=tuple(lost))


def test_no_batch_size_is_tried_below_one_that_never_gets_there() -> None:
    results = play(Floor(course=COURSE, critical=40.0, best_rate=0.12))
    assert min(result.heat.batch_size for result in results) == 8


def test_a_batch_size_that_never_gets_there_is_named_and_left_out_of_the_curve() -> None:
    found = stats(Floor(course=COURSE, critical=100.0, best_rate=0.12))
    assert found.curve and min(point.batch_size for point in found.curve) == 32
    assert any("at B = 8 the target was not reached" in note for note in found.notes)
