"""The answer of `bsadvisor scale`: from what was typed and what a saved report knows; loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bsadvisor import __version__
from bsadvisor.advise.pairs import PairInUse
from bsadvisor.advise.rules import NoiseScales, Rung, judge_rules
from bsadvisor.advise.scale import recommend_at
from bsadvisor.advise.scale_notes import notes_on
from bsadvisor.advise.update_rule import limit_by_batch_size, update_rule
from bsadvisor.errors import UsageError
from bsadvisor.settings import ScaleRequest
from bsadvisor.target.optimizer_families import default_details, family_of
from bsadvisor.values import SCHEMA_VERSION, OptimizerDetails, Recommendation, Report, ScaleAdvice


def answer(request: ScaleRequest, report: Report | None) -> ScaleAdvice:
    """Recommend a learning rate, and compare every named rule with it."""
    question, asked = _Question.of(request, report), request.to_batch_size
    pair, noise = question.pair, question.noise
    limit = question.limit(asked)
    best = recommend_at(asked, pair, noise, limit=limit, measured=question.measured(asked))
    rung = Rung(batch_size=asked, factor=best.learning_rate / question.learning_rate, limit=limit)
    return ScaleAdvice(
        schema_version=SCHEMA_VERSION,
        bsadvisor_version=__version__,
        command="scale",
        optimizer=question.optimizer,
        optimizer_details=question.details,
        from_batch_size=question.batch_size,
        from_learning_rate=question.learning_rate,
        noise_scale=noise.own,
        regime=noise.regime(*sorted((asked, question.batch_size))),
        recommended=best,
        scaling_rules=judge_rules(pair, noise, [rung]),
        notes=tuple(notes_on(request, report, question.optimizer, question.details, pair, noise)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """Where to start from, as flags or else the report say."""

    batch_size: int
    learning_rate: float
    optimizer: str
    details: OptimizerDetails
    report: Report | None

    @classmethod
    def of(cls, request: ScaleRequest, report: Report | None) -> _Question:
        about = report.target if report else None
        batch_size, learning_rate = request.from_batch_size, request.from_learning_rate
        if batch_size is None and learning_rate is None and about is not None:
            batch_size, learning_rate = about.batch_size, about.learning_rate
        optimizer = request.optimizer or (about.optimizer if about else None)
        if batch_size is None:
            raise _missing("batch size", "--from-batch 256")
        if learning_rate is None:
            raise _missing("learning rate", "--from-lr 3e-4")
        if optimizer is None:
            raise _missing("optimizer", "--optimizer adamw")
        name = optimizer.lower()
        return cls(
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer=name,
            details=_details(name, request, report),
            report=report,
        )

    @property
    def pair(self) -> PairInUse:
        return PairInUse(batch_size=self.batch_size, learning_rate=self.learning_rate, optimizer=self.details)

    @property
    def noise(self) -> NoiseScales:
        """In the optimizer's geometry only where the report was made with such an optimizer."""
        if self.report is None:
            return NoiseScales()
        gradient = self.report.gradient
        own = gradient.own_noise_scale if self._is_of_the_family() else gradient.noise_scale_simple
        return NoiseScales(own=own, by_curvature=gradient.noise_scale)

    def limit(self, batch_size: int) -> float | None:
        """The stability limit, where the report measured it with this very optimizer."""
        if self.report is None or _name(self.report) != self.optimizer:
            return None
        return limit_by_batch_size(self.report.curvature, update_rule(self.details))(batch_size)

    def measured(self, batch_size: int) -> Recommendation | None:
        if self.report is None or not self._is_of_the_family():
            return None
        rows = (row for row in self.report.recommendations if row.basis == "measured")
        return next((row for row in rows if row.batch_size == batch_size), None)

    def _is_of_the_family(self) -> bool:
        if self.report is None:
            return False
        about = self.report.target.optimizer_details
        known = about.family if about else family_of(_name(self.report))
        return known == self.details.family


def _missing(what: str, flag: str) -> UsageError:
    """A pair comes whole from the flags or whole from the report."""
    return UsageError(
        f"no {what} to start from", f"add {flag}, or give neither half of the pair but --report REPORT.json"
    )


def _name(report: Report) -> str | None:
    return report.target.optimizer.lower() if report.target.optimizer else None


def _details(name: str, request: ScaleRequest, report: Report | None) -> OptimizerDetails:
    """Of the report's optimizer where it is the same, else PyTorch's own settings; flags come first."""
    found = report.target.optimizer_details if report is not None and _name(report) == name else None
    details = found or default_details(name)
    if request.betas is not None:
        details = replace(details, betas=request.betas)
    return details if request.weight_decay is None else replace(details, weight_decay=request.weight_decay)
