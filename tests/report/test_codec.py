"""A saved report is read back as it was, or refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import jsonschema
import pytest
import yaml
from hypothesis import given, settings

from bsadvisor.report import ReportError, from_json, render, to_json
from bsadvisor.values import Finding, Report
from tests.report.anything import REPORTS
from tests.report.curved import at_a_saddle
from tests.report.sample import contract_report, extreme
from tests.report.samples import SAMPLES
from tests.report.valid import SCHEMA, validate


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_a_report_comes_back_exactly_from_json(sample: Callable[[], Report]) -> None:
    assert from_json(to_json(sample())) == sample()


@settings(max_examples=25, deadline=None)
@given(REPORTS)
def test_any_report_is_valid_json_that_comes_back_exactly(report: Report) -> None:
    text = to_json(report)
    assert from_json(text) == report
    validate(json.loads(text))


def test_the_keys_are_the_fields_in_their_order() -> None:
    data = json.loads(to_json(contract_report()))
    assert list(data) == list(Report.__dataclass_fields__)
    assert data["predicted_critical_batch_size"]["band_high"] == 760.0


def test_what_was_not_measured_is_null_and_not_missing() -> None:
    assert '\n  "curvature": null,' in to_json(contract_report())


def test_a_row_of_the_gram_matrix_takes_one_line() -> None:
    assert "\n        [6400.25, 6256.6],\n" in to_json(contract_report())


def test_a_report_ends_with_one_newline() -> None:
    assert to_json(contract_report()).endswith("}\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_never_written(number: float) -> None:
    report = contract_report()
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(replace(report, probe=replace(report.probe, seconds=number)))


def test_yaml_holds_the_data_of_the_json() -> None:
    assert yaml.safe_load(render(extreme(), "yaml")) == json.loads(render(extreme(), "json"))


# --- damaged, foreign and newer files -----------------------------------------------------------


@pytest.mark.parametrize(
    ("original", "damaged", "reason"),
    [
        ('"model": "demo/model.py"', '"model": 3', r"^target\.model: input should be a valid string$"),
        ('"examples": 1024', '"examples": 1024.5', r"^probe\.examples: input should be a valid integer"),
        ('"examples": 1024', '"examples": "1024"', r"^probe\.examples: input should be a valid integer"),
        (
            '"stopped_by": "precision"',
            '"stopped_by": "luck"',
            r"^probe\.stopped_by: input should be 'precision'",
        ),
        ('"seed": 0', '"seed": 0, "sead": 0', r"^probe\.sead: unexpected keyword argument$"),
        ('"rule": "(B / B0)^0.45"', '"rule": null', r"^recommendations\.0\.rule: "),
        ('"confidence": 0.95', '"confidence": NaN', r"^a report holds finite numbers only, not NaN$"),
        ('"confidence": 0.95', '"confidence": 1e999', r"^a report holds finite numbers only, not 1e999$"),
        ('"schema_version": 1', '"schema_version": 2', r"^the report has schema_version 2; .* reads 1$"),
        ('"schema_version": 1', '"schema_version": "1"', r"no schema_version$"),
        ('"verdict": "warning"', '"verdict": "surely"', r"^saddle\.verdict: input should be 'none'"),
        ('"method": "exact"', '"method": "guessed"', r"^curvature\.method: input should be 'exact'"),
        ('"kicked_loss_drop"', '"kicked"', r"^saddle\.evidence\.short_run\."),
        ('"skipped": []', '"skipped": [{"part": "B_noise"}]', r"^curvature\.skipped\.0\.seconds: "),
    ],
)
def test_a_changed_report_is_refused_with_the_place(original: str, damaged: str, reason: str) -> None:
    text = to_json(at_a_saddle())
    assert original in text
    with pytest.raises(ReportError, match=reason):
        from_json(text.replace(original, damaged, 1))


def test_a_file_cut_short_is_refused_with_the_line() -> None:
    text = to_json(contract_report())
    with pytest.raises(ReportError, match=r"^not JSON, or cut short: .* at line 17"):
        from_json(text[:500])


@pytest.mark.parametrize("text", ["null", "[]", "3", "{}"])
def test_other_json_is_not_a_report(text: str) -> None:
    with pytest.raises(ReportError, match=r"^not a bsadvisor report"):
        from_json(text)


def test_the_reason_takes_one_line() -> None:
    text = to_json(contract_report()).replace('"value"', '"valve"')
    with pytest.raises(ReportError, match=r"\(and \d+ more\)$") as refused:
        from_json(text)
    assert "\n" not in str(refused.value)


# --- the schema ---------------------------------------------------------------------------------


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_schema_explains_a_field_by_its_docstring() -> None:
    about = SCHEMA["$defs"]["GradientStats"]["properties"]["squared_norm"]
    assert about["description"] == "|G|^2, unbiased, so it can be negative."


def test_the_schema_explains_curvature_and_saddle() -> None:
    for name, field, about in [
        ("CurvatureStats", "trace", "tr(H), or tr(D H) with an adaptive optimizer."),
        ("SaddleVerdict", "examples_needed", "Where the sample was too small for a certificate."),
        ("EscapeDirection", "lowest_at", "x, with its sign, of the lowest loss that was tried."),
        (
            "Recommendation",
            "escape_steps",
            "Steps to leave the saddle with this pair; null where there is none.",
        ),
    ]:
        assert SCHEMA["$defs"][name]["properties"][field]["description"] == about
    validate(json.loads(to_json(at_a_saddle())))


@pytest.mark.parametrize("damage", ["missing", "unknown", "wrong type"])
def test_the_schema_refuses_what_is_not_a_report(damage: str) -> None:
    data = json.loads(to_json(contract_report()))
    if damage == "missing":
        del data["curvature"]
    elif damage == "unknown":
        data["probe"]["sead"] = 0
    else:
        data["target"]["anchor"] = "flags"
    with pytest.raises(jsonschema.ValidationError):
        validate(data)


def test_evidence_may_hold_any_json() -> None:
    finding = Finding(code="BSA1", severity="note", message="", remedy="", evidence={"at": [1, {"of": None}]})
    report = replace(contract_report(), findings=(finding,))
    assert from_json(to_json(report)) == report
