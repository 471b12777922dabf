"""The learning rate at another batch size, as it is asked and answered."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bsadvisor import report as reports
from bsadvisor.scaling_rules import SCALING_RULES
from bsadvisor.theory import scaling
from bsadvisor.values import Report
from tests.cli.conftest import PROGRAM, Run
from tests.cli.test_program import starts_in
from tests.report import curved, sample

PAIR = ("--from-batch", 256, "--from-lr", "3e-4", "--optimizer", "adamw")

QUESTION = ("scale", *PAIR, "--to-batch", 2048, "--format", "json")


def save(folder: Path, report: Report) -> Path:
    path = folder / "report.json"
    path.write_text(reports.to_json(report), encoding="utf-8")
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """AdamW at B = 32 and 1e-3, noise scale 95 in its geometry."""
    return save(tmp_path, sample.contract_report())


def test_without_a_report_adamw_follows_the_square_root(run: Run) -> None:
    answer = json.loads(run(*QUESTION).out)
    best = answer["recommended"]
    assert (answer["command"], answer["schema_version"]) == ("scale", 1)
    assert (best["rule"], best["basis"]) == ("square_root", "predicted")
    assert best["learning_rate"] == pytest.approx(3e-4 * 8**0.5)
    assert best["learning_rate_low"] <= 3e-4 and best["learning_rate_high"] >= 3e-4 * 8**0.75
    assert best["adam_betas"] == [0.9, pytest.approx(0.999**8)]
    assert answer["noise_scale"] is answer["regime"] is None
    assert [rule["name"] for rule in answer["scaling_rules"]] == list(SCALING_RULES)


def test_with_a_report_its_noise_scale_decides(run: Run, saved: Path) -> None:
    answer = json.loads(run("scale", "--to-batch", 128, "--report", saved, "--format", "json").out)
    best = answer["recommended"]
    assert (answer["from_batch_size"], answer["from_learning_rate"], answer["optimizer"]) == (
        32,
        1e-3,
        "adamw",
    )
    assert answer["noise_scale"]["value"] == 95
    assert best["learning_rate"] == pytest.approx(1e-3 * scaling.saturating_power(128, 32, 95, 0.75))
    assert best["learning_rate_confidence"] == 0.8
    assert answer["regime"] == "between" and answer["notes"] == []


def test_for_another_kind_of_optimizer_the_reports_geometry_is_left_out(run: Run, saved: Path) -> None:
    asked = ("scale", "--to-batch", 128, "--report", saved, "--optimizer", "SGD", "--format", "json")
    answer = json.loads(run(*asked).out)
    assert answer["noise_scale"]["value"] == 212
    assert answer["recommended"]["rule"] == "saturating_power"
    assert answer["recommended"]["learning_rate"] == pytest.approx(
        1e-3 * scaling.saturating_power(128, 32, 212, 0.5)
    )
    assert any("made with AdamW" in note for note in answer["notes"])


def test_the_stability_limit_of_the_report_caps_and_the_answer_says_so(run: Run, tmp_path: Path) -> None:
    report = curved.no_saddle()
    assert report.curvature is not None
    sharp = replace(report.curvature, lambda_max_preconditioned=sample.estimate(2e4, 1.1))
    path = save(tmp_path, replace(report, curvature=sharp))
    asked = ("scale", "--to-batch", 1024, "--report", path)
    best = json.loads(run(*asked, "--format", "json").out)["recommended"]
    assert best["capped"] and best["learning_rate"] == best["learning_rate_limit"]
    full_batch = 2 * (1 + 0.9) / (1 - 0.9) / 2e4
    assert 0.9 * full_batch < best["learning_rate"] == best["learning_rate_high"] < full_batch
    text = " ".join(run(*asked).out.split())
    assert "capped at the stability limit" in text and "largest stable η 1.8e-3" in text
    assert "above the stability limit at B = 1,024" in text


def test_a_measured_row_of_the_report_comes_first(run: Run, tmp_path: Path) -> None:
    report = sample.contract_report()
    rows = [
        replace(row, learning_rate=1.23e-3, basis="measured") if row.batch_size == 128 else row
        for row in report.recommendations
    ]
    path = save(tmp_path, replace(report, recommendations=tuple(rows)))
    answer = json.loads(run("scale", "--to-batch", 128, "--report", path, "--format", "json").out)
    assert (answer["recommended"]["learning_rate"], answer["recommended"]["basis"]) == (1.23e-3, "measured")
    (at,) = next(rule for rule in answer["scaling_rules"] if rule["name"] == "square_root")["learning_rates"]
    assert at["over_recommended"] == pytest.approx(2e-3 / 1.23e-3)
    assert "Use  B = 128   η = 1.2e-3" in run("scale", "--to-batch", 128, "--report", path).out


@pytest.mark.parametrize("format", reports.FORMATS)
def test_every_format_holds_the_recommended_rate(run: Run, format: str, saved: Path) -> None:
    finished = run("scale", "--to-batch", 128, "--report", saved, "--format", format)
    assert (finished.code, finished.err) == (0, "")
    assert ("0.0018" if format in ("json", "yaml") else "1.9e-3") in finished.out


def test_yaml_holds_the_data_of_the_json(run: Run) -> None:
    assert yaml.safe_load(run(*QUESTION[:-1], "yaml").out) == json.loads(run(*QUESTION).out)


def test_the_page_fits_eighty_columns_and_names_every_rule(run: Run, saved: Path) -> None:
    page = run("scale", "--to-batch", 128, "--report", saved).out
    assert max(map(len, page.splitlines())) <= 80
    assert [name for name in SCALING_RULES if name not in page] == []
    assert "bsadvisor explain saturating_power" in page


def test_markdown_has_a_row_for_every_rule(run: Run) -> None:
    lines = run(*QUESTION[:-1], "markdown").out.splitlines()
    assert lines[0].startswith("### Try B = 2,048 η = 8.5e-4")
    assert len([line for line in lines if line.startswith("|")]) == 2 + len(SCALING_RULES)
    assert any(line.startswith("| **`square_root`** | **8.5e-4** |") for line in lines)


def test_the_answer_is_written_to_a_file_and_replaces_an_answer(run: Run, tmp_path: Path) -> None:
    for name in ("answer.json", "answer.md", "answer.txt"):
        for _ in range(2):
            finished = run(*QUESTION[:-2], "--output", tmp_path / name)
            assert (finished.code, finished.out) == (0, "")
    assert json.loads((tmp_path / "answer.json").read_text("utf-8"))["command"] == "scale"
    assert (tmp_path / "answer.md").read_text("utf-8").startswith("### Try")


def test_a_dash_reads_the_report_from_stdin(run: Run, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(saved.read_text("utf-8")))
    asked = ("scale", "--to-batch", 128, "--report")
    assert run(*asked, "-").out == run(*asked, saved).out


def test_weight_decay_and_betas_come_from_the_flags(run: Run) -> None:
    answer = json.loads(run(*QUESTION, "--betas", 0.8, 0.95, "--weight-decay", 0.1).out)
    best = answer["recommended"]
    assert best["adam_betas"] == [0.8, pytest.approx(0.95**8)]
    assert best["weight_decay"] == pytest.approx(0.1 * 8 / 8**0.5)
    assert not any("assumed" in note for note in answer["notes"])


def test_the_same_batch_size_keeps_its_pair(run: Run) -> None:
    assert "\n  Keep  B = 256   η = 3.0e-4\n" in run("scale", *PAIR, "--to-batch", 256).out


def test_a_beta_near_one_is_not_rounded_to_it(run: Run) -> None:
    page = run("scale", "--from-batch", 256, *PAIR[2:], "--to-batch", 8).out
    assert "betas 0.9 and 0.999969" in page


# --- what was assumed and what is missing -------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        ((), "no noise scale: --report"),
        ((), "as adamw has it in PyTorch: betas 0.9 and 0.999 (--betas), weight decay 0.01"),
        (("--optimizer", "muon"), "muon is not known here: treated as Euclidean, like SGD"),
        (("--to-batch", "256"), "both batch sizes are the same"),
    ],
)
def test_what_was_assumed_is_said(run: Run, changed: tuple[str, ...], note: str) -> None:
    notes = json.loads(run(*QUESTION, *changed).out)["notes"]
    assert any(note in said for said in notes)


def test_a_report_that_resolved_no_noise_scale_still_gets_an_answer(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path, sample.nothing_resolved())
    finished = run(*QUESTION, "--report", path)
    answer = json.loads(finished.out)
    assert finished.code == 0
    assert answer["recommended"]["rule"] == "square_root"
    assert any("did not resolve the noise scale" in note for note in answer["notes"])


def test_a_noise_scale_without_an_upper_end_is_remarked_on(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path, sample.no_upper_end())
    asked = ("scale", "--to-batch", 64, "--report", path, "--optimizer", "sgd", "--format", "json")
    notes = json.loads(run(*asked).out)["notes"]
    assert any("has no upper end" in note for note in notes)


def test_a_pair_that_is_not_the_reports_own_is_remarked_on(run: Run, saved: Path) -> None:
    notes = json.loads(run(*QUESTION, "--report", saved).out)["notes"]
    assert any("made at B = 32, η = 0.001" in note for note in notes)
    assert any("more than the 1,437 examples" in note for note in notes)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (("--to-batch", "0"), "--to-batch 0 is no batch size"),
        (("--from-batch", "-3"), "--from-batch -3 is no batch size"),
        (("--to-batch", "9" * 30), f"--to-batch {'9' * 30} is no batch size"),
        (("--to-batch", "2.5"), "Invalid value for '--to-batch'"),
        (("--from-lr", "0"), "--from-lr 0.0 is no learning rate"),
        (("--from-lr", "-1e-3"), "--from-lr -0.001 is no learning rate"),
        (("--from-lr", "nan"), "--from-lr nan is no learning rate"),
        (("--from-lr", "inf"), "--from-lr inf is no learning rate"),
        (("--betas", "0.9", "1"), "--betas 0.9 1.0 are not both from 0 to below 1"),
        (("--betas", "nan", "0.9"), "--betas nan 0.9 are not both"),
        (("--weight-decay", "nan"), "--weight-decay nan is none"),
        (("--weight-decay", "-1"), "--weight-decay -1.0 is none"),
    ],
)
def test_what_no_rule_can_start_from_is_refused_in_two_lines(
    run: Run, changed: tuple[str, ...], problem: str
) -> None:
    finished = run(*QUESTION, *changed)
    assert (finished.code, finished.out) == (2, "")
    assert finished.err.startswith(f"error: {problem}")
    assert len(finished.err.splitlines()) == 2


@pytest.mark.parametrize("missing", ["--from-batch", "--from-lr", "--optimizer"])
def test_without_a_report_the_whole_pair_is_needed(run: Run, missing: str) -> None:
    words = list(QUESTION)
    at = words.index(missing)
    finished = run(*words[:at], *words[at + 2 :])
    problem, remedy = finished.err.splitlines()
    assert finished.code == 2
    assert problem.endswith("to start from") and f"add {missing} " in remedy


@pytest.mark.parametrize("half", [("--from-batch", 512), ("--from-lr", 0.1)])
def test_half_a_pair_is_not_completed_by_the_reports_other_half(
    run: Run, saved: Path, half: tuple[str, object]
) -> None:
    finished = run("scale", "--to-batch", 64, "--report", saved, *half)
    assert finished.code == 2 and len(finished.err.splitlines()) == 2


def test_a_file_that_is_no_report_is_refused_in_two_lines(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    for name in ("other.json", "absent.json"):
        finished = run(*QUESTION, "--report", tmp_path / name)
        assert (finished.code, finished.out) == (4, "")
        assert len(finished.err.splitlines()) == 2


def test_it_answers_in_half_a_second(spawn: Run, saved: Path) -> None:
    command = f"{PROGRAM} scale --to-batch 64 --report {saved}"
    assert starts_in(spawn, command, seconds=0.5, times_bare=8)
