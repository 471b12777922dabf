"""All saddle cases: those to tune a rule on (`design`), and those that judge it (`test`).

The two share no seed and no call that makes data; digits and families of nets are in both. Nobody looks at `test` while tuning.

A slow plain descent with some negative curvature fulfils the definition of a true saddle in truth.py,
too: of the runs meant as ordinary, five did at first. Their batch or rate was changed until their
loss moved by 5 % within 100 steps; no case was dropped for what a tool says of it.
"""

from __future__ import annotations

from dataclasses import replace

from tests.benchmarks.saddles import design_ordinary, design_saddles, held_out_ordinary, held_out_saddles
from tests.benchmarks.saddles.problem import Case

CASES: tuple[Case, ...] = (
    *design_saddles.CASES,
    *design_ordinary.CASES,
    *(replace(case, split="test") for case in (*held_out_saddles.CASES, *held_out_ordinary.CASES)),
)


def named(*words: str) -> list[Case]:
    """Those with any of the words in their name, or as their family or split."""
    return [
        case
        for case in CASES
        if any(word in case.name or word in (case.family, case.split) for word in words)
    ]
