"""The kinds of values that `bsadvisor.yaml` holds."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bsadvisor.settings import LARGEST_BATCH


def _number_from_text(value: Any) -> Any:
    """YAML 1.1 reads `3e-4`, without a dot, as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Number = Annotated[float, BeforeValidator(_number_from_text), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Count = Annotated[int, Field(ge=1, le=LARGEST_BATCH)]


class Section(BaseModel):
    """Keys that are known, with values of their types, and nothing else."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
