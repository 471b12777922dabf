"""All saddle cases: those to tune a rule on (`design`), and those that judge it (`test`, and `fresh`).

They share no seed and no call that makes data; digits and families of nets are in all. Nobody looks at a
split that judges while tuning; `test` has judged several rules, `fresh` was written before the latest.

A slow plain descent with some negative curvature fulfils the definition of a true saddle in truth.py,
too: of the runs meant as ordinary, five did at first. Their batch or rate was changed until their
loss moved by 5 % within 100 steps; no case was dropped for what a tool says of it.
"""

from __future__ import annotations

from dataclasses import replace

from tests.benchmarks.saddles import (
    design_ordinary,
    design_saddles,
    fresh_ordinary,
    fresh_saddles,
    held_out_ordinary,
    held_out_saddles,
)
from tests.benchmarks.saddles.problem import Case

SPLITS = ("design", "test", "fresh")

CASES: tuple[Case, ...] = (
    *design_saddles.CASES,
    *design_ordinary.CASES,
    *(replace(case, split="test") for case in (*held_out_saddles.CASES, *held_out_ordinary.CASES)),
    *(replace(case, split="fresh") for case in (*fresh_saddles.CASES, *fresh_ordinary.CASES)),
)


def named(*words: str) -> list[Case]:
    """Those with any of the words in their name, or as their family or split."""
    return [
        case
        for case in CASES
        if any(word in case.name or word in (case.family, case.split) for word in words)
    ]
