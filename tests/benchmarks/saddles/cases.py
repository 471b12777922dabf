"""All saddle cases: those to tune a rule on, and those that judge it.

They share no seed and no call that makes data; digits and families of nets are in all. `design` and
`drawn` are to tune on; `test` and `fresh` have judged earlier rules and are looked at since. `sealed`
judges: its cases are drawn by number (draws.py), as those of `drawn` are, and nobody looks at them.

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
from tests.benchmarks.saddles.drawn_ordinary import ordinary
from tests.benchmarks.saddles.drawn_saddles import saddle
from tests.benchmarks.saddles.problem import Case, Split

SPLITS: tuple[Split, ...] = ("design", "test", "fresh", "drawn", "sealed")

DRAWN = range(1000, 1036), (*range(2000, 2015), *range(5040, 5043))
SEALED = range(5000, 5040), range(5043, 5090)
"""Numbers of the candidate saddles, and of the ordinary checkpoints."""

DIVERGED = {5060}
"""Numbers whose training ends without a finite loss, which is no checkpoint."""

CASES: tuple[Case, ...] = (
    *design_saddles.CASES,
    *design_ordinary.CASES,
    *(replace(case, split="test") for case in (*held_out_saddles.CASES, *held_out_ordinary.CASES)),
    *(replace(case, split="fresh") for case in (*fresh_saddles.CASES, *fresh_ordinary.CASES)),
    *(saddle(number, "drawn") for number in DRAWN[0]),
    *(ordinary(number, "drawn") for number in DRAWN[1]),
    *(saddle(number, "sealed") for number in SEALED[0]),
    *(ordinary(number, "sealed") for number in SEALED[1] if number not in DIVERGED),
)


def named(*words: str) -> list[Case]:
    """Those with any of the words in their name, or as their family or split."""
    return [
        case
        for case in CASES
        if any(word in case.name or word in (case.family, case.split) for word in words)
    ]
