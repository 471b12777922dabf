"""What `check` says in every situation: its exit code, the rules that are violated, and those that are unknown."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bsadvisor import report as reports
from bsadvisor.findings import finding
from bsadvisor.values import Anchor, Estimate, OptimizerFamily, Report, SaddleVerdict
from tests.cli.conftest import Run
from tests.report import curved, sample, tried

EXAMPLES, STEPS, RATE = "max_examples_over_minimum", "max_steps_over_minimum", "learning_rate"
ESCAPE, MEMORY, DRIFT = "escape_steps", "memory", "max_drift"

CHECKPOINT = b"the weights of then"


def good() -> Report:
    """B_crit 95 with a band of 12 … 760; B = 32 and η = 1e-3 in use; no curvature."""
    report = sample.contract_report()
    target = replace(
        report.target,
        checkpoint="checkpoint.pt",
        checkpoint_sha256=hashlib.sha256(CHECKPOINT).hexdigest(),
        anchor=Anchor(batch_size_from="BATCH_SIZE in model.py", learning_rate_from="checkpoint"),
    )
    return replace(report, target=target)


def after_a_trial() -> Report:
    """B_crit 140; the best learning rate at B = 32 is 1.3e-3."""
    return replace(tried.measured(), target=good().target)


def limited() -> Report:
    """With the stability limit: 0.235, at most 0.247, for all batch sizes."""
    return replace(good(), curvature=curved.curvature())


def at_a_saddle() -> Report:
    return replace(limited(), saddle=curved.at_a_saddle().saddle)


def perhaps_at_a_saddle() -> Report:
    saddle = at_a_saddle().saddle
    assert saddle is not None
    return replace(limited(), saddle=replace(saddle, verdict="possible"))


def noted() -> SaddleVerdict:
    """Negative curvature, and no run was tried."""
    saddle = at_a_saddle().saddle
    assert saddle is not None and saddle.evidence is not None
    return replace(saddle, verdict="note", evidence=replace(saddle.evidence, short_run=None))


def with_largest_curvature(value: float) -> Report:
    largest = Estimate(value=value, low=value, high=value, confidence=0.95)
    curvature = replace(curved.curvature(), lambda_max=largest, lambda_max_preconditioned=largest)
    return replace(good(), curvature=curvature)


def without_state(report: Report) -> Report:
    """Of an optimizer whose geometry only its state can tell."""
    details = report.target.optimizer_details
    assert details is not None
    return replace(
        report, target=replace(report.target, optimizer_details=replace(details, state_loaded=False))
    )


def of_family(family: OptimizerFamily, report: Report) -> Report:
    details = report.target.optimizer_details
    assert details is not None
    return replace(report, target=replace(report.target, optimizer_details=replace(details, family=family)))


def without(**halves: Any) -> Callable[[], Report]:
    """With nothing in use for one half of the pair."""
    return lambda: replace(good(), target=replace(good().target, **halves))


def with_noise_scale(value: float) -> Report:
    gradient = replace(good().gradient, noise_scale_simple=sample.estimate(value, 1.2))
    return replace(good(), gradient=gradient)


def by_hand(**changes: Any) -> Callable[[], Report]:
    """With another critical batch size typed in."""
    critical = good().predicted_critical_batch_size
    return lambda: replace(good(), predicted_critical_batch_size=replace(critical, **changes))


def of_another_model() -> Report:
    return replace(good(), target=replace(good().target, model="other.py", trainable_parameters=5))


def with_other_data() -> Report:
    return replace(good(), target=replace(good().target, dataset_size=2000))


def measured_at_512() -> Report:
    rows = tuple(
        replace(row, basis="measured", learning_rate=0.02, learning_rate_low=0.01, learning_rate_high=0.04)
        if row.batch_size == 512
        else row
        for row in good().recommendations
    )
    return replace(good(), recommendations=rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A report, what is typed beside it, and what comes back."""

    report: Callable[[], Report] = good
    typed: str = ""
    yaml: str = ""
    baseline: Callable[[], Report] | None = None
    code: int
    violated: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset({MEMORY})
    findings: frozenset[str] = frozenset()
    """Those about the report itself."""
    why: str = ""
    """In the reason of a rule that is unknown."""


def rules(*names: str) -> frozenset[str]:
    return frozenset(names)


SITUATIONS = {
    # --- the pair ---
    "a good pair": Situation(typed="--batch-size 64 --lr 1.4e-3", code=0),
    "the pair that is recommended": Situation(typed="--batch-size 128 --lr 1.9e-3", code=0),
    "twice the predicted critical batch size": Situation(typed="--batch-size 190 --lr 2e-3", code=0),
    "the largest batch size of the band": Situation(typed="--batch-size 760 --lr 3e-3", code=0),
    "one example more": Situation(typed="--batch-size 761 --lr 3e-3", code=3, violated=rules(EXAMPLES)),
    "a wasteful batch size": Situation(typed="--batch-size 4096 --lr 3e-3", code=3, violated=rules(EXAMPLES)),
    "a batch size that wastes steps": Situation(
        typed="--batch-size 2 --lr 1e-4 --rule max_steps_over_minimum=3", code=3, violated=rules(STEPS)
    ),
    "steps that only the prediction calls wasted": Situation(
        typed="--batch-size 16 --rule max_steps_over_minimum=3", code=0
    ),
    "ten times the learning rate, before any trial": Situation(
        typed="--lr 1e-2", code=0, unknown=rules(RATE, MEMORY)
    ),
    "ten times the learning rate, after a trial": Situation(
        report=after_a_trial, typed="--lr 1e-2", code=3, violated=rules(RATE)
    ),
    "a tenth of the learning rate, after a trial": Situation(
        report=after_a_trial, typed="--lr 1e-4", code=3, violated=rules(RATE)
    ),
    "a hundred times the learning rate": Situation(typed="--lr 1e-1", code=3, violated=rules(RATE)),
    "a hundredth of the learning rate": Situation(typed="--lr 1e-5", code=3, violated=rules(RATE)),
    "a larger batch at the old learning rate": Situation(
        typed="--batch-size 700", code=0, unknown=rules(RATE, MEMORY)
    ),
    "a learning rate far below the range": Situation(
        typed="--batch-size 512 --lr 4e-5", code=3, violated=rules(RATE)
    ),
    "both too large": Situation(typed="--batch-size 4096 --lr 100", code=3, violated=rules(EXAMPLES, RATE)),
    "the pair in use, asked for": Situation(typed="--batch-size 32 --lr 1e-3", code=0),
    "the pair in use, with nothing asked": Situation(code=0, unknown=rules(RATE, MEMORY)),
    "measured advice against the pair": Situation(
        report=measured_at_512, typed="--batch-size 512 --lr 2e-3", code=3, violated=rules(RATE)
    ),
    "measured advice beside the pair": Situation(
        report=measured_at_512, typed="--batch-size 512 --lr 3e-3", code=0, unknown=rules(RATE, MEMORY)
    ),
    "measured advice for the pair": Situation(
        report=measured_at_512, typed="--batch-size 512 --lr 2e-2", code=0
    ),
    "measured advice near the pair, and nothing in use": Situation(
        report=lambda: replace(
            measured_at_512(), target=replace(good().target, batch_size=None, learning_rate=None)
        ),
        typed="--batch-size 600 --lr 0.5",
        code=3,
        violated=rules(RATE),
    ),
    # --- the stability limit ---
    "far above the stability limit": Situation(
        report=limited, typed="--lr 5 --rule learning_rate=limit", code=3, violated=rules(RATE)
    ),
    "below the stability limit": Situation(
        report=limited, typed="--lr 1e-2 --rule learning_rate=limit", code=0
    ),
    "a limit that was not measured": Situation(
        typed="--lr 5 --rule learning_rate=limit", code=0, unknown=rules(RATE, MEMORY)
    ),
    "no limit, because nothing curves upwards": Situation(
        report=lambda: with_largest_curvature(0.0),
        typed="--lr 5 --rule learning_rate=limit",
        code=0,
        unknown=rules(RATE, MEMORY),
        why="the loss curves upwards nowhere here",
    ),
    "a limit that takes the optimizer's state": Situation(
        report=lambda: without_state(limited()),
        typed="--lr 5 --rule learning_rate=limit",
        code=0,
        unknown=rules(RATE, MEMORY),
        why="the stability limit takes the optimizer's state",
    ),
    "a limit with an optimizer that nobody knows": Situation(
        report=lambda: of_family("other", limited()),
        typed="--lr 5 --rule learning_rate=limit",
        code=0,
        unknown=rules(RATE, MEMORY),
        why="what AdamW makes of a gradient is not known here",
    ),
    "a limit without second derivatives": Situation(
        report=lambda: replace(good(), findings=(finding("BSA219", problem="it is not finite"),)),
        typed="--lr 5 --rule learning_rate=limit",
        code=0,
        unknown=rules(RATE, MEMORY),
        why="no second derivative of this model could be had",
    ),
    "above the limit without an anchor": Situation(
        report=lambda: replace(limited(), target=replace(limited().target, learning_rate=None)),
        typed="--lr 5 --rule learning_rate=limit",
        code=3,
        violated=rules(RATE),
    ),
    # --- anchors ---
    "no learning rate in use": Situation(
        report=without(learning_rate=None), typed="--lr 1e-3", code=0, unknown=rules(RATE, MEMORY)
    ),
    "no batch size in use": Situation(
        report=without(batch_size=None),
        typed="--batch-size 64 --lr 1e-3",
        code=0,
        unknown=rules(RATE, MEMORY),
    ),
    "no batch size at all": Situation(
        report=without(batch_size=None), code=5, unknown=rules(EXAMPLES, RATE, MEMORY)
    ),
    "no anchor but a baseline's": Situation(
        report=without(learning_rate=None),
        typed="--lr 1",
        baseline=good,
        code=3,
        violated=rules(RATE),
    ),
    # --- what was not resolved ---
    "no checkpoint and a large batch": Situation(
        report=sample.initial_weights,
        typed="--batch-size 4096 --lr 3e-3",
        code=0,
        unknown=rules(EXAMPLES, MEMORY),
    ),
    "no checkpoint and a small batch": Situation(
        report=sample.initial_weights, typed="--batch-size 64 --lr 1e-3", code=0
    ),
    "nothing resolved": Situation(
        report=sample.nothing_resolved,
        typed="--batch-size 64 --lr 1e-3",
        code=5,
        unknown=rules(EXAMPLES, RATE, MEMORY),
    ),
    "nothing resolved, and a learning rate beyond all": Situation(
        report=sample.nothing_resolved,
        typed="--batch-size 64 --lr 100",
        code=3,
        violated=rules(RATE),
        unknown=rules(EXAMPLES, MEMORY),
    ),
    "nothing resolved and no learning rate asked": Situation(
        report=sample.nothing_resolved,
        typed="--batch-size 64 --rule learning_rate=null",
        code=5,
        unknown=rules(EXAMPLES, MEMORY),
    ),
    "inconclusive, and allowed": Situation(
        report=sample.nothing_resolved,
        typed="--batch-size 64 --rule learning_rate=null --allow-inconclusive",
        code=0,
        unknown=rules(EXAMPLES, MEMORY),
    ),
    "no upper end and a small batch": Situation(
        report=sample.no_upper_end, typed="--batch-size 64 --lr 1.4e-3", code=0
    ),
    "no upper end and a large batch": Situation(
        report=sample.no_upper_end,
        typed="--batch-size 4096 --lr 3e-3",
        code=0,
        unknown=rules(EXAMPLES, MEMORY),
    ),
    # --- the saddle ---
    "at a saddle for too long": Situation(
        report=at_a_saddle,
        typed="--batch-size 64 --lr 1e-3 --rule escape_steps=10",
        code=3,
        violated=rules(ESCAPE),
    ),
    "at a saddle that a smaller batch leaves": Situation(
        report=at_a_saddle,
        typed="--batch-size 4096 --lr 1e-3 --rule escape_steps=345",
        code=3,
        violated=rules(ESCAPE),
        unknown=rules(EXAMPLES, MEMORY),
    ),
    "at a saddle, and soon out": Situation(
        report=at_a_saddle, typed="--batch-size 64 --lr 1e-3 --rule escape_steps=1e6", code=0
    ),
    "perhaps at a saddle": Situation(
        report=perhaps_at_a_saddle,
        typed="--batch-size 64 --lr 1e-3 --rule escape_steps=10",
        code=0,
        unknown=rules(ESCAPE, MEMORY),
    ),
    "no saddle": Situation(
        report=curved.no_saddle, typed="--batch-size 64 --lr 1e-3 --rule escape_steps=10", code=0
    ),
    "negative curvature, as everywhere": Situation(
        report=lambda: replace(limited(), saddle=noted()), typed="--lr 1e-3 --rule escape_steps=10", code=0
    ),
    "negative curvature of which no more can be told": Situation(
        report=lambda: without_state(replace(limited(), saddle=noted())),
        typed="--lr 1e-3 --rule escape_steps=10",
        code=0,
        unknown=rules(ESCAPE, MEMORY),
        why="cannot be told without the optimizer's state",
    ),
    "negative curvature with an optimizer that nobody knows": Situation(
        report=lambda: of_family("other", replace(limited(), saddle=noted())),
        typed="--lr 1e-3 --rule escape_steps=10",
        code=0,
        unknown=rules(ESCAPE, MEMORY),
        why="what AdamW makes of a gradient is not known here",
    ),
    "a saddle without second derivatives": Situation(
        report=lambda: replace(good(), findings=(finding("BSA219", problem="it is not finite"),)),
        typed="--lr 1e-3 --rule escape_steps=10",
        code=0,
        unknown=rules(ESCAPE, MEMORY),
        why="no second derivative of this model could be had",
    ),
    "a saddle that was not looked for": Situation(
        typed="--batch-size 64 --lr 1e-3 --rule escape_steps=10", code=0, unknown=rules(ESCAPE, MEMORY)
    ),
    "a large batch at a saddle": Situation(
        report=at_a_saddle, typed="--batch-size 4096 --lr 3e-3", code=0, unknown=rules(EXAMPLES, MEMORY)
    ),
    # --- the baseline ---
    "the same noise scale": Situation(
        typed="--batch-size 64 --lr 1e-3", baseline=lambda: with_noise_scale(230.0), code=0
    ),
    "a noise scale that has drifted": Situation(
        typed="--batch-size 64 --lr 1e-3",
        baseline=lambda: with_noise_scale(20.0),
        code=3,
        violated=rules(DRIFT),
    ),
    "a noise scale that may have drifted": Situation(
        typed="--batch-size 64 --lr 1e-3", baseline=lambda: with_noise_scale(100.0), code=0
    ),
    "a baseline that resolved nothing": Situation(
        typed="--batch-size 64 --lr 1e-3",
        baseline=sample.nothing_resolved,
        code=0,
        unknown=rules(DRIFT, MEMORY),
    ),
    "a baseline with other data": Situation(
        typed="--batch-size 64 --lr 1e-3",
        baseline=with_other_data,
        code=0,
        findings=frozenset({"BSA392"}),
    ),
    # --- severities ---
    "a warning": Situation(
        typed="--batch-size 4096 --lr 3e-3",
        yaml="check: {max_examples_over_minimum: warning}",
        code=0,
        violated=rules(EXAMPLES),
    ),
    "a warning that fails": Situation(
        typed="--batch-size 4096 --lr 3e-3",
        yaml="check: {max_examples_over_minimum: {value: 3, severity: warning}, fail_on: warning}",
        code=3,
        violated=rules(EXAMPLES),
    ),
    "a note is less than a warning": Situation(
        typed="--batch-size 4096 --lr 3e-3 --fail-on warning",
        yaml="check: {max_examples_over_minimum: note}",
        code=0,
        violated=rules(EXAMPLES),
    ),
    "a rule that is off": Situation(
        typed="--batch-size 4096 --lr 3e-3",
        yaml="check: {max_examples_over_minimum: off, memory: null}",
        code=0,
        unknown=frozenset(),
    ),
    "a rule by flag over the YAML": Situation(
        typed="--batch-size 4096 --lr 3e-3 --rule max_examples_over_minimum=2",
        yaml="check: {max_examples_over_minimum: 100, memory: false}",
        code=3,
        violated=rules(EXAMPLES),
        unknown=frozenset(),
    ),
    "a pair in the YAML": Situation(
        yaml="batch_size: 4096\noptimizer: {name: adamw, lr: 100.0}", code=3, violated=rules(EXAMPLES, RATE)
    ),
    "a flag over the pair in the YAML": Situation(
        typed="--batch-size 64 --lr 1e-3",
        yaml="batch_size: 4096\noptimizer: {name: adamw, lr: 0.1}",
        code=0,
    ),
    # --- the report itself ---
    "a noise scale typed in by hand": Situation(
        report=lambda: with_noise_scale(300.0),
        typed="--batch-size 64 --lr 1e-3",
        code=0,
        findings=frozenset({"BSA393"}),
    ),
    "a critical batch size typed in by hand": Situation(
        report=by_hand(value=9000.0, low=8000.0, high=10000.0, band_low=1000.0, band_high=90000.0),
        typed="--batch-size 4096 --lr 3e-3",
        code=0,
        findings=frozenset({"BSA393"}),
    ),
    "ends that are not around their value": Situation(
        report=by_hand(low=300.0),
        typed="--batch-size 64 --lr 1e-3",
        code=0,
        findings=frozenset({"BSA393"}),
    ),
    "a critical batch size below zero": Situation(
        report=by_hand(value=-5.0, low=-6.0, high=-4.0, band_low=-7.0, band_high=-3.0),
        typed="--batch-size 64 --lr 1e-3",
        code=0,
        unknown=rules(EXAMPLES, MEMORY),
        findings=frozenset({"BSA393"}),
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the checkpoint is, as it was when the reports were made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(CHECKPOINT)
    return tmp_path


def save(report: Report, path: Path) -> None:
    path.write_text(reports.to_json(with_sums_that_agree(report)), encoding="utf-8")


def with_sums_that_agree(report: Report) -> Report:
    """The example of the contract has round figures; these sums make B_simple 212."""
    raw = report.gradient.raw
    weight, batches = sum(raw.weight), sum(raw.micro_batches)
    squared_norm = (raw.total_squared_norm - sum(raw.weight_squared_squared_norm)) / (
        weight**2 - sum(raw.weight_squared)
    )
    sums = (batches * 212.0 + weight) * squared_norm
    raw = replace(raw, weighted_squared_norm=(sums / 2, sums / 2))
    return replace(report, gradient=replace(report.gradient, raw=raw))


def told(report: Report) -> frozenset[str]:
    """Findings about the report itself."""
    return frozenset(found.code for found in report.findings if found.code.startswith("BSA39"))


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_the_answer_is_the_one_of_the_table(run: Run, folder: Path, situation: Situation) -> None:
    save(situation.report(), folder / "report.json")
    (folder / "bsadvisor.yaml").write_text(situation.yaml, encoding="utf-8")
    typed = situation.typed.split()
    if situation.baseline is not None:
        save(situation.baseline(), folder / "old.json")
        typed += ["--baseline", "old.json"]
    finished = run("check", "report.json", *typed, "--format", "json")
    assert finished.err == ""
    judged = reports.from_json(finished.out)
    assert judged.check is not None and judged.violations is not None
    assert finished.code == situation.code
    assert {result.rule for result in judged.violations} == situation.violated
    assert {result.rule for result in judged.check.unknown} == situation.unknown
    assert told(judged) == situation.findings
    assert not situation.why or any(situation.why in result.message for result in judged.check.unknown)
    verdicts = {0: ("pass", "unknown"), 3: ("fail",), 5: ("unknown",)}
    assert judged.verdict in verdicts[situation.code]


def test_there_are_situations_enough() -> None:
    assert len(SITUATIONS) >= 30


@pytest.mark.parametrize("situation", [s for s in SITUATIONS.values() if s.code == 3])
def test_what_would_pass_does_pass(run: Run, folder: Path, situation: Situation) -> None:
    """The advice of a violation, taken: the rule is broken no more."""
    save(situation.report(), folder / "report.json")
    (folder / "bsadvisor.yaml").write_text(situation.yaml, encoding="utf-8")
    typed = situation.typed.split()
    if situation.baseline is not None:
        save(situation.baseline(), folder / "old.json")
        typed += ["--baseline", "old.json"]
    judged = reports.from_json(run("check", "report.json", *typed, "--format", "json").out)
    for violation in judged.violations or ():
        if violation.passes is None:
            assert violation.rule == DRIFT or "no batch size" in violation.remedy
            continue
        flag = {"batch_size": "--batch-size", "learning_rate": "--lr"}[violation.passes.setting]
        ends = [repr(end) for end in (violation.passes.low, violation.passes.high) if end is not None]
        typed_off = re.findall(r"[\d.,]*\d(?:e-?\d+)?", violation.remedy)
        assert len(typed_off) == len(ends)
        for number in (*ends, *(shown.replace(",", "") for shown in typed_off)):
            number = number if flag == "--lr" else str(int(float(number)))
            again = run("check", "report.json", *typed, flag, number, "--format", "json")
            still = reports.from_json(again.out).violations or ()
            assert violation.rule not in {result.rule for result in still}


# --- files that have changed, and files that are no reports ---------------------------------------


def test_a_checkpoint_that_has_changed_since_is_told(run: Run, folder: Path) -> None:
    save(good(), folder / "report.json")
    fresh = run("check", "report.json", "--batch-size", "64")
    (folder / "checkpoint.pt").write_bytes(b"other weights")
    stale = run("check", "report.json", "--batch-size", "64")
    assert (fresh.code, stale.code) == (0, 0)
    assert "BSA391" not in fresh.out
    assert "checkpoint.pt is no longer the file that this report was made from" in stale.out


def test_a_checkpoint_that_is_not_there_is_no_reproach(run: Run, folder: Path) -> None:
    save(good(), folder / "report.json")
    (folder / "checkpoint.pt").unlink()
    finished = run("check", "report.json", "--batch-size", "64", "--format", "json")
    assert finished.code == 0
    assert json.loads(finished.out)["check"]["checkpoint"] == "absent"


def test_a_checkpoint_is_found_beside_the_report_too(run: Run, folder: Path) -> None:
    (folder / "runs").mkdir()
    save(good(), folder / "runs" / "report.json")
    (folder / "checkpoint.pt").rename(folder / "runs" / "checkpoint.pt")
    finished = run("check", "runs/report.json", "--batch-size", "64", "--format", "json")
    assert json.loads(finished.out)["check"]["checkpoint"] == "unchanged"


def test_a_data_file_that_has_changed_since_is_told(run: Run, folder: Path) -> None:
    (folder / "train.npz").write_bytes(b"now")
    then = hashlib.sha256(b"then").hexdigest()
    target = replace(good().target, data_file="train.npz", data_sha256=then)
    save(replace(good(), target=target), folder / "report.json")
    finished = run("check", "report.json", "--batch-size", "64")
    assert finished.code == 0
    assert "made from other data: train.npz has changed" in finished.out


@pytest.mark.parametrize(
    ("damage", "reason", "remedy"),
    [
        (lambda text: "{}", "not a bsadvisor report", "writes one"),
        (lambda text: text[:700], "not JSON, or cut short", "writes one"),
        (lambda text: "\x00\x01", "not JSON", "writes one"),
        (
            lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
            "schema_version 2; this bsadvisor is older and reads 1",
            "upgrade bsadvisor",
        ),
        (
            lambda text: text.replace('"schema_version": 1', '"schema_version": 0'),
            "schema_version 0; this bsadvisor is newer and reads 1",
            "writes one",
        ),
        (lambda text: text.replace('"value": 95.0', '"value": NaN'), "finite numbers only", "writes one"),
        (
            lambda text: text.replace('"batch_size": 32', '"batch_size": "32"', 1),
            "target.batch_size",
            "writes",
        ),
        (
            lambda text: '{"schema_version": 1, "targets": []}',
            "reports of several targets",
            "give one of them",
        ),
    ],
)
def test_what_is_no_report_of_this_version_is_refused_with_the_reason(
    run: Run, folder: Path, damage: Callable[[str], str], reason: str, remedy: str
) -> None:
    (folder / "report.json").write_text(damage(reports.to_json(good())), encoding="utf-8")
    finished = run("check", "report.json", "--batch-size", "64")
    assert (finished.code, finished.out) == (4, "")
    cause, advice = finished.err.splitlines()
    assert reason in cause and remedy in advice


def test_a_report_of_before_there_was_a_check_is_read(run: Run, folder: Path) -> None:
    data = json.loads(reports.to_json(good()))
    for key in ("verdict", "violations", "check"):
        del data[key]
    for key in ("data_file", "data_sha256"):
        del data["target"][key]
    (folder / "report.json").write_text(json.dumps(data), encoding="utf-8")
    assert run("check", "report.json", "--batch-size", "64").code == 0


def test_a_report_that_was_judged_before_is_judged_anew(run: Run, folder: Path) -> None:
    save(good(), folder / "report.json")
    (folder / "checkpoint.pt").write_bytes(b"other weights")
    run("check", "report.json", "--batch-size", "4096", "--output", "judged.json")
    (folder / "checkpoint.pt").write_bytes(CHECKPOINT)
    finished = run("check", "judged.json", "--batch-size", "64", "--format", "json")
    assert finished.code == 0
    assert told(reports.from_json(finished.out)) == frozenset()


def test_a_baseline_of_another_target_is_wrong_usage(run: Run, folder: Path) -> None:
    save(good(), folder / "report.json")
    save(of_another_model(), folder / "old.json")
    finished = run("check", "report.json", "--baseline", "old.json")
    assert (finished.code, finished.out) == (2, "")
    assert "the baseline is of another target: other.py" in finished.err


def test_the_anchor_of_a_baseline_is_named_in_the_report(run: Run, folder: Path) -> None:
    save(without(learning_rate=None)(), folder / "report.json")
    save(good(), folder / "old.json")
    finished = run("check", "report.json", "--lr", "1e-3", "--baseline", "old.json", "--format", "json")
    assert json.loads(finished.out)["check"]["anchor"]["learning_rate"] == 1e-3


def test_the_drift_is_that_of_the_nearest_ends(run: Run, folder: Path) -> None:
    save(good(), folder / "report.json")
    save(with_noise_scale(20.0), folder / "old.json")
    finished = run("check", "report.json", "--baseline", "old.json", "--format", "json")
    (drift,) = json.loads(finished.out)["violations"]
    assert drift["measured"]["value"] == pytest.approx(212 / 20)
    assert drift["measured"]["low"] == pytest.approx(160 / 24)
    assert isinstance(with_noise_scale(1.0).gradient.noise_scale_simple, Estimate)
