"""Reports of any content that the types allow, for Hypothesis."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from bsadvisor.values import SCHEMA_VERSION, Report

FINITE = st.floats(allow_nan=False, allow_infinity=False)

SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(min_value=1, max_value=10**9),
    float: FINITE,
    str: st.text(max_size=12),
    NoneType: st.none(),
    Any: st.none() | st.integers() | FINITE | st.text(max_size=12),
}


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that `values` uses, every field of a dataclass filled."""
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        return st.builds(hint, **{field.name: of_type(hints[field.name]) for field in fields(hint)})
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return st.sampled_from(arguments)
    if get_origin(hint) in (Union, UnionType):
        return st.one_of(*map(of_type, arguments))
    if get_origin(hint) is dict:
        return st.dictionaries(*map(of_type, arguments), max_size=3)
    if get_origin(hint) is tuple and arguments[-1] is Ellipsis:
        return st.lists(of_type(arguments[0]), max_size=3).map(tuple)
    if get_origin(hint) is tuple:
        return st.tuples(*map(of_type, arguments))
    return SCALARS[hint]


REPORTS: st.SearchStrategy[Report] = of_type(Report).map(
    lambda report: replace(report, schema_version=SCHEMA_VERSION)
)
