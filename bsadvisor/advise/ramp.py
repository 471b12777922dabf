"""A batch-size ramp for a run of the same length, from how its noise scale grew.

What noise does to the loss late in a run depends on eta / B (eta / sqrt(B) for Adam, whose steps are
divided by the size of the gradient). Growing B does to it what decaying eta does, in fewer steps: so the
ramp has the noise of a learning rate that falls linearly to zero, in doublings at 1/2, 3/4 and 7/8 of
the examples, as many of them as the noise scale has grown by.

Source: Smith et al. 2018 (Don't Decay the Learning Rate, Increase the Batch Size); McCandlish et al. 2018,
appendix D, for the batch size that follows the noise scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bsadvisor.advise.pairs import PairInUse, betas_at
from bsadvisor.values import NoiseTrend, RampStage, RampSummary

MOST_DOUBLINGS = 3
"""Beyond, hardly any of the run is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """What is advised, or why nothing is."""

    stages: tuple[RampStage, ...] = ()
    summary: RampSummary | None = None
    reason: str


def advise_ramp(
    pair: PairInUse, trends: Sequence[NoiseTrend], *, last_step: int | None, dataset_size: int | None
) -> Ramp:
    """A ramp where the noise scale has certainly grown, else the reason why there is none.

    Args:
        pair: in use during the run.
        trends: of its noise scale.
        last_step: of its last checkpoint, at which the run is taken to end; None: steps are not known.
        dataset_size: no batch is larger.
    """
    base = pair.batch_size
    if base is None:
        return Ramp(reason="no batch size in use was found")
    if not last_step:
        return Ramp(reason="the steps of the checkpoints are not known")
    trend = next((found for found in trends if found.against == "step"), None)
    if trend is None:
        return Ramp(reason="too few checkpoints for a trend")
    if trend.verdict != "grows":
        whether = "falls" if trend.verdict == "falls" else "cannot be told to grow"
        return Ramp(reason=f"the noise scale {whether} over these checkpoints")
    doublings = _doublings(base, trend, dataset_size)
    if not doublings:
        return Ramp(reason="no larger batch size is within the noise scale and the data set")
    examples = base * last_step
    stages = _stages(pair, base, examples, doublings)
    steps = _steps(stages, examples)
    return Ramp(
        stages=stages,
        summary=RampSummary(
            examples=examples, steps=steps, steps_now=last_step, mean_batch_size=examples / steps
        ),
        reason="the noise scale grows over these checkpoints",
    )


def noise_factor(batch_factor: float, pair: PairInUse) -> float:
    """The learning rate at the old batch size that has the noise of this many times the batch size."""
    return float(batch_factor ** (-0.5 if pair.family == "adam" else -1.0))


def _doublings(base: int, trend: NoiseTrend, dataset_size: int | None) -> int:
    grown = round(math.log2(trend.growth.value or 1.0))
    largest = min(trend.last, dataset_size or math.inf)
    return max(0, min(MOST_DOUBLINGS, max(grown, 1), math.floor(math.log2(max(largest / base, 1.0)))))


def _stages(pair: PairInUse, base: int, examples: int, doublings: int) -> tuple[RampStage, ...]:
    """Each begins at a whole step, at or after its share of the examples."""
    stages: list[RampStage] = []
    step = example = 0
    for index in range(doublings + 1):
        begins = examples * (1 - 0.5**index)
        if stages:
            more = math.ceil((begins - example) / stages[-1].batch_size)
            step, example = step + more, example + more * stages[-1].batch_size
        batch_size = base * 2**index
        stages.append(
            RampStage(
                from_step=step,
                batch_size=batch_size,
                learning_rate_factor=1.0,
                learning_rate=pair.learning_rate,
                adam_betas=betas_at(batch_size, pair),
                from_example=example,
                decay_from_step=round(example / base),
                decay_factor=noise_factor(batch_size / base, pair),
            )
        )
    return tuple(stages)


def _steps(stages: Sequence[RampStage], examples: int) -> int:
    last = stages[-1]
    return last.from_step + math.ceil((examples - last.from_example) / last.batch_size)
