"""How the model does on what it was not trained on, and what each pair does to the temperature of the run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from bsadvisor.report import numbers
from bsadvisor.values import Estimate, Generalization, Recommendation

COLUMNS = 62
"""Of a line of pairs: what a terminal of 80 leaves beside the labels."""

_TIED = "\u00a0"
"""A blank at which no line is broken."""


def held_out_lines(found: Generalization, example: str) -> Iterator[str]:
    """The verdict, the losses behind it, and what the gradients say beside it."""
    level = numbers.percent(found.gap.confidence)
    yield f"{found.verdict or 'cannot be told'}: loss gap {numbers.interval(found.gap)} ({level})"
    held, train = numbers.interval(found.heldout_loss), numbers.interval(found.train_loss)
    yield f"loss {held} on {numbers.counted(found.heldout_examples, example)} held out"
    yield f"{train} on {numbers.integer(found.train_examples)} for training"
    if found.train_growth is not None and found.heldout_growth is not None:
        yield f"1 % larger weights add {numbers.interval(_per_percent(found.heldout_growth))} held out"
        yield f"and {numbers.interval(_per_percent(found.train_growth))} for training"
    if found.shrinking is not None:
        smaller, gains = numbers.share(1 - found.shrinking.factor), found.shrinking
        yield f"{smaller} smaller ones take {numbers.interval(gains.heldout_gain)} off it held out"
        yield f"and {numbers.interval(gains.train_gain)} for training"
    if found.alignment is not None and found.alignment.value is not None:
        yield f"gradients align by {numbers.interval(found.alignment)}, 1: fully"
    if found.self_share is not None and found.self_share.value is not None:
        yield f"own share of each {example} {numbers.interval(found.self_share)}"


def _per_percent(growth: Estimate) -> Estimate:
    """The change of the loss for weights that are larger by one per cent."""
    value, low, high = (None if one is None else one / 100 for one in (growth.value, growth.low, growth.high))
    return Estimate(value=value, low=low, high=high, confidence=growth.confidence)


def temperature_lines(pairs: Sequence[Recommendation], dataset_size: int | None) -> Iterator[str]:
    """Of every pair but today's, with the share of the data set that its batch is; no pair is torn apart."""

    def shown(pair: Recommendation, temperature: float) -> str:
        share = "" if dataset_size is None else f" ({numbers.share(pair.batch_size / dataset_size)})"
        return f"{numbers.factor(temperature)} at {numbers.integer(pair.batch_size)}{share}"

    known = [
        shown(pair, pair.relative_temperature).replace(" ", _TIED)
        for pair in pairs
        if pair.relative_temperature is not None and pair.relative_temperature != 1
    ]
    if known:
        yield f"η/B over today's{'' if dataset_size is None else ', and B as a share of the data set'}"
        for line in textwrap.wrap(", ".join(known), COLUMNS):
            yield line.removesuffix(",").replace(_TIED, " ")
