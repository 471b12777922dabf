"""What to know about an answer of `bsadvisor scale`: one sentence each."""

from __future__ import annotations

from collections.abc import Iterator

from bsadvisor.advise.pairs import PairInUse
from bsadvisor.advise.rules import NoiseScales
from bsadvisor.settings import ScaleRequest
from bsadvisor.values import OptimizerDetails, Report


def notes_on(
    request: ScaleRequest,
    report: Report | None,
    optimizer: str,
    details: OptimizerDetails,
    pair: PairInUse,
    noise: NoiseScales,
) -> Iterator[str]:
    """What was assumed, what a report could not tell, and what it was made for."""
    if details.family == "other":
        yield f"{optimizer} is not known here: treated as Euclidean, like SGD"
    if request.to_batch_size == pair.batch_size:
        yield "both batch sizes are the same: there is nothing to change"
    yield from _on_defaults(request, report, optimizer, details)
    if report is None:
        yield "no noise scale: --report with the report of `bsadvisor probe` narrows the range"
        return
    yield from _on_noise(noise)
    yield from _on_other_optimizer(report, optimizer, details)
    yield from _on_other_pair(report, pair)
    size = report.target.dataset_size
    if size is not None and request.to_batch_size > size:
        yield f"B = {request.to_batch_size:,} is more than the {size:,} examples of the report's data set"


def _on_defaults(
    request: ScaleRequest, report: Report | None, optimizer: str, details: OptimizerDetails
) -> Iterator[str]:
    """What of the optimizer was taken from PyTorch, because nobody said otherwise."""
    if report is not None and report.target.optimizer and report.target.optimizer.lower() == optimizer:
        return
    assumed = []
    if request.betas is None and details.betas is not None:
        assumed.append("betas {:g} and {:g} (--betas)".format(*details.betas))
    if request.weight_decay is None and details.weight_decay:
        assumed.append(f"weight decay {details.weight_decay:g} (--weight-decay)")
    if assumed:
        yield f"assumed to start from, as {optimizer} has it in PyTorch: {', '.join(assumed)}"


def _on_noise(noise: NoiseScales) -> Iterator[str]:
    if noise.own is None:
        return
    if noise.value is not None:
        if noise.own.high is None:
            yield "the noise scale of the report has no upper end: the range takes no account of that"
        return
    known = "" if noise.own.low is None else f": it is at least {noise.own.low:,.0f} examples"
    yield f"the report did not resolve the noise scale{known}"


def _on_other_optimizer(report: Report, optimizer: str, details: OptimizerDetails) -> Iterator[str]:
    measured_with = report.target.optimizer
    if not measured_with or measured_with.lower() == optimizer:
        return
    about = report.target.optimizer_details
    if about is not None and about.family == details.family:
        yield f"the report was made with {measured_with}: its stability limit is left out"
    else:
        yield f"the report was made with {measured_with}: what it measured in the geometry of that is left out"


def _on_other_pair(report: Report, pair: PairInUse) -> Iterator[str]:
    """A noise scale grows as the learning rate falls and the batch size rises."""
    about = report.target
    if about.batch_size is None or about.learning_rate is None:
        return
    if (about.batch_size, about.learning_rate) != (pair.batch_size, pair.learning_rate):
        yield (
            f"the report was made at B = {about.batch_size:,}, η = {about.learning_rate:.2g}: with another pair "
            "the noise scale of the run can be another"
        )
