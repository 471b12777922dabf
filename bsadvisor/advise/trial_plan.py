"""What a trial will probably run: the strategy played through in a world that follows the predictions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from bsadvisor.advise.measured_rates import expected_rate
from bsadvisor.advise.racing import next_heat
from bsadvisor.advise.racing_course import Course
from bsadvisor.theory.rate_curve import SLOWER, USUAL_CURVATURE
from bsadvisor.theory.target_crossing import KNOWN
from bsadvisor.theory.training_cost import steps_factor
from bsadvisor.values import BranchResult, Heat, HeatResult, TrialPlan

MOST_HEATS = 60

LOOKS = 20
"""Evaluations of a run."""

USUAL_CRITICAL = 4.0
"""Critical batch size over the one in use, where nothing is predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A run whose loss falls as exp(-steps / horizon) with the best pair of the batch size in use."""

    course: Course
    critical: float
    best_rate: float
    """At the batch size in use."""
    scatter: tuple[float, ...] = (-0.06, 0.05, 0.0, -0.04, 0.05)
    """Of log steps, by seed."""

    def steps(self, batch_size: int, rate: float, seed: int, target_loss: float) -> float:
        """S(B) of the hyperbola, times what a learning rate beside the best costs."""
        least = -self.course.horizon * math.log(target_loss)
        if self.course.target_loss is not None:  # how far away it is nobody knows: as far as one that is set
            least = self.course.horizon / self.excess(self.course.batch_size, self.course.learning_rate)
        least *= steps_factor(batch_size, self.course.batch_size, self.critical)
        return least * self.excess(batch_size, rate) * math.exp(self.scatter[seed % len(self.scatter)])

    def excess(self, batch_size: int, rate: float) -> float:
        """Steps over those with the best learning rate."""
        best = expected_rate(
            {self.course.batch_size: self.best_rate},
            batch_size,
            family=self.course.family,
            noise_scale=self.critical,
        )
        return math.exp(USUAL_CURVATURE * math.log(rate / best) ** 2)

    def run(self, heat: Heat) -> HeatResult:
        """As a real heat would end."""
        target = heat.target_loss or math.exp(-1 / self.excess(heat.batch_size, heat.pace_setter))
        runs = [(rate, seed) for rate in heat.learning_rates for seed in heat.seeds]
        steps = [self.steps(heat.batch_size, rate, seed, target) for rate, seed in runs]
        longest = SLOWER * min([*steps, heat.steps_to_beat or math.inf])
        return HeatResult(
            heat=heat,
            target_loss=target,
            start_loss=1.0,
            branches=tuple(
                BranchResult(
                    learning_rate=rate,
                    seed=seed,
                    outcome="reached" if own * KNOWN <= longest else "slower",
                    steps=own,
                    steps_taken=math.ceil(min(own * KNOWN, longest)),
                    final_log_loss=math.log(target),
                )
                for (rate, seed), own in zip(runs, steps, strict=True)
            ),
        )


def plan_trial(
    course: Course,
    *,
    critical: float | None,
    step_seconds: Callable[[int], float],
    evaluation_seconds: float,
) -> TrialPlan:
    """Play the strategy through.

    Args:
        critical: batch size as predicted.
        step_seconds: of one training step at a batch size.
        evaluation_seconds: of one look at the loss.
    """
    world = World(
        course=course,
        critical=critical or USUAL_CRITICAL * course.batch_size,
        best_rate=course.learning_rate * 1.2,
    )
    results: list[HeatResult] = []
    while len(results) < MOST_HEATS and (heat := next_heat(course, results)) is not None:
        results.append(world.run(heat))
    branches = [(result.heat.batch_size, run) for result in results for run in result.branches]
    return TrialPlan(
        batch_sizes=tuple(sorted({size for size, _ in branches})),
        runs=len(branches),
        examples=sum(size * run.steps_taken for size, run in branches),
        seconds=sum(
            run.steps_taken * step_seconds(size) + LOOKS * evaluation_seconds for size, run in branches
        ),
    )
