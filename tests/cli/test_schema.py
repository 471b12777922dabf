"""The JSON Schema, printed."""

from __future__ import annotations

import json

import jsonschema

from bsadvisor import report as reports
from tests.cli.conftest import Run
from tests.report.sample import contract_report


def test_the_printed_schema_accepts_a_report_and_refuses_another_thing(run: Run) -> None:
    finished = run("schema")
    schema = jsonschema.Draft202012Validator(json.loads(finished.out))
    assert finished.code == 0
    assert schema.is_valid(json.loads(reports.to_json(contract_report())))
    assert not schema.is_valid({})
