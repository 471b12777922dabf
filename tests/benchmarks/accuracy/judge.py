"""The trial beside brute force: `python -m tests.benchmarks.accuracy.judge [--split test] [--seeds 3] [--write]`.

Each case is given to the tool as a user would, with the target of the truth: the loss that the run's own pair,
or the one that set the target anew, reaches at the horizon, on the examples that the tool judges losses by.
Where the target was set anew, a second trial without a target says what finding this out costs. The truth's critical
batch size is fitted to the batch sizes that need at least 20 steps; where these leave it without an upper
end there is nothing to compare it with. Recommended pairs are run for real, with the truth's own loop.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal, get_args

import numpy as np
import torch

from bsadvisor import pipeline
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.trial_ground import trial_ground
from bsadvisor.settings import ProbeSettings, TargetRequest, TrialSettings
from bsadvisor.target.factory import load
from bsadvisor.theory.steps_curve import StepsCurve, fit_steps_curve
from bsadvisor.values import Report
from tests.benchmarks.accuracy.cases import Case, Split, available, checkpoint
from tests.benchmarks.accuracy.truth import RESULTS as TRUTHS
from tests.benchmarks.accuracy.truth import WINDOW, Bench, target_of

RESULTS = TRUTHS.with_name("accuracy.json")

FEWEST_STEPS = 20
CELLS = 8 * 7
"""Of the grid that the cost is compared with; a truth whose lines were moved has more."""
SEEDS = tuple(range(200, 207))
"""Of the runs that recommended pairs are judged by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What brute force says of a case."""

    name: str
    target_loss: float
    pace_setter: float
    """Learning rate that sets the target, with the batch size in use."""
    examples: float
    """Of the grid of `CELLS` with three seeds."""
    best: dict[int, float]
    """Steps with the best learning rate, by batch size."""
    curve: StepsCurve

    @property
    def critical(self) -> float | None:
        return self.curve.critical.value if self.curve.critical.high is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One trial of one case."""

    name: str
    seed: int
    critical: float | None
    low: float | None
    high: float | None
    truth: float | None
    predicted: float | None
    steps_ratio: dict[int, float]
    """Measured over true steps, by batch size."""
    batch_size: int | None
    learning_rate: float | None
    excess: float | None
    """Steps that the recommended pair takes over those of the best rate on the grid at its batch size."""
    cost: float
    """Examples of the grid over those of the trial."""
    cost_with_target: float | None
    """The same of a trial that has to find the target; None where the pair in use sets it."""
    seconds: float


def truths() -> dict[str, Truth]:
    """By name; without the older ones, which count a first dip as arrived and trials do not."""
    entries = json.loads(TRUTHS.read_text(encoding="utf-8"))["rows"]
    return {entry["name"]: _truth(entry) for entry in entries if entry.get("window") == WINDOW}


def _truth(entry: dict[str, Any]) -> Truth:
    lines: dict[int, list[float]] = {}
    for cell in entry["grid"]:
        if len(cell["steps"]) > 3 and None not in cell["steps"]:
            lines.setdefault(cell["batch_size"], []).append(float(np.exp(np.mean(np.log(cell["steps"])))))
    best = {size: min(found) for size, found in lines.items()}
    fitted = {size: steps for size, steps in best.items() if steps >= FEWEST_STEPS}
    return Truth(
        name=entry["name"],
        target_loss=entry["target_loss"],
        pace_setter=entry["pace_setter"],
        examples=entry["examples"] * min(1.0, CELLS / len(entry["grid"])),
        best=best,
        curve=fit_steps_curve(
            list(fitted),
            [math.log(steps) for steps in fitted.values()],
            [0.05] * len(fitted),
            freedom=12,
            confidence=0.9,
        ),
    )


def judge(case: Case, truth: Truth, seed: int, folder: Path, *, run_pair: bool = True) -> Outcome:
    """One trial with the tool, and the recommended pair for real."""
    report = trial_report(case, seed, folder, pace_setter=truth.pace_setter)
    trial = report.trial
    assert trial is not None
    row = next((r for r in report.recommendations if r.batch_size == report.headline.batch_size), None)
    if row is not None and row.basis != "measured":
        row = None
    critical = trial.measured_critical_batch_size
    return Outcome(
        name=case.name,
        seed=seed,
        critical=critical.value,
        low=critical.low,
        high=critical.high,
        truth=truth.critical,
        predicted=report.predicted_critical_batch_size.value,
        steps_ratio={
            point.batch_size: (point.steps.value or math.nan) / truth.best[point.batch_size]
            for point in trial.curve
            if point.batch_size in truth.best
        },
        batch_size=row.batch_size if row else None,
        learning_rate=row.learning_rate if row else None,
        excess=_excess(case, truth, row.batch_size, row.learning_rate)
        if run_pair and row and row.learning_rate
        else None,
        cost=truth.examples / max(trial.examples_used, 1),
        cost_with_target=_cost_with_target(case, truth, seed, folder) if run_pair else None,
        seconds=report.probe.seconds_per_phase.trial or 0.0,
    )


def _cost_with_target(case: Case, truth: Truth, seed: int, folder: Path) -> float | None:
    if truth.pace_setter == case.learning_rate:
        return None
    trial = trial_report(case, seed, folder, pace_setter=None).trial
    assert trial is not None
    return truth.examples / max(trial.examples_used, 1)


def trial_report(
    case: Case,
    seed: int,
    folder: Path,
    *,
    pace_setter: float | None,
    when: Literal["never", "always"] = "always",
) -> Report:
    """What the tool says of a case, at the target that this learning rate sets; None: at one of its own."""
    os.environ["BSADVISOR_CASE"] = case.name
    saved = folder / f"{case.name}.pt"
    if not saved.exists():
        torch.save(checkpoint(case), saved)
    request = TargetRequest(
        target=str(Path(__file__).with_name("target.py")), checkpoint=str(saved), device="cpu"
    )
    goal = None if pace_setter is None else _target(case, request, pace_setter, seed)
    return pipeline.probe(
        request,
        ProbeSettings(
            curvature=False,
            seed=seed,
            time_budget=3600,
            trial=TrialSettings(when=when, horizon=case.horizon, target_loss=goal),
        ),
        progress=lambda progress: None,
        notify=lambda note: None,
        stop=pipeline.StopSignal(),
        command="trial",
    )


def _target(case: Case, request: TargetRequest, pace_setter: float, seed: int) -> float:
    """The truth's, on the examples that the tool will judge losses by."""
    target = load(request, notify=lambda note: None)
    ground = trial_ground(
        target,
        target.training,
        Sampler(target.data, seed=seed),
        batch_in_use=None,
        per_device_batch=None,
        couples=False,
        token_mean=False,
        seed=seed,
    )
    inputs, targets = case.data()
    parts = [torch.cat(part) for part in zip(*ground.evaluation, strict=True)]
    judged = parts[0], parts[1]
    bench = Bench(case=case, inputs=inputs, targets=targets, saved=checkpoint(case), judged=judged)
    return target_of(bench, pace_setter)


def _excess(case: Case, truth: Truth, batch_size: int, rate: float) -> float | None:
    if batch_size not in truth.best:
        return None
    inputs, targets = case.data()
    bench = Bench(case=case, inputs=inputs, targets=targets, saved=checkpoint(case))
    best = truth.best[batch_size]
    steps = [bench.steps_to(truth.target_loss, batch_size, rate, seed, 4 * best + 10) for seed in SEEDS]
    return float(np.exp(np.mean(np.log(np.minimum(steps, 4 * best))))) / best


# --- the table ----------------------------------------------------------------------------------


def summary(outcomes: Sequence[Outcome], known: dict[str, Truth]) -> Iterator[str]:
    """One line a trial, and what they come to beside the probe's prediction and a constant guess."""
    for one in outcomes:
        ratios = " ".join(f"{size}:{ratio:.2f}" for size, ratio in one.steps_ratio.items())
        yield (
            f"{one.name:37} {one.seed}  B_crit {_text(one.critical)} [{_text(one.low)}, {_text(one.high)}] "
            f"true {_text(one.truth)} predicted {_text(one.predicted)}  S {ratios}  "
            f"pair {_text(one.batch_size)} x{_text(one.excess, 2)}  1/{one.cost:.1f}  {one.seconds:.0f} s"
        )
    errors = [abs(math.log(o.critical / o.truth)) for o in outcomes if o.critical and o.truth]
    compared = sum(1 for o in outcomes if o.truth)
    predicted = [abs(math.log(o.predicted / o.truth)) for o in outcomes if o.predicted and o.truth]
    guesses = [abs(math.log(_guess(o.name, known) / o.truth)) for o in outcomes if o.truth]
    steps = [abs(math.log(ratio)) for o in outcomes for ratio in o.steps_ratio.values()]
    excess = [o.excess for o in outcomes if o.excess is not None]
    costs = [o.cost for o in outcomes]
    within = sum(error <= math.log(2) for error in errors)
    yield f"B_crit        trial x{_factor(errors)}, {within} of {compared} within x2"
    yield f"              predicted x{_factor(predicted)}, constant guess x{_factor(guesses)}"
    yield f"S(B)          x{_factor(steps)} over {len(steps)} points, signed x{_signed(outcomes):.2f}"
    if excess:
        yield f"pair          median x{median(excess):.2f}, worst x{max(excess):.2f} of {len(excess)}"
    yield f"cost          1/{median(costs):.1f} in the median, 1/{min(costs):.1f} at most"
    anew = [o.cost_with_target for o in outcomes if o.cost_with_target]
    if anew:
        yield f"              1/{median(anew):.1f} and 1/{min(anew):.1f} of {len(anew)} with finding the target"


def _signed(outcomes: Sequence[Outcome]) -> float:
    return math.exp(mean(math.log(ratio) for o in outcomes for ratio in o.steps_ratio.values()))


def _guess(name: str, known: dict[str, Truth]) -> float:
    """The geometric mean of the other cases."""
    others = [truth.critical for truth in known.values() if truth.name != name and truth.critical]
    return math.exp(mean(map(math.log, others)))


def _factor(errors: Sequence[float]) -> str:
    return f"{math.exp(mean(errors)):.2f}" if errors else "-"


def _text(number: float | None, digits: int = 0) -> str:
    return "-" if number is None else f"{number:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=get_args(Split), default="test")
    parser.add_argument("--case", action="append", help="only these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--coverage", action="store_true", help="only B_crit and its interval")
    parser.add_argument("--write", metavar="KEY", help="store under this key")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    known, outcomes = truths(), []
    with tempfile.TemporaryDirectory() as folder:
        for case in available():
            wanted = case.name in chosen.case if chosen.case else case.split == chosen.split
            if wanted and case.name in known:
                for seed in range(chosen.seeds):
                    outcome = judge(case, known[case.name], seed, Path(folder), run_pair=not chosen.coverage)
                    outcomes.append(outcome)
                    print(next(summary([outcome], known)), flush=True)
    for line in list(summary(outcomes, known))[len(outcomes) :]:
        print(line)
    held = [(o.low or 0) <= o.truth <= (o.high or math.inf) for o in outcomes if o.truth and o.low]
    widths = [o.high / o.low if o.high else math.inf for o in outcomes if o.truth and o.low]
    if held:
        print(f"intervals     hold {sum(held)} of {len(held)}, median high over low {median(widths):.2f}")
    if chosen.write:
        stored = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else {}
        rows = {**stored, chosen.write: [asdict(outcome) for outcome in outcomes]}
        text = json.dumps({"torch": torch.__version__, "rows": rows}, indent=1)
        RESULTS.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
