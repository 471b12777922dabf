"""Losses of a run's checkpoints, on the same examples for all, and at the average of the last ones' weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from bsadvisor.errors import CheckpointError
from bsadvisor.measure.heldout_loss import JudgedOn, MeanLoss, Mode, heldout_sampler, mean_loss
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.weight_mean import WeightMean
from bsadvisor.pipeline import Probed
from bsadvisor.settings import ProbeSettings
from bsadvisor.target.checkpoint import load_weights, read_checkpoint
from bsadvisor.target.survey import Survey, Surveyed
from bsadvisor.values import LossSource, WeightAverage

LATE = 0.5
"""Share of the run's steps from which on its weights are averaged."""

FEWEST = 3
"""Checkpoints of which an average is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Measures losses at the weights that a target has now."""

    probed: Probed
    settings: ProbeSettings

    @property
    def loss_of(self) -> LossSource:
        """The examples to judge a run by."""
        return "heldout" if self.probed.target.heldout else "train"

    @property
    def mode(self) -> Mode:
        """In which averaged weights can be judged: with BatchNorm, by the statistics of the batch."""
        return "train" if self.probed.assumptions.coupling == "batch_norm" else "eval"

    def loss(self, of: LossSource, mode: Mode = "eval") -> MeanLoss | None:
        """None where there are no such examples; a stream is spent by now."""
        sampler = self._sampler(of)
        if sampler is None:
            return None
        facts = self.probed.assumptions
        on = JudgedOn(
            sampler=sampler,
            micro_batch=self.probed.report.probe.micro_batch_size,
            confidence=self.settings.confidence,
            seed=self.settings.seed,
            reduction=facts.loss_reduction,
            couples=facts.coupling != "none",
        )
        return mean_loss(self.probed.target, on, mode=mode)

    def _sampler(self, of: LossSource) -> Sampler | None:
        target, seed = self.probed.target, self.settings.seed
        if of == "heldout":
            return heldout_sampler(target.heldout.source, seed=seed) if target.heldout else None
        return Sampler(target.data, seed=seed) if target.data.size is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class LateLoss:
    """Of one of the run's last checkpoints, by which the average of their weights is judged."""

    value: float
    average: float | None
    """At the average of all their weights; of the very last checkpoint only."""
    loss_of: LossSource
    mode: Mode


def late_checkpoints(found: Survey) -> tuple[Surveyed, ...]:
    """Those whose weights are averaged; none where they are too few or in an order that nobody knows."""
    last = found.checkpoints[-1].step
    late = tuple(one for one in found.checkpoints if one.step >= LATE * last)
    return late if found.step_from != "order" and len(late) >= FEWEST else ()


def late_loss(
    surveyed: Surveyed, late: Sequence[Surveyed], judge: Judge, *, known: MeanLoss | None, trust: bool
) -> LateLoss | None:
    """None of a checkpoint that is not one of the last, or that cannot be judged.

    Args:
        surveyed: whose weights the judge's target has.
        late: of `late_checkpoints`.
        known: its loss in evaluation mode, on the examples that the judge judges a run by.
        trust: whether checkpoints may run code.
    """
    if surveyed not in late:
        return None
    loss = known if judge.mode == "eval" else judge.loss(judge.loss_of, judge.mode)
    if loss is None or loss.loss.value is None or loss.mode != judge.mode:
        return None
    return LateLoss(
        value=loss.loss.value,
        average=_at_average(late, judge, trust=trust) if surveyed == late[-1] else None,
        loss_of=judge.loss_of,
        mode=judge.mode,
    )


def _at_average(late: Sequence[Surveyed], judge: Judge, *, trust: bool) -> float | None:
    """The loss with the weights of all of them averaged; None where a file has changed since the survey."""
    target, mean = judge.probed.target, WeightMean()
    for one in late:  # the target's own last, so that nothing of the others stays in its buffers
        try:
            checkpoint = read_checkpoint(Path(one.path), trust=trust)
        except CheckpointError:
            return None
        if checkpoint.sha256 != one.sha256:
            return None
        load_weights(target.model, checkpoint)
        mean.add(target.parameters)
    with mean.in_place_of(target.parameters):
        found = judge.loss(judge.loss_of, judge.mode)
    return found.loss.value if found else None


def weight_average(late: Sequence[Surveyed], losses: Sequence[LateLoss]) -> WeightAverage | None:
    """None unless all of the last ones were judged.

    Args:
        losses: of those that were, in their order.
    """
    if not losses or len(losses) < len(late) or losses[-1].average is None:
        return None
    return WeightAverage(
        checkpoints=len(losses),
        from_step=late[0].step,
        loss=losses[-1].average,
        mean_loss=fmean(loss.value for loss in losses),
        loss_of=losses[-1].loss_of,
        mode=losses[-1].mode,
    )
