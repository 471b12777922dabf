"""Reports with a trial: played through in a world that is known, advised on by the real code."""

from __future__ import annotations

from dataclasses import replace

from bsadvisor.advise.measured import measured_headline, recommend_measured
from bsadvisor.advise.pairs import PairInUse
from bsadvisor.advise.racing import next_heat
from bsadvisor.advise.racing_course import Course
from bsadvisor.advise.trial_plan import World
from bsadvisor.advise.trial_stats import trial_stats
from bsadvisor.values import HeatResult, Report, TrialPlan, TrialStats
from tests.report.sample import contract_report

COURSE = Course(
    batch_size=32,
    learning_rate=1e-3,
    smallest=1,
    largest=1437,
    horizon=150,
    target_loss=None,
    family="adam",
    noise_scale=212.0,
    seed=0,
)


def trial(critical: float, best_rate: float, heats: int | None = None) -> TrialStats:
    """What so many heats would find."""
    world = World(course=COURSE, critical=critical, best_rate=best_rate)
    results: list[HeatResult] = []
    while len(results) != heats and (heat := next_heat(COURSE, results)) is not None:
        results.append(world.run(heat))
    return trial_stats(
        COURSE,
        results,
        evaluation_examples=1024,
        stopped_by="precision" if heats is None else "time",
        notes=("the checkpoint has no optimizer state: 50 steps with the pair in use came first",),
    )


def measured(critical: float = 140.0, best_rate: float = 1.3e-3, heats: int | None = None) -> Report:
    """A trial from the pair of the contract's report."""
    report, found = contract_report(), trial(critical, best_rate, heats)
    about = report.target
    pair = PairInUse(
        batch_size=about.batch_size, learning_rate=about.learning_rate, optimizer=about.optimizer_details
    )
    rows = recommend_measured(pair, found, dataset_size=about.dataset_size, limit=lambda batch_size: None)
    headline = measured_headline(rows, found, pair, has_checkpoint=True)
    return replace(
        report,
        trial=found,
        recommendations=rows or report.recommendations,
        headline=headline or report.headline,
    )


def far_from_tuned() -> Report:
    """Another learning rate sets the target."""
    return measured(best_rate=2e-2)


def begun() -> Report:
    """The time was over after the first heats."""
    return measured(heats=2)


def planned() -> Report:
    """A trial that would not have fitted."""
    plan = TrialPlan(batch_sizes=(8, 32, 128), runs=24, examples=81_200, seconds=92.4)
    return replace(contract_report(), trial_plan=plan)
