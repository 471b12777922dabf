"""A heat: who arrives, who is given up, who blew up, on loss curves that are known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import pytest

from bsadvisor.measure.branches import Branch
from bsadvisor.measure.heat import HeatStoppedError, run_heat
from bsadvisor.values import BranchResult, Heat, HeatResult

Curve = Callable[[float], float]
"""Loss by steps."""

HEAT = Heat(
    batch_size=8,
    learning_rates=(1.0, 2.0),
    seeds=(0,),
    target_loss=0.5,
    pace_setter=1.0,
    expected_steps=100,
    max_steps=400,
)


@dataclass(kw_only=True)
class Curves:
    """Branches whose losses follow curves, by learning rate."""

    by_rate: dict[float, Curve]
    branches: Sequence[Branch]
    step: int = 0
    looks: list[int] = field(default_factory=list)

    def advance(self, steps: int) -> None:
        assert steps > 0
        self.step += steps

    def losses(self) -> list[float]:
        self.looks.append(self.step)
        return [self.by_rate[branch.learning_rate](self.step) for branch in self.branches]

    def keep(self, kept: Sequence[int]) -> None:
        self.branches = [self.branches[place] for place in kept]


def falling(steps: float, floor: float = 0.0) -> Curve:
    """Halves the excess over the floor after `steps`."""
    return lambda step: floor + (1 - floor) * 0.5 ** (step / steps)


def run(curves: dict[float, Curve], heat: Heat = HEAT, stop_after: int | None = None) -> HeatResult:
    made: list[Curves] = []

    def start(branches: Sequence[Branch]) -> Curves:
        made.append(Curves(by_rate=curves, branches=list(branches)))
        return made[0]

    return run_heat(
        heat,
        start,
        1.0,
        should_stop=lambda: stop_after is not None and bool(made) and made[0].step >= stop_after,
        progress=lambda step: None,
    )


def by_rate(result: HeatResult) -> dict[float, BranchResult]:
    return {branch.learning_rate: branch for branch in result.branches}


def test_steps_are_read_off_between_looks() -> None:
    found = by_rate(run({1.0: falling(83), 2.0: falling(91)}))
    assert found[1.0].outcome == found[2.0].outcome == "reached"
    assert found[1.0].steps == pytest.approx(83, rel=0.02)
    assert found[2.0].steps == pytest.approx(91, rel=0.02)
    assert found[1.0].steps_taken < 1.3 * 83


def test_a_run_that_is_clearly_slower_is_given_up_and_extrapolated() -> None:
    found = by_rate(run({1.0: falling(50), 2.0: falling(150)}))
    assert found[2.0].outcome == "slower"
    assert found[2.0].steps == pytest.approx(150, rel=0.1)
    assert found[2.0].steps_taken < 80


def test_a_run_alone_is_given_up_once_it_is_slower_than_one_before() -> None:
    alone = replace(HEAT, learning_rates=(2.0,), steps_to_beat=60.0)
    (late,) = run({2.0: falling(150)}, alone).branches
    assert late.outcome == "slower" and late.steps_taken <= 80
    assert late.steps is not None and 120 < late.steps <= 10 * late.steps_taken
    (close,) = run({2.0: falling(62)}, alone).branches
    assert close.outcome == "reached" and close.steps == pytest.approx(62, rel=0.03)
    (later,) = run({2.0: falling(66)}, alone).branches
    assert later.steps == pytest.approx(66, rel=0.03), "it is there, if not known to stay"


def test_a_run_alone_is_extrapolated_as_a_power_of_its_steps() -> None:
    power = lambda step: (1 + step / 10) ** -0.3  # noqa: E731
    (late,) = run({2.0: power}, replace(HEAT, learning_rates=(2.0,), steps_to_beat=50.0)).branches
    reached = 10 * (0.5 ** (-1 / 0.3) - 1)
    assert late.outcome == "slower" and late.steps == pytest.approx(reached, rel=0.15)
    (stuck,) = run({2.0: lambda step: 0.9}, replace(HEAT, learning_rates=(2.0,), steps_to_beat=50.0)).branches
    assert stuck.steps == 10 * stuck.steps_taken


FAVOURED = replace(HEAT, pace_setter=2.0)


def test_a_run_far_behind_a_higher_rate_is_given_up_at_half_time() -> None:
    found = by_rate(run({1.0: falling(200), 2.0: falling(100)}, FAVOURED))
    assert found[1.0].outcome == "slower" and found[1.0].steps_taken < 60
    assert found[1.0].steps == pytest.approx(200, rel=0.1)
    assert found[2.0].outcome == "reached"


def test_the_pace_setter_is_given_up_in_favour_of_a_higher_rate_only_after_the_expected_steps() -> None:
    found = by_rate(run({1.0: falling(200), 2.0: falling(110)}))
    assert found[1.0].outcome == "slower" and 100 <= found[1.0].steps_taken <= 110
    assert found[2.0].outcome == "reached"


HASTY = replace(HEAT, patience=150.0)


def test_the_highest_rate_is_given_up_where_it_leads_by_far_and_patience_is_over() -> None:
    """A yet higher one is better then."""
    result = run({1.0: falling(600), 2.0: falling(300)}, HASTY)
    found = by_rate(result)
    assert found[2.0].outcome == "out_of_reach" and 150 <= found[2.0].steps_taken <= 165
    assert result.was_cut_short and found[1.0].steps is found[2.0].steps is None


@pytest.mark.parametrize(("lower", "heat"), [(400, HASTY), (300, HASTY), (600, HEAT)])
def test_the_highest_rate_goes_on_where_a_lower_one_keeps_up_or_there_is_patience(
    lower: float, heat: Heat
) -> None:
    result = run({1.0: falling(lower), 2.0: falling(300)}, heat)
    assert by_rate(result)[2.0].steps == pytest.approx(300, rel=0.02) and not result.was_cut_short


def test_a_run_behind_a_lower_rate_may_yet_win() -> None:
    recovers = lambda step: 1.0 if step == 0 else 0.95 if step < 80 else 0.4  # noqa: E731
    found = by_rate(run({1.0: falling(100), 2.0: recovers}))
    assert found[2.0].outcome == "reached" and found[2.0].steps_taken < 100


def test_a_run_on_other_data_is_no_rival() -> None:
    heat = replace(FAVOURED, seeds=(0, 1))
    slow = {(1.0, 0): 100, (2.0, 0): 95, (1.0, 1): 50, (2.0, 1): 48}
    made: list[Curves] = []

    class Seeded(Curves):
        def losses(self) -> list[float]:
            return [falling(slow[branch.learning_rate, branch.seed])(self.step) for branch in self.branches]

    def start(branches: Sequence[Branch]) -> Curves:
        made.append(Seeded(by_rate={}, branches=list(branches)))
        return made[0]

    result = run_heat(heat, start, 1.0, should_stop=lambda: False, progress=lambda step: None)
    assert all(branch.outcome == "reached" for branch in result.branches)


def test_nothing_is_said_of_a_run_that_was_given_up_for_one_that_never_got_there() -> None:
    found = by_rate(run({1.0: falling(200), 2.0: falling(20, floor=0.6)}, FAVOURED))
    assert found[1.0].outcome == "slower" and found[1.0].steps is None
    assert found[2.0].outcome == "out_of_reach"


def test_a_run_that_blows_up_is_counted_as_such() -> None:
    found = by_rate(run({1.0: falling(50), 2.0: lambda step: math.nan if step > 20 else 1.0}))
    assert found[2.0].outcome == "diverged" and found[2.0].steps is None
    found = by_rate(run({1.0: falling(50), 2.0: lambda step: 1e3}))
    assert found[2.0].outcome == "diverged"


def test_a_spike_on_the_way_is_no_divergence() -> None:
    spiky = lambda step: 5.0 if 20 < step < 30 else falling(60)(step)  # noqa: E731
    found = by_rate(run({1.0: falling(80), 2.0: spiky}))
    assert found[2.0].outcome == "reached" and found[2.0].steps == pytest.approx(60, rel=0.05)


def test_one_lucky_look_is_no_arrival() -> None:
    lucky = lambda step: 0.4 if 30 < step < 33 else falling(100)(step)  # noqa: E731
    found = by_rate(run({1.0: falling(100), 2.0: lucky}))
    assert found[2.0].steps == pytest.approx(100, rel=0.1)


def wavering(steps: float, seed: int, noise: float = 0.08) -> Curve:
    """Reaches 0.5 in the mean after `steps`, slowly, with as much noise at every look."""
    generator = random.Random(seed)
    return lambda step: 0.5 * (steps / max(step, 1)) ** 0.3 * math.exp(generator.gauss(0, noise))


def test_a_loss_that_wavers_arrives_where_its_mean_does_and_not_with_its_first_dip() -> None:
    alone = replace(HEAT, learning_rates=(1.0,))
    found = [run({1.0: wavering(100, seed)}, alone).branches[0].steps for seed in range(200)]
    logs = [math.log(steps / 100) for steps in found if steps is not None]
    assert len(logs) == 200
    assert abs(fmean(logs)) < 0.05, (
        "with the mean of the last two looks it is 0.07 early, with the last one 0.15"
    )


def test_a_target_below_the_floor_is_out_of_reach() -> None:
    found = by_rate(run({1.0: falling(20, floor=0.6), 2.0: falling(30, floor=0.6)}))
    assert {branch.outcome for branch in found.values()} == {"out_of_reach"}
    assert all(branch.steps is None and branch.steps_taken == 400 for branch in found.values())


def test_the_pace_setter_sets_the_target() -> None:
    result = run({1.0: falling(100), 2.0: falling(60)}, replace(HEAT, target_loss=None))
    assert result.target_loss == pytest.approx(0.5, rel=0.02)
    found = by_rate(result)
    assert found[1.0].steps == pytest.approx(100, rel=0.05)
    assert found[2.0].steps == pytest.approx(60, rel=0.05)


def test_the_pace_setter_is_there_at_the_horizon_even_on_a_plateau() -> None:
    """Its monotone curve is as low as the target long before."""
    flat = lambda step: 0.5 + 0.001 * (step % 7) if step > 15 else 1.0  # noqa: E731
    result = run({1.0: flat, 2.0: falling(60)}, replace(HEAT, target_loss=None))
    assert by_rate(result)[1.0].steps == 100


def test_a_slow_rate_is_known_as_well_when_the_target_is_only_set_later() -> None:
    result = run({1.0: falling(100), 2.0: falling(300)}, replace(HEAT, target_loss=None))
    assert by_rate(result)[2.0].outcome == "slower"


def test_a_pace_setter_that_goes_nowhere_sets_no_target() -> None:
    result = run({1.0: lambda step: 1.1, 2.0: falling(60)}, replace(HEAT, target_loss=None))
    assert result.target_loss is None


@pytest.mark.parametrize(("fall", "sets"), [(0.01, False), (0.03, False), (0.1, True)])
def test_a_pace_setter_sets_a_target_only_where_it_falls_by_more_than_its_loss_wavers(
    fall: float, sets: bool
) -> None:
    wavers = lambda step: 1.0 - fall * min(step / 50, 1.0) + (0.03 if step % 2 else -0.03)  # noqa: E731
    result = run({1.0: wavers, 2.0: falling(60)}, replace(HEAT, target_loss=None))
    assert (result.target_loss is not None) == sets


def test_a_target_that_the_checkpoint_is_below_already_is_none() -> None:
    result = run({1.0: falling(50), 2.0: falling(50)}, replace(HEAT, target_loss=1.5))
    assert result.target_loss is None


def test_a_heat_that_is_stopped_counts_for_nothing() -> None:
    with pytest.raises(HeatStoppedError):
        run({1.0: falling(50), 2.0: falling(50)}, stop_after=30)


def test_examples_are_those_of_all_runs() -> None:
    result = run({1.0: falling(50), 2.0: falling(60)})
    assert result.examples == 8 * sum(branch.steps_taken for branch in result.branches)
