"""What a person sees in the terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from rich.cells import cell_len

from bsadvisor.report import FORMATS, render, to_json
from bsadvisor.values import Anchor, Report, StoppedBy
from tests.report import curved, sample
from tests.report.anything import REPORTS
from tests.report.sample import UNRESOLVED, contract_report
from tests.report.samples import SAMPLES

GOLDEN = Path(__file__).with_name("golden")

every_sample = pytest.mark.parametrize("build", SAMPLES.values(), ids=SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize(("format", "suffix"), [("text", "txt"), ("markdown", "md")])
def test_a_report_reads_as_it_did(name: str, format: str, suffix: str) -> None:
    """Run with BSADVISOR_REGENERATE=1 to accept what is rendered now."""
    golden = GOLDEN / f"{name}.{suffix}"
    shown = render(SAMPLES[name](), format)
    if os.environ.get("BSADVISOR_REGENERATE"):
        golden.write_text(shown, encoding="utf-8")
    assert shown == golden.read_text(encoding="utf-8")


@every_sample
@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_wider_than_the_page(build: Callable[[], Report], width: int, unicode: bool) -> None:
    lines = render(build(), "text", width=width, unicode=unicode).splitlines()
    assert max(map(cell_len, lines)) <= width


@settings(max_examples=25, deadline=None)
@given(REPORTS)
def test_any_report_can_be_shown(report: Report) -> None:
    report = replace(report, check=None)  # else its verdict is shown: see test_check_formats.py
    assert max(map(cell_len, render(report, "text").split("\n"))) <= 80
    assert report.bsadvisor_version.isspace() or "critical batch" in render(report, "markdown")


# --- the advice ---------------------------------------------------------------------------------


def test_the_pair_to_copy_stands_first_beside_the_one_in_use() -> None:
    advice = render(contract_report(), "text").splitlines()[3]
    assert advice.split("   ")[0] == "  Try  B = 128"
    assert "η = 1.9e-3   (1.2e-3 … 3.0e-3, 80 %)" in advice
    assert advice.endswith("now: B = 32, η = 1.0e-3")


def test_a_prediction_is_marked_as_one() -> None:
    assert "0.44x the steps for 1.8x the examples · predicted, not measured" in shown(contract_report())


def test_a_measured_pair_is_marked_as_one() -> None:
    report = contract_report()
    rows = tuple(replace(row, basis="measured") for row in report.recommendations)
    headline = replace(report.headline, action="use")
    text = shown(replace(report, recommendations=rows, headline=headline))
    assert "Use  B = 128" in text
    assert "1.8x the examples · measured" in text
    assert "not measured" not in text


def test_without_a_learning_rate_factors_are_given() -> None:
    text = shown(sample.no_learning_rate())
    assert "Try  B = 128   1.9x the learning rate" in text
    assert "1.4x   0.63" in text
    assert "η = 1.0e-3" not in text


def test_without_a_batch_size_costs_are_over_the_least() -> None:
    text = shown(sample.no_batch_size())
    assert "1.7x the fewest steps, 2.3x the fewest examples" in text
    assert "over least" in text
    assert "learning\n" not in text
    assert "relative to now" not in text


def test_todays_pair_is_kept_with_the_reason_and_said_once() -> None:
    text = shown(sample.keep())
    assert "Keep  B = 64   η = 3.25e-4\n" in text
    assert "within a factor of two of the predicted critical batch size" in text
    assert "now:" not in text


def test_initial_weights_are_named_and_nothing_is_recommended() -> None:
    text = shown(sample.initial_weights())
    assert "demo/model.py · no checkpoint" in text
    assert "No change recommended" in text
    assert "Try" not in text


def test_the_error_of_the_learning_rates_is_given_where_the_headline_has_none() -> None:
    sentence = "Learning rates are within a factor of 1.6 of the best in 80 % of past cases."
    assert sentence in " ".join(shown(sample.initial_weights()).split())
    assert sentence not in " ".join(shown(contract_report()).split())


def test_tokens_are_given_beside_examples() -> None:
    report = contract_report()
    target = replace(report.target, example="sequence", tokens_per_example=117.4)
    text = shown(replace(report, target=target))
    assert "128 sequences are about 15,000 tokens" in text
    assert "B_simple 212 [160, 300] sequences" in text


# --- the choices --------------------------------------------------------------------------------


def test_only_the_pair_in_use_is_pointed_at() -> None:
    pointed = [line.split() for line in shown(contract_report()).splitlines() if "▸" in line]
    assert pointed == [["▸", "32", "1.0e-3", "1.00", "1.00", "1.00", "1.0e-3", "1.0e-3", "now"]]


def test_a_pair_in_use_with_a_role_shows_the_role() -> None:
    report = contract_report()
    first, *others = report.recommendations
    rows = (replace(first, role="efficient"), *others)
    assert re.search(r"▸ +32 .*1\.0e-3  efficient\n", shown(replace(report, recommendations=rows)))


def test_nothing_to_choose_from_shows_no_table_and_no_chart() -> None:
    text = shown(sample.nothing_resolved())
    assert "learning\n" not in text
    assert "━" not in text
    assert "B_simple not resolved" in text


def test_the_bars_of_a_batch_size_are_as_long_as_its_costs() -> None:
    bars = [line for line in shown(contract_report()).splitlines() if "━" in line]
    steps = [line.split(". ")[0].count("━") for line in (re.sub(r"\d\.\d+ .*", ". ", bar) for bar in bars)]
    examples = [bar.count("━") - step for bar, step in zip(bars, steps, strict=True)]
    assert steps == sorted(steps, reverse=True)
    assert examples == sorted(examples)
    assert examples[-1] == 22  # the dearest choice has the longest bar


def test_a_narrow_page_drops_the_rules_and_keeps_the_costs() -> None:
    narrow = render(contract_report(), "text", width=60)
    assert "linear" not in narrow
    assert "128    1.9e-3   0.44      1.76" in narrow


@pytest.mark.parametrize("width", range(36, 80))
def test_a_column_or_the_chart_is_left_out_whole_or_not_at_all(width: int) -> None:
    text = render(contract_report(), "text", width=width)
    assert "▸     32" in text
    assert "128    1.9e-3   0.44" in text
    assert ("largest useful\n" in text) == ("balanced\n" in text)
    assert ("steps over the least  examples over the least\n" in text) == ("━" in text)
    assert not re.search(r"\w…", text)


# --- why to believe it --------------------------------------------------------------------------


def test_the_band_of_the_critical_batch_size_stands_beside_its_interval() -> None:
    text = shown(contract_report())
    assert "95 [72, 134] images, predicted\n" in text
    assert "possible from a checkpoint alone: 12 … 760 (80 %)" in text


def test_an_open_upper_end_is_said_of_everything_that_follows_from_it() -> None:
    assert shown(sample.no_upper_end()).count("no upper bound") == 3


def test_the_best_single_step_is_never_offered_for_training() -> None:
    text = shown(contract_report())
    assert "η 3.1e-2 [2.4e-2, 4.0e-2] without noise" in text
    assert "for one step along the optimizer's direction" in text
    assert "never a learning rate to train with" in text


def test_the_noisiest_layers_are_named_first() -> None:
    assert "head.weight: 50 %, features.0.weight: 28 %, head.bias: 21 %\n" in shown(contract_report())


@pytest.mark.parametrize(
    ("reason", "words"),
    [("precision", "asked precision"), ("time", "time budget"), ("data", "end of the data")],
)
def test_it_is_said_why_measuring_stopped(reason: StoppedBy, words: str) -> None:
    report = contract_report()
    assert words in shown(replace(report, probe=replace(report.probe, stopped_by=reason)))


def test_it_is_said_where_the_pair_in_use_was_found() -> None:
    assert "B from BATCH_SIZE in model.py; η from checkpoint" in shown(contract_report())


def test_no_source_is_named_where_none_was_found() -> None:
    report = contract_report()
    anchor = Anchor(batch_size_from=None, learning_rate_from=None)
    assert "pair in use" not in shown(replace(report, target=replace(report.target, anchor=anchor)))


def test_a_finding_is_shown_with_its_remedy_and_how_to_learn_more() -> None:
    text = shown(sample.no_learning_rate())
    assert "  ! BSA104  no learning rate was found" in text
    assert "            set LEARNING_RATE in the file" in text
    assert text.endswith("bsadvisor explain BSA104\n")


# --- curvature and saddle -----------------------------------------------------------------------


def test_without_curvature_nothing_is_said_of_it() -> None:
    text = shown(contract_report())
    assert not re.search(r"curvature|saddle|stability|stable|B_noise|λ|escape", text)


def test_the_curvature_weighted_noise_scale_stands_beside_the_simple_one() -> None:
    assert "B_noise 107 [75, 185] images, weighted by curvature\n" in shown(curved.no_saddle())
    assert "B_noise ≥ 820 images, no upper bound, weighted by curvature\n" in shown(curved.little_measured())


def test_where_it_is_not_defined_the_gauss_newton_matrix_stands_in() -> None:
    text = shown(curved.perhaps_at_a_saddle())
    assert "B_noise not defined: no positive curvature along the gradient\n" in text
    assert "by the Gauss-Newton matrix 38.8 [33.8, 45.4] images\n" in text
    assert "Gauss-Newton" not in shown(curved.no_saddle())


def test_where_too_few_examples_tell_it_is_not_called_undefined() -> None:
    report = curved.no_saddle()
    unknown = replace(report, gradient=replace(report.gradient, noise_scale=UNRESOLVED))
    assert "B_noise not resolved: it takes more examples\n" in shown(unknown)


def test_the_stability_limit_is_a_learning_rate_with_its_interval() -> None:
    assert "largest stable η 2.3e-1 [2.1e-1, 2.5e-1], at this point\n" in shown(curved.no_saddle())
    assert "largest stable η ≥ 1.5e0, no upper bound" in shown(curved.perhaps_at_a_saddle())
    assert "stable η" not in shown(curved.little_measured())


def test_every_end_of_the_spectrum_is_printed_once_and_with_its_geometry() -> None:
    text = shown(curved.no_saddle())
    assert "λmax 3.19 [3.06, 3.46] (95 %)\n" in text
    assert "λmax 162 [154, 184], AdamW's geometry\n" in text
    assert "λmin -0.076 [-0.40, -0.0059]\n" in text
    assert [text.count(name) for name in ("λmax 3.19", "λmax 162", "λmin")] == [1, 1, 1]
    assert "directions from 128, measured on 512 other images\n" in text


def test_an_optimizer_without_limit_still_shows_the_spectrum() -> None:
    assert "λmax ≥ 3.1, no upper bound (95 %)\n" in shown(curved.little_measured())


def test_a_piecewise_linear_loss_is_called_one() -> None:
    text = shown(curved.piecewise_linear())
    assert "zero everywhere: the loss is piecewise linear in the weights\n" in text
    assert "λ" not in text


def test_what_was_left_out_is_named_once_with_the_time_it_would_take() -> None:
    text = " ".join(shown(curved.little_measured()).split())
    left_out = "a thorough search for a way out of a saddle (37.1 s), λmax and λmin (5.7 s)"
    assert f"left out, with the time it would take: {left_out}" in text
    assert "half as large" not in text
    assert "other images, by finite differences" in text


def test_at_a_saddle_the_evidence_is_shown_and_the_way_out_is_the_remedy() -> None:
    report = curved.at_a_saddle()
    text = " ".join(shown(report).split())
    assert "saddle yes: negative curvature holds the run up" in text
    assert "curvature along it -0.0642 [-0.0709, -0.0575], 99 % either end" in text
    assert "loss to gain along it 0.0514 [0.0493, 0.0535], 99 % either end" in text
    assert "100 steps lower the loss by 4.0e-4 [1.0e-4, 7.0e-4]" in text
    assert "from its lowest point along it by 0.0487 [0.0465, 0.0509]" in text
    assert report.saddle is not None and text.count(report.saddle.advice) == 1


def test_a_direction_of_all_examples_has_no_error_and_the_hurried_run_stands_below_the_short_one() -> None:
    report = curved.at_a_saddle()
    assert report.saddle is not None and report.saddle.evidence is not None
    run, along = report.saddle.evidence.short_run, report.saddle.evidence.curvature
    assert run is not None
    hurried = replace(run, steps=140, loss_drop=replace(run.loss_drop, value=0.0021))
    saddle = replace(
        report.saddle,
        curvature=replace(along, value=-0.0642, low=-0.0642, high=-0.0642),
        evidence=replace(report.saddle.evidence, hurried_run=hurried),
    )
    text = " ".join(shown(replace(report, saddle=saddle)).split())
    assert "curvature along it -0.064 over all examples" in text
    above, below = "100 steps lower the loss by", "140 steps in a hurry lower the loss by 0.00210 ["
    assert text.index(above) < text.index(below)


def test_every_pair_has_the_steps_that_it_takes_to_leave_and_the_column_says_what_they_are() -> None:
    text = shown(curved.at_a_saddle())
    assert re.search(r"▸ +32 .* 970 ", text) and re.search(r" 128 .* 540 .* balanced\n", text)
    assert "Steps to escape (predicted): until 5 % is off the loss in half of such runs." in " ".join(
        text.split()
    )
    assert "about 540 steps to leave the saddle, 970 with today's pair\n" in text
    assert "escape" in render(curved.at_a_saddle(), "text", width=40)


def test_where_no_pair_is_recommended_the_steps_stand_with_the_saddle() -> None:
    assert "about 1,100 steps until 5 % is off the loss, predicted\n" in shown(curved.perhaps_at_a_saddle())
    assert "1,100 steps until" not in shown(curved.at_a_saddle())


def test_the_curvature_of_the_way_out_is_not_printed_again_where_it_is_the_smallest_eigenvalue() -> None:
    text = shown(curved.perhaps_at_a_saddle())
    assert text.count("-1.216 [") == 1 and "curvature along it" not in text


def test_no_saddle_is_said_with_the_geometry_that_it_holds_in() -> None:
    assert "none: no direction of certified negative curvature\n" in shown(curved.little_measured())
    report = curved.no_saddle()
    nothing = curved.verdict("none", "no direction of certified negative curvature")
    text = " ".join(shown(replace(report, saddle=nothing)).split())
    assert "saddle none: no direction of certified negative curvature in AdamW's geometry" in text


def test_a_saddle_that_is_neither_seen_nor_excluded_says_why_in_its_finding_alone() -> None:
    text = shown(curved.unresolved())
    assert "saddle          neither seen nor excluded\n" in text
    assert text.count("certif") == 1


# --- the stream ---------------------------------------------------------------------------------


@every_sample
def test_a_stream_without_unicode_gets_ascii_only(build: Callable[[], Report]) -> None:
    assert render(build(), "text", unicode=False).isascii()


def test_in_ascii_the_signs_become_words() -> None:
    text = render(contract_report(), "text", unicode=False)
    assert "lr = 1.9e-3   (1.2e-3 .. 3.0e-3, 80 %)" in text
    assert "  >     32    1.0e-3" in text
    assert "?" not in text


def test_colour_is_used_only_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    colored, plain = (render(contract_report(), "text", color=color) for color in (True, False))
    assert "\x1b[1;32mTry" in colored
    assert "\x1b" not in plain


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "32mTry" not in render(contract_report(), "text", color=True)


def test_a_name_cannot_send_control_codes_to_the_terminal() -> None:
    assert "\x1b" in sample.hostile_names().target.model
    assert "\x1b" not in render(sample.hostile_names(), "text")


@every_sample
def test_no_line_ends_in_blanks(build: Callable[[], Report]) -> None:
    assert not re.search(r" \n", render(build(), "text"))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="no format 'html'; there are text, json, yaml, markdown"):
        render(contract_report(), "html")


def test_no_blank_line_stands_where_nothing_is_to_be_said_of_today() -> None:
    lines = render(sample.keep(), "text", width=28).splitlines()
    below = next(index for index, line in enumerate(lines) if "Keep" in line)
    assert lines[below + 1].startswith("        within")


@pytest.mark.parametrize("format", FORMATS)
def test_a_saved_report_is_shown_without_loading_torch(format: str, tmp_path: Path) -> None:
    saved = tmp_path / "report.json"
    saved.write_text(to_json(contract_report()), encoding="utf-8")
    program = (
        "import sys, pathlib; from bsadvisor.report import from_json, render\n"
        "render(from_json(pathlib.Path(sys.argv[1]).read_text(encoding='utf-8')), sys.argv[2])\n"
        "print(*{'torch', 'numpy', 'scipy'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program, str(saved), format]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == ""


def test_the_formats_are_known_before_anything_heavy_is_loaded() -> None:
    program = (
        "import sys; from bsadvisor.report import FORMATS\n"
        "print(*{'rich', 'pydantic', 'yaml', 'torch'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == ""


def shown(report: Report) -> str:
    """In the terminal, at eighty columns."""
    return render(report, "text")
