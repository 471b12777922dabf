"""Training runs of one batch size race to a loss: who is clearly slower than the best is given up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bsadvisor.measure.branches import Branch, Branches
from bsadvisor.theory.rate_curve import SLOWER
from bsadvisor.theory.target_crossing import has_arrived, loss_at, steps_to_target, times_behind, wavering
from bsadvisor.values import BranchResult, Heat, HeatResult

SPACING = 1.1
"""Between one look at the losses and the next, in steps."""

FIRST_LOOK = 0.2
"""Share of the expected steps after which the losses are looked at for the first time."""

HOPELESS = math.log(20.0)
"""A run whose log loss is so much above the checkpoint's has diverged."""

LEAST_FALL, CLEAR_FALL = 1e-3, 2.0
"""Of the log loss until the horizon, and in units of what it wavers by: less is no training."""

SETTLED = 1 / 3
"""Share of the horizon after which a loss is looked at for how much it wavers."""

OVERTAKEN, HALF_TIME = 1.6, 0.5
"""A run that takes so many times as long as one with a higher learning rate, after this share of the expected
steps, is given up. A higher rate that is behind may yet win: its loss wavers more."""

HOPELESSLY_LATE = 10.0
"""A run that was given up is not said to take longer than so many times its steps."""

BEYOND = 1.25
"""The pace setter goes on for so much longer, so that its loss at the horizon is an average."""


class HeatStoppedError(Exception):
    """Time is up or somebody wants to stop: the heat is not finished and counts for nothing."""


@dataclass(kw_only=True)
class _Runner:
    """One branch and what was seen of it."""

    branch: Branch
    steps: list[int] = field(default_factory=lambda: [0])
    logs: list[float] = field(default_factory=list)
    outcome: str | None = None
    arrival: float | None = None

    def see(self, step: int, loss: float, start: float) -> None:
        """Another look; a loss beyond hope ends the run."""
        log = math.log(loss) if 0 < loss < math.inf else math.inf
        if log > start + HOPELESS:
            self.outcome = "diverged"
        else:
            self.steps.append(step)
            self.logs.append(log)

    def arrive(self, target: float) -> None:
        """Has it reached the target, for good?"""
        if has_arrived(self.steps, self.logs, target):
            self.arrival = steps_to_target(self.steps, self.logs, target)
            if self.arrival is not None:
                self.outcome = "reached"

    def logs_since(self, step: float) -> list[float]:
        return [log for own, log in zip(self.steps, self.logs, strict=True) if own >= step]

    @property
    def taken(self) -> int:
        return self.steps[-1]


def run_heat(
    heat: Heat,
    start: Callable[[Sequence[Branch]], Branches],
    start_loss: float,
    *,
    should_stop: Callable[[], bool],
    progress: Callable[[int], None],
) -> HeatResult:
    """Run every learning rate with every seed until it is known what to think of it.

    Args:
        heat: what to run.
        start: makes the branches at the checkpoint.
        start_loss: at the checkpoint.
        progress: told the steps that each run still on its way has taken.

    Raises:
        HeatStoppedError: `should_stop` said so.

    Cost: the steps of the best learning rate, `SLOWER` times over, for every run; one evaluation a step
        at first, and then one for each `SPACING` in steps.
    """
    log_start = math.log(start_loss)
    runners = [
        _Runner(branch=Branch(learning_rate=rate, seed=seed), logs=[log_start])
        for rate in heat.learning_rates
        for seed in heat.seeds
    ]
    branches, live = start([runner.branch for runner in runners]), list(runners)
    target = None if heat.target_loss is None else math.log(heat.target_loss)
    step = 0
    for look in _looks(heat):
        if should_stop():
            raise HeatStoppedError
        branches.advance(look - step)
        step = look
        progress(step)
        for runner, loss in zip(live, branches.losses(), strict=True):
            runner.see(step, loss, log_start)
        if target is None and step >= heat.expected_steps * BEYOND:
            target = _pace(heat, runners)
            if target is None:
                break
            for runner in runners:
                _set_pace(runner, heat)
        if target is not None:
            _judge(runners, target, step, heat)
            _give_up_overtaken(runners, step, heat)
            _cut_short(runners, step, heat)
        on = [place for place, runner in enumerate(live) if runner.outcome is None]
        if len(on) < len(live):
            live = [live[place] for place in on]
            if not live:
                break
            branches.keep(on)
    reached = target is not None and target < log_start
    return HeatResult(
        heat=heat,
        target_loss=math.exp(target) if target is not None and reached else None,
        start_loss=start_loss,
        branches=tuple(_result(runner, runners, target, heat) for runner in runners),
    )


def _looks(heat: Heat) -> Iterator[int]:
    """Steps at which losses are looked at, up to the most there may be."""
    look = max(1, round(heat.expected_steps * FIRST_LOOK))
    while look < heat.max_steps:
        yield look
        look = max(look + 1, round(look * SPACING))
    yield heat.max_steps


def _pace(heat: Heat, runners: Sequence[_Runner]) -> float | None:
    """Log loss of the pace setter at the horizon, over its seeds; None where it went nowhere or diverged."""
    own = [runner for runner in runners if runner.branch.learning_rate == heat.pace_setter]
    if any(runner.outcome == "diverged" for runner in own):
        return None
    log = float(np.mean([loss_at(runner.steps, runner.logs, heat.expected_steps) for runner in own]))
    wavers = max(wavering(runner.logs_since(SETTLED * heat.expected_steps)) for runner in own)
    return log if own[0].logs[0] - log > max(LEAST_FALL, CLEAR_FALL * wavers) else None


def _set_pace(runner: _Runner, heat: Heat) -> None:
    """The pace setter is there at the horizon by definition: on a noisy stretch its own curve says less."""
    if runner.outcome is None and runner.branch.learning_rate == heat.pace_setter:
        runner.arrival, runner.outcome = heat.expected_steps, "reached"


def _judge(runners: Sequence[_Runner], target: float, step: int, heat: Heat) -> None:
    for runner in runners:
        if runner.outcome is None:
            runner.arrive(target)
    known = (_best_steps(runners), heat.steps_to_beat)
    best = min((steps for steps in known if steps is not None), default=math.inf)
    for runner in runners:
        if runner.outcome is None and step >= SLOWER * best:
            runner.outcome = "slower"


def _give_up_overtaken(runners: Sequence[_Runner], step: int, heat: Heat) -> None:
    """Those far behind a higher learning rate; the pace setter not before it was expected."""
    for runner in runners:
        sets_pace = runner.branch.learning_rate == heat.pace_setter
        patience = heat.expected_steps * (1.0 if sets_pace else HALF_TIME)
        if runner.outcome is None and step >= patience and _is_overtaken(runner, runners):
            runner.outcome = "slower"


def _cut_short(runners: Sequence[_Runner], step: int, heat: Heat) -> None:
    """Where patience is over, nobody has arrived, and all but the highest learning rate were given up."""
    if heat.patience is None or step < heat.patience:
        return
    top = max(heat.learning_rates)
    lower = [runner for runner in runners if runner.branch.learning_rate < top]
    leads = bool(lower) and all(runner.outcome == "slower" for runner in lower)
    if leads and _best_steps(runners) is None:
        for runner in runners:
            runner.outcome = runner.outcome or "out_of_reach"


def _is_overtaken(runner: _Runner, runners: Sequence[_Runner]) -> bool:
    """By a higher learning rate on the same data, and by far."""
    ahead = (
        times_behind(runner.steps, runner.logs, (other.steps, other.logs))
        for other in runners
        if other.branch.seed == runner.branch.seed
        and other.branch.learning_rate > runner.branch.learning_rate
        and other.outcome in (None, "reached")
    )
    return any(times is not None and times >= OVERTAKEN for times in ahead)


def _best_steps(runners: Sequence[_Runner]) -> float | None:
    """Of the best learning rate that has arrived with all its seeds."""
    by_rate: dict[float, list[_Runner]] = {}
    for runner in runners:
        by_rate.setdefault(runner.branch.learning_rate, []).append(runner)
    arrived = [
        math.exp(np.mean([math.log(max(runner.arrival or 0, 0.1)) for runner in group]))
        for group in by_rate.values()
        if all(runner.outcome == "reached" for runner in group)
    ]
    return min(arrived, default=None)


def _result(runner: _Runner, runners: Sequence[_Runner], target: float | None, heat: Heat) -> BranchResult:
    outcome = runner.outcome or "out_of_reach"
    steps = runner.arrival
    if outcome == "slower":
        assert target is not None
        steps = _extrapolated(runner, runners, target, heat)
    return BranchResult(
        learning_rate=runner.branch.learning_rate,
        seed=runner.branch.seed,
        outcome=outcome,  # type: ignore[arg-type]
        steps=steps,
        steps_taken=runner.taken,
        final_log_loss=runner.logs[-1],
    )


def _extrapolated(runner: _Runner, runners: Sequence[_Runner], target: float, heat: Heat) -> float | None:
    """Steps to the target of a run that was given up; None where nobody got there after all."""
    arrived = [other for other in runners if other.arrival is not None]
    if arrived:
        return _behind(runner, min(arrived, key=lambda other: other.arrival or math.inf))
    if heat.steps_to_beat is None:
        return None
    return min(HOPELESSLY_LATE * runner.taken, _along_itself(runner, target))


def _behind(runner: _Runner, best: _Runner) -> float:
    """If it stays behind another run by the factor of now."""
    times = times_behind(runner.steps, runner.logs, (best.steps, best.logs))
    if times is None or best.arrival is None:
        return HOPELESSLY_LATE * runner.taken
    return best.arrival * times


def _along_itself(runner: _Runner, target: float) -> float:
    """If it is not there yet, and its loss goes on as a power of the steps, as over their second half."""
    there = steps_to_target(runner.steps, runner.logs, target)
    if there is not None:
        return there
    half, now = (loss_at(runner.steps, runner.logs, runner.taken * share) for share in (0.5, 1.0))
    exponent = (half - now) / math.log(2)
    missing = now - target
    if missing >= exponent * math.log(HOPELESSLY_LATE):
        return HOPELESSLY_LATE * runner.taken
    return runner.taken * math.exp(missing / exponent)
