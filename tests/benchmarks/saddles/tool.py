"""The verdict of a whole probe on a saddle case: what `judge` asks for.

python -m tests.benchmarks.saddles.judge tests.benchmarks.saddles.tool:verdict_of --split test --seeds 5
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache
from unittest import mock

import torch

from bsadvisor.advise.saddle import judge_saddle
from bsadvisor.advise.update_rule import update_rule
from bsadvisor.pipeline import Session, StopSignal, Stopwatch
from bsadvisor.pipeline.measuring import measure
from bsadvisor.settings import ProbeSettings
from bsadvisor.values import OptimizerDetails, SaddleVerdict, TargetDescription, TargetFacts
from tests.benchmarks import tasks
from tests.benchmarks.saddles.problem import Case, SaddleTask

SECONDS = 120.0
"""Of one probe: twice the default, for the machine runs two at a time."""


def verdict_of(case: Case, seed: int) -> tuple[str, dict[str, float]]:
    """The verdict with the pair of the case, and the figures behind it."""
    verdict = probe(case, seed)
    if verdict is None:
        return "none", {}
    figures = {
        "escape_steps": verdict.escape_steps,
        "noise_share": verdict.noise_share,
        "gradient_steps": verdict.gradient_steps,
    }
    evidence = verdict.evidence
    if evidence is not None:
        figures |= {
            "curvature": evidence.curvature.value,
            "curvature_high": evidence.curvature.high,
            "drop": _share(evidence.loss_drop.value, evidence.loss),
            "drop_low": _share(evidence.loss_drop.low, evidence.loss),
            "examples": float(evidence.examples),
        }
        for name, run in (("run", evidence.short_run), ("hurried", evidence.hurried_run)):
            if run is not None:
                figures[f"{name}_drop"] = _share(run.loss_drop.value, evidence.loss)
                figures[f"{name}_widest"] = _share(run.widest_drop.value, evidence.loss)
                figures[f"{name}_gain"] = _share(run.lasting_gain.value, evidence.loss)
                figures[f"{name}_gain_low"] = _share(run.lasting_gain.low, evidence.loss)
    return verdict.verdict, {name: figure for name, figure in figures.items() if figure is not None}


def probe(case: Case, seed: int) -> SaddleVerdict | None:
    """A probe with default settings; None where no direction was sought.

    Its clock counts this process's own time: what else the machine does must not change a verdict.
    """
    with mock.patch("time.perf_counter", time.process_time):
        return _probe(case, seed)


def _probe(case: Case, seed: int) -> SaddleVerdict | None:
    task, pair = _built(case), case.pair
    task.per_device_batch = pair.batch_size
    about = describe(task)
    task.description = about  # type: ignore[attr-defined]
    task.facts = TargetFacts(  # type: ignore[attr-defined]
        optimizer_state="loaded" if task.preconditioner is not None else "not_needed"
    )
    session = Session(
        target=task,  # type: ignore[arg-type]
        settings=ProbeSettings(seed=seed, time_budget=SECONDS),
        watch=Stopwatch(budget=SECONDS, began=time.perf_counter()),
        progress=lambda progress: None,
        stop=StopSignal(),
    )
    measured = measure(session, None, None)
    if measured.curvature is None:
        return None
    return judge_saddle(
        measured.curvature.escape,
        measured.curvature.stats,
        measured.gradient,
        update_rule(about.optimizer_details),
        batch_size=pair.batch_size,
        learning_rate=pair.learning_rate,
    )


def describe(task: SaddleTask) -> TargetDescription:
    """What loading the same model, checkpoint and optimizer from files would have found."""
    pair = task.pair
    adaptive = pair.optimizer == "AdamW"
    return replace(
        tasks.describe(task),
        optimizer=pair.optimizer.lower(),
        optimizer_details=OptimizerDetails(
            family="adam" if adaptive else "sgd",
            betas=pair.betas if adaptive else None,
            momentum=None if adaptive else pair.momentum,
            weight_decay=pair.weight_decay,
            step=_steps_taken(task),
            state_loaded=task.preconditioner is not None,
        ),
        batch_size=pair.batch_size,
        learning_rate=pair.learning_rate,
    )


def _steps_taken(task: SaddleTask) -> int | None:
    states = task.optimizer_state["state"].values() if task.optimizer_state else ()
    return max((int(state["step"]) for state in states if "step" in state), default=None)


@lru_cache(maxsize=1)
def _built(case: Case) -> SaddleTask:
    torch.set_num_threads(1)
    return case.build()


def _share(drop: float | None, loss: float) -> float | None:
    return None if drop is None else drop / loss
