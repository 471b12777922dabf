"""The held-out phase: is the held-out data what it should be, and how do both losses and gradients compare?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bsadvisor.advise.generalization import is_above_zero
from bsadvisor.measure.alignment import gradient_alignment
from bsadvisor.measure.heldout_loss import (
    JudgedOn,
    LossGrowth,
    MeanLoss,
    Mode,
    difference,
    gain_of_shrinking,
    heldout_sampler,
    loss_growth,
    mean_loss,
)
from bsadvisor.measure.overlap import find_overlap
from bsadvisor.measure.sampler import Sampler
from bsadvisor.pipeline.gradient_phase import GradientPhase
from bsadvisor.pipeline.session import Session
from bsadvisor.target.heldout import HeldOut
from bsadvisor.values import Estimate, Generalization, HeldOutFacts, Progress, Shrinking

ALL_SHARED = 0.9
"""From this share on, held-out examples are the training data, and nothing is measured on them."""

SHARE_OF_TIME = 0.1
"""Of the time budget, for all of this."""

SIZES = (0.97, 0.94, 0.9, 0.85, 0.8, 0.7)
"""Of all weights, where they may have grown too large."""

SHARE_OF_LOOKING = 0.3
"""Of that, for looking held-out examples up in the training data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutPhase:
    """What it found; `stats` without a verdict, which is for `advise`."""

    facts: HeldOutFacts
    stats: Generalization | None


def measure_heldout(session: Session, gradient: GradientPhase) -> HeldOutPhase | None:
    """Losses, how they change as the weights grow, and gradients; None where there are no held-out examples.

    Raises:
        TargetError: the loss of held-out examples cannot be had.
    """
    heldout = session.target.heldout
    if heldout is None or session.stop.requested:
        return None
    session.progress(Progress(phase="held-out", done=0, total=None))
    began, budget = session.watch.seconds, SHARE_OF_TIME * session.watch.budget
    if heldout.shared is not None and heldout.shared >= ALL_SHARED:
        return HeldOutPhase(facts=HeldOutFacts(shared=heldout.shared), stats=None)
    sampler = heldout_sampler(heldout.source, seed=session.settings.seed)
    looking = began + SHARE_OF_LOOKING * budget
    facts = _compare(session, gradient.sampler, sampler, heldout, until=looking)
    if facts.shared >= ALL_SHARED:
        return HeldOutPhase(facts=facts, stats=None)
    return HeldOutPhase(facts=facts, stats=_measure(session, gradient, sampler, until=began + budget))


def _compare(
    session: Session, training: Sampler, sampler: Sampler, heldout: HeldOut, *, until: float
) -> HeldOutFacts:
    """By how both are put together, else by what they hold."""
    found = find_overlap(
        training,
        sampler,
        population=session.target.data.size,
        should_stop=lambda: session.is_over() or session.watch.seconds > until,
    )
    facts = HeldOutFacts(shared=heldout.shared or 0.0)
    if found is None or found.share <= facts.shared:
        return facts
    return replace(facts, shared=found.share, compared=found.heldout, looked_through=found.training)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judge:
    """Measures losses of either kind of examples, in one mode."""

    session: Session
    gradient: GradientPhase
    heldout: Sampler
    until: float

    @property
    def population(self) -> int | None:
        return self.session.target.data.size

    def is_over(self) -> bool:
        return self.session.is_over() or self.session.watch.seconds > self.until

    def on(self, sampler: Sampler, should_stop: Callable[[], bool]) -> JudgedOn:
        """The training set is finite; what held-out examples are drawn from is not."""
        return JudgedOn(
            sampler=sampler,
            micro_batch=self.gradient.probe.micro_batch,
            confidence=self.session.settings.confidence,
            seed=self.session.settings.seed,
            reduction=self.gradient.assumptions.loss_reduction,
            couples=self.gradient.couples,
            population=None if sampler is self.heldout else self.population,
            should_stop=should_stop,
        )

    def loss(self, sampler: Sampler, mode: Mode) -> MeanLoss | None:
        return mean_loss(self.session.target, self.on(sampler, self.session.is_over), mode=mode)

    def growth(self, sampler: Sampler, mode: Mode) -> LossGrowth | None:
        return loss_growth(self.session.target, self.on(sampler, self.is_over), mode=mode)

    def shrinking(self, mode: Mode) -> Shrinking | None:
        """Down the sizes until the held-out loss falls no further."""
        best: tuple[float, Estimate] | None = None
        for factor in SIZES:
            gain = self._gain(self.heldout, factor, mode)
            if gain is None or gain.value is None or (best and gain.value <= (best[1].value or 0.0)):
                break
            best = factor, gain
        train = self._gain(self.gradient.sampler, best[0], mode) if best else None
        if best is None or train is None:
            return None
        return Shrinking(factor=best[0], heldout_gain=best[1], train_gain=train)

    def _gain(self, sampler: Sampler, factor: float, mode: Mode) -> Estimate | None:
        on = self.on(sampler, self.is_over)
        return gain_of_shrinking(self.session.target, on, factor, mode=mode)


def _measure(
    session: Session, gradient: GradientPhase, sampler: Sampler, *, until: float
) -> Generalization | None:
    judge = _Judge(session=session, gradient=gradient, heldout=sampler, until=until)
    held = judge.loss(sampler, "eval")
    train = None if held is None else judge.loss(gradient.sampler, held.mode)
    if held is not None and train is not None and train.mode != held.mode:
        held = judge.loss(sampler, train.mode)
    if held is None or train is None:
        return None
    level = session.settings.confidence
    # BatchNorm undoes a growth of what comes before it only with the batch's own statistics.
    mode: Mode = "train" if gradient.assumptions.coupling == "batch_norm" else held.mode
    grown, learned = judge.growth(sampler, mode), judge.growth(gradient.sampler, mode)
    apart = difference(grown, learned, level) if grown and learned else None
    overgrown = grown is not None and is_above_zero(grown.slope) and is_above_zero(apart)
    return Generalization(
        train_loss=train.loss,
        heldout_loss=held.loss,
        gap=difference(held, train, level),
        alignment=gradient_alignment(
            gradient.probe,
            sampler,
            confidence=level,
            population=judge.population,
            time_left=lambda: min(session.watch.left(), until - session.watch.seconds),
            stop=lambda: session.stop.requested,
        ),
        self_share=_self_share(gradient.stats.noise_scale_training_set, judge.population),
        verdict=None,
        train_growth=learned.slope if learned else None,
        heldout_growth=grown.slope if grown else None,
        growth_gap=apart,
        shrinking=judge.shrinking(mode) if overgrown else None,
        train_examples=train.examples,
        heldout_examples=held.examples,
        mode=held.mode,
    )


def _self_share(noise_scale: Estimate | None, size: int | None) -> Estimate | None:
    """(T/N) / (U + T/N): the noise scale of the training set, T / (U + T/N), over its size."""
    if noise_scale is None or size is None:
        return None
    value, low, high = (
        None if one is None else one / size for one in (noise_scale.value, noise_scale.low, noise_scale.high)
    )
    return Estimate(value=value, low=low, high=high, confidence=noise_scale.confidence)
