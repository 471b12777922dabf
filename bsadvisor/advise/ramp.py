"""A batch-size ramp for a run of the same number of examples, where it is expected to end lower.

Growing B does to the noise in the weights what decaying eta does, in fewer steps. The ramp has the noise
of a learning rate that falls linearly to zero: its doublings come at 1/2, 3/4 and 7/8 of the examples. A
ramp that follows B_simple itself, from early on, ended no lower than a constant batch size on the tasks it
was tried on; what decides is how much of the loss is noise (`theory.annealing`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bsadvisor.advise.pairs import PairInUse, betas_at
from bsadvisor.advise.update_rule import update_rule
from bsadvisor.theory import annealing
from bsadvisor.values import (
    Estimate,
    LossSource,
    NoiseSource,
    NoiseTrend,
    RampStage,
    RampSummary,
    TrackedCheckpoint,
    WeightAverage,
)

MOST_DOUBLINGS = 3
"""Beyond, hardly any of the run is left."""

CONFIDENCE = 0.8
"""Of the predicted change of the loss, like the bands of other predictions."""

SAME_RATE = 1.1
"""Learning rates of checkpoints within this factor are one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """What is advised, or why nothing is."""

    stages: tuple[RampStage, ...] = ()
    summary: RampSummary | None = None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The run that the checkpoints are of."""

    pair: PairInUse
    checkpoints: Sequence[TrackedCheckpoint]
    trends: Sequence[NoiseTrend]
    weight_average: WeightAverage | None
    dataset_size: int | None

    @property
    def loss_of(self) -> LossSource:
        """What a ramp is judged by: the held-out loss where every checkpoint has one."""
        return "heldout" if all(one.heldout_loss for one in self.checkpoints) else "train"

    @property
    def last_step(self) -> int | None:
        """At which the run is taken to end; None where steps are not known."""
        last = self.checkpoints[-1]
        return None if last.step_from == "order" else last.step

    @property
    def trend(self) -> NoiseTrend | None:
        return next((found for found in self.trends if found.against == "step"), None)

    @property
    def rate_changes(self) -> bool:
        rates = [one.learning_rate for one in self.checkpoints if one.learning_rate]
        return bool(rates) and max(rates) > SAME_RATE * min(rates)


def advise_ramp(run: Run) -> Ramp:
    """A ramp where it is expected to end lower, at the unfavourable end of what is known of the slope."""
    base, last_step, trend = run.pair.batch_size, run.last_step, run.trend
    if base is None:
        return Ramp(reason="no batch size in use was found")
    if not last_step:
        return Ramp(reason="the steps of the checkpoints are not known")
    if trend is None:
        return Ramp(reason="there are too few checkpoints for a trend")
    if trend.verdict == "falls":
        return Ramp(reason="the noise scale falls over these checkpoints")
    if run.rate_changes:
        return Ramp(reason="the run's learning rate changes, which does what a ramp would")
    most = _most_doublings(base, run.dataset_size)
    if not most:
        return Ramp(reason="the data set holds no batch twice as large")
    slope = _slope(run)
    noise = _noise(run, slope) if slope else None
    if noise is None or slope is None:
        return Ramp(reason="learning rate or losses are not known well enough to tell what a ramp is worth")
    worth = Worth(noise=noise, noise_from=_noise_from(run), slope=slope, loss_of=run.loss_of)
    ramps = (
        ramp_with(run.pair, base, base * last_step, doublings, worth) for doublings in range(1, most + 1)
    )
    best = min(ramps, key=_change)
    return best if _change(best) < 0 else Ramp(summary=best.summary, reason=_why_not(best))


def _most_doublings(base: int, dataset_size: int | None) -> int:
    """As far as the data set goes; noise in the weights falls with B above the noise scale, too."""
    largest = dataset_size or math.inf
    return (
        MOST_DOUBLINGS
        if largest >= base * 2**MOST_DOUBLINGS
        else max(0, int(largest / base).bit_length() - 1)
    )


def _slope(run: Run) -> annealing.Slope | None:
    losses = [
        (one.step, one.heldout_loss if run.loss_of == "heldout" else one.loss) for one in run.checkpoints
    ]
    known = [(step, loss.value) for step, loss in losses if loss and loss.value]
    return annealing.loss_slope(
        [step for step, _ in known], [loss for _, loss in known], confidence=CONFIDENCE
    )


def _noise_from(run: Run) -> NoiseSource:
    """As measured, where it was: of the same examples as the slope."""
    averaged = run.weight_average
    return "averaged_weights" if averaged and averaged.loss_of == run.loss_of else "gradients"


def _noise(run: Run, slope: annealing.Slope) -> annealing.Noise | None:
    """Noise's share of the loss at the end."""
    averaged = run.weight_average
    if averaged is not None and _noise_from(run) == "averaged_weights":
        return annealing.averaged_noise_loss(
            averaged.mean_loss, averaged.loss, averaged.checkpoints, slope.scatter
        )
    rate, variance = run.pair.learning_rate, run.checkpoints[-1].update_variance
    rule = update_rule(run.pair.optimizer)
    if rate is None or variance is None or rule is None:
        return None
    return annealing.Noise(value=annealing.noise_loss(variance, rate, rule.amplification))


def _change(ramp: Ramp) -> float:
    """Of the loss, at the unfavourable end."""
    assert ramp.summary is not None and ramp.summary.loss_change.high is not None
    return ramp.summary.loss_change.high


def _why_not(best: Ramp) -> str:
    assert best.summary is not None and best.summary.loss_change.low is not None
    if best.summary.loss_change.low >= 0:
        return "the run is held up more by its number of steps than by noise"
    return "it cannot be told whether it would end lower"


# --- the ramp -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What less noise and fewer steps do to the loss."""

    noise: annealing.Noise
    noise_from: NoiseSource
    slope: annealing.Slope
    loss_of: LossSource


def ramp_with(pair: PairInUse, base: int, examples: int, doublings: int, worth: Worth) -> Ramp:
    """A ramp of so many doublings, with what it is expected to be worth."""
    stages = _stages(pair, base, examples, doublings)
    steps = _steps(stages, examples)
    value, low, high = annealing.loss_change(
        worth.noise,
        worth.slope,
        noise_left=noise_factor(2.0**doublings, pair),
        progress_left=_progress(stages, examples, pair) / (examples / base),
        confidence=CONFIDENCE,
    )
    return Ramp(
        stages=stages,
        summary=RampSummary(
            examples=examples,
            steps=steps,
            steps_now=math.ceil(examples / base),
            mean_batch_size=examples / steps,
            noise_loss=worth.noise.value,
            noise_from=worth.noise_from,
            loss_of=worth.loss_of,
            loss_change=Estimate(value=value, low=low, high=high, confidence=CONFIDENCE),
        ),
        reason="part of the loss is noise that larger batches late in the run average away",
    )


def noise_factor(batch_factor: float, pair: PairInUse) -> float:
    """Noise with this many times the batch size; and the factor of the learning rate that does the same.

    Adam divides by the size of the gradient, which is mostly noise and falls as the root of B.
    """
    return float(batch_factor ** (-0.5 if pair.family == "adam" else -1.0))


def _stages(pair: PairInUse, base: int, examples: int, doublings: int) -> tuple[RampStage, ...]:
    """Each begins at a whole step, at or after its share of the examples."""
    stages: list[RampStage] = []
    step = example = 0
    for index in range(doublings + 1):
        if stages:
            more = math.ceil((examples * (1 - 0.5**index) - example) / stages[-1].batch_size)
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


def _progress(stages: Sequence[RampStage], examples: int, pair: PairInUse) -> float:
    """Steps, those of Adam counted as sqrt(B) times as long."""
    ends = [*(stage.from_example for stage in stages[1:]), examples]
    base = stages[0].batch_size
    return sum(
        (end - stage.from_example) / base * noise_factor(stage.batch_size / base, pair)
        for stage, end in zip(stages, ends, strict=True)
    )
