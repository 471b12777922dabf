"""The schema as a validator that is made once: `jsonschema.validate` would check the schema itself every time."""

from __future__ import annotations

from typing import Any

import jsonschema

from bsadvisor.report import schema

SCHEMA = schema()

_VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def validate(data: Any) -> None:
    """Raises `jsonschema.ValidationError` where the data is not what the schema says."""
    _VALIDATOR.validate(data)
