"""Losses of a run's checkpoints, on the same examples for all, and at the average of the last ones' weights."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from bsadvisor.measure.heldout_loss import JudgedOn, MeanLoss, Mode, heldout_sampler, mean_loss
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.weight_mean import WeightMean
from bsadvisor.pipeline import Probed
from bsadvisor.settings import ProbeSettings
from bsadvisor.target.survey import Survey
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


class LateWeights:
    """The last checkpoints of a run, taken up in order, and the average of their weights."""

    def __init__(self, found: Survey) -> None:
        last = found.checkpoints[-1].step
        late = [one for one in found.checkpoints if one.step >= LATE * last]
        known = found.step_from != "order" and len(late) >= FEWEST
        self._steps = {one.path: one.step for one in late} if known else {}
        self._mean = WeightMean()
        self._losses: list[float] = []

    def take(self, path: str, judge: Judge, *, known: MeanLoss | None) -> None:
        """A checkpoint, if it is one of the last.

        Args:
            known: its loss in evaluation mode, on the examples that the judge judges a run by.
        """
        if path not in self._steps:
            return
        loss = known if judge.mode == "eval" else judge.loss(judge.loss_of, judge.mode)
        if loss is not None and loss.loss.value is not None and loss.mode == judge.mode:
            self._losses.append(loss.loss.value)
            self._mean.add(judge.probed.target.parameters)

    def average(self, judge: Judge) -> WeightAverage | None:
        """None unless all of the last ones were taken, the judge's at the end."""
        if not self._losses or len(self._losses) < len(self._steps):
            return None
        with self._mean.in_place_of(judge.probed.target.parameters):
            found = judge.loss(judge.loss_of, judge.mode)
        if found is None or found.loss.value is None:
            return None
        return WeightAverage(
            checkpoints=len(self._losses),
            from_step=min(self._steps.values()),
            loss=found.loss.value,
            mean_loss=fmean(self._losses),
            loss_of=judge.loss_of,
            mode=judge.mode,
        )
