"""The trial: heats of training runs, one after the other, until enough is known or the budget is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bsadvisor.advise.racing import next_heat
from bsadvisor.advise.racing_course import Course, current_leg
from bsadvisor.advise.trial_plan import plan_trial
from bsadvisor.advise.trial_stats import trial_stats
from bsadvisor.errors import is_out_of_memory
from bsadvisor.measure.branches import Branch, Branches, Ground
from bsadvisor.measure.heat import HeatStoppedError, run_heat
from bsadvisor.measure.pace import Pace, measure_pace
from bsadvisor.measure.stacked_branches import branches_for, stacking
from bsadvisor.measure.trial_ground import trial_ground
from bsadvisor.measure.vectorized import Vectorized
from bsadvisor.pipeline.gradient_phase import GradientPhase
from bsadvisor.pipeline.session import Session
from bsadvisor.pipeline.trial_log import TrialLog
from bsadvisor.values import Estimate, Heat, HeatResult, Progress, TrialPlan, TrialStats

WARM_UP = 50
"""Steps with the pair in use before the branches, where the checkpoint has no optimizer state."""

FAR_TOO_LONG = 3
"""Times what is left of the budget: not even tried out."""

_LIMITS = {
    "time": "raise --time-budget",
    "max_examples": "raise --max-examples",
    "interrupt": "it was interrupted",
    "precision": "nothing was to be run",
}

USUAL_RATE = {"sgd": 1e-2, "adam": 1e-3, "other": 1e-3}
USUAL_BATCH = 32

StoppedBy = Literal["precision", "time", "max_examples", "interrupt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPhase:
    """What came out of it: the runs, the plan alone, or why there are none."""

    stats: TrialStats | None = None
    plan: TrialPlan | None = None
    impossible: str | None = None


def run_trial(
    session: Session, gradient: GradientPhase, noise_scale: Estimate, critical: float | None, log: TrialLog
) -> TrialPhase:
    """Plan, and run what fits; everything of the target is as before afterwards.

    Args:
        noise_scale: of the learning-rate rule, for the first guesses.
        critical: batch size, predicted.
        log: holds the heats of an earlier, unfinished trial.
    """
    reason = _impossible(session, gradient)
    if reason is not None:
        return TrialPhase(impossible=reason)
    settings, course = session.settings.trial, _course(session, noise_scale)
    plan = _plan(course, critical, _pace_so_far(gradient))
    optional = settings.when == "if_it_fits"
    if optional and plan.seconds > FAR_TOO_LONG * session.watch.left():
        return TrialPhase(plan=plan)
    ground = _ground(session, gradient)
    with ground.opened():
        notes = _warm_up(session, ground, course)
        plan = _plan(course, critical, measure_pace(ground, course.batch_size, course.learning_rate))
        if settings.dry_run or (optional and plan.seconds > session.watch.left()):
            return TrialPhase(plan=plan)
        if not optional:
            session.notify(_announcement(plan))
        results, stopped_by = _heats(session, ground, course, plan, log)
    if not results:
        return TrialPhase(plan=plan, impossible=f"not even its first runs fit: {_LIMITS[stopped_by]}")
    stats = trial_stats(
        course, results, evaluation_examples=ground.evaluated, stopped_by=stopped_by, notes=notes
    )
    return TrialPhase(plan=plan, stats=stats)


def _plan(course: Course, critical: float | None, pace: Pace) -> TrialPlan:
    return plan_trial(course, critical=critical, step_seconds=pace.step, evaluation_seconds=pace.evaluation)


def _pace_so_far(gradient: GradientPhase) -> Pace:
    """As the gradient phase went: what its examples took, steps will take at the least."""
    per_example = gradient.seconds / gradient.probe.accumulator.num_examples
    return Pace(fixed=0.0, per_example=per_example, evaluation=0.0)


def _announcement(plan: TrialPlan) -> str:
    sizes = ", ".join(map(str, plan.batch_sizes))
    return f"trial: about {plan.runs} runs at batch sizes {sizes}, {plan.examples:,} examples, {plan.seconds:.0f} s"


def _impossible(session: Session, gradient: GradientPhase) -> str | None:
    """In words, why this target cannot be trained on trial."""
    if session.target.data.size is None:
        return "the data is a stream or has a sampler of its own, and a trial reads the same examples again and again"
    if gradient.sums_loss:
        return "the loss adds up over examples, so its learning rate depends on the batch size by itself"
    if session.target.training.needs_closure:
        return f"{session.target.training.name} evaluates the loss many times a step"
    about = session.target.description
    known = session.target.training.known and about.learning_rate and about.batch_size
    if session.settings.trial.when == "if_it_fits" and not known:
        return "no optimizer, learning rate or batch size in use is known"
    return None


def _course(session: Session, noise_scale: Estimate) -> Course:
    about, settings = session.target.description, session.settings
    size = session.target.data.size or 1
    details = about.optimizer_details
    family = details.family if details else "adam"
    batch_size = about.batch_size or USUAL_BATCH
    return Course(
        batch_size=min(batch_size, size),
        learning_rate=about.learning_rate or USUAL_RATE[family],
        smallest=session.target.facts.num_devices or 1,
        largest=size,
        horizon=settings.trial.horizon,
        target_loss=settings.trial.target_loss,
        family=family,
        noise_scale=noise_scale.value,
        seed=settings.seed,
    )


def _ground(session: Session, gradient: GradientPhase) -> Ground:
    target, settings = session.target, session.settings.trial
    return trial_ground(
        target,
        target.training,
        gradient.sampler,
        batch_in_use=None if settings.keep_betas else target.description.batch_size,
        per_device_batch=target.per_device_batch,
        couples=gradient.couples,
        token_mean=gradient.assumptions.loss_reduction == "token_mean",
        seed=session.settings.seed,
    )


def _warm_up(session: Session, ground: Ground, course: Course) -> list[str]:
    """What has to be said of the optimizer; one without state gathers some first."""
    training, notes = session.target.training, list[str]()
    in_use = session.target.description.batch_size
    if in_use is not None and in_use > course.batch_size:
        notes.append(
            f"the data holds {course.batch_size:,} examples: the trial starts from there, not from B = {in_use:,}"
        )
    if not training.known:
        notes.append(f"no optimizer is known: {training.name} was trained with")
    if not training.has_state and _keeps_state(session):
        ground.warm_up(WARM_UP, course.learning_rate, course.batch_size)
        notes.append(
            f"the checkpoint has no optimizer state: {WARM_UP} steps with the pair in use came first"
        )
    return notes


def _keeps_state(session: Session) -> bool:
    """Plain gradient descent has none."""
    details = session.target.description.optimizer_details
    return details is None or details.family != "sgd" or bool(details.momentum)


def _heats(
    session: Session, ground: Ground, course: Course, plan: TrialPlan, log: TrialLog
) -> tuple[list[HeatResult], StoppedBy]:
    """Heat after heat; those of an earlier trial are taken from its log."""
    results: list[HeatResult] = []
    earlier = {result.heat: result for result in log.earlier}
    many, start_loss = stacking(ground), ground.start_loss()
    most = session.settings.trial.max_examples
    while (heat := next_heat(course, results)) is not None:
        if most is not None and sum(result.examples for result in results) + heat.expected_examples > most:
            return results, "max_examples"
        if heat in earlier:
            results.append(earlier[heat])
            continue
        try:
            result = _run(session, ground, heat, start_loss, results, plan, many)
        except HeatStoppedError:
            return results, "interrupt" if session.stop.requested else "time"
        log.add(result)
        results.append(result)
    log.finish()
    return results, "precision"


def _run(
    session: Session,
    ground: Ground,
    heat: Heat,
    start_loss: float,
    results: Sequence[HeatResult],
    plan: TrialPlan,
    many: Vectorized | None,
) -> HeatResult:
    """One heat; with smaller micro-batches where its batches do not fit in memory."""
    before = sum(result.examples for result in results)
    runs = len(heat.learning_rates) * len(heat.seeds)

    def report(step: int) -> None:
        done = before + step * heat.batch_size * runs
        total = max(plan.examples, done)
        session.progress(Progress(phase="trial", done=done, total=total, note=_so_far(heat, results)))

    def start(branches: Sequence[Branch]) -> Branches:
        return branches_for(ground, branches, heat.batch_size, many)

    while True:
        try:
            return run_heat(heat, start, start_loss, should_stop=session.is_over, progress=report)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or ground.micro_batch == 1:
                raise
            ground.micro_batch = max(1, min(ground.micro_batch, heat.batch_size) // 2)


def _so_far(heat: Heat, results: Sequence[HeatResult]) -> str:
    """What is running, and the fastest pair so far."""
    arrived = [
        (run.steps, result.heat.batch_size, run.learning_rate)
        for result in (current_leg(results) if results else [])
        for run in result.branches
        if run.outcome == "reached" and run.steps is not None
    ]
    now = f"B = {heat.batch_size}"
    if not arrived:
        return now
    steps, size, rate = min(arrived)
    return f"{now}; fewest steps so far {steps:.0f} at B = {size}, η = {rate:.1e}"
