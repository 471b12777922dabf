"""The way out of a saddle of the training loss itself: sought and measured on all the examples there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from bsadvisor.measure.escape_direction import escape_direction
from bsadvisor.measure.hessian import Hessian, double_backward_allowed
from bsadvisor.measure.preserve import in_full_precision, preserved
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.spectrum import Sample, find_spectrum
from bsadvisor.random_state import seed_everything
from bsadvisor.values import EscapeDirection, Estimate

MOST_EXAMPLES = 8192
"""More are not searched in whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """A direction of negative curvature and what was measured along it."""

    escape: EscapeDirection
    displacement: Tensor
    """(P,): a unit step in the space of the parameters."""


def search_whole(
    hessian: Hessian,
    sampler: Sampler,
    *,
    micro_batch: int,
    iterations: int,
    noise_trace: float | None,
    enough: Callable[[], bool],
    should_stop: Callable[[], bool],
) -> WayOut | None:
    """The lowest curvature on all examples: no sample of them, so its own choice does not flatter it.

    Args:
        hessian: in the optimizer's geometry; its weights are as before afterwards.
        enough: ends Lanczos early.
        should_stop: ends everything.

    Returns:
        None where it curves up, where there are too many examples, where the loss of an example is
        random, and where `should_stop` said so.

    Cost: a product per iteration, a gradient with three products and 21 losses, over all examples.
    """
    batches = sampler.whole(micro_batch, MOST_EXAMPLES)
    model = hessian.problem.model
    with preserved(model), in_full_precision(model), double_backward_allowed(model):
        seed_everything(hessian.seed)
        if len(batches) < 2 or hessian.loss(batches[0], 0) != hessian.loss(batches[0], 1):
            return None
        spectrum = find_spectrum(
            hessian,
            Sample(direction=batches, certificate=batches, micro_batch=micro_batch, iterations=iterations),
            keep_basis=True,
            seed=hessian.seed,
            enough=enough,
            should_stop=should_stop,
        )
        if spectrum is None or not spectrum.lowest.negative:
            return None
        escape = escape_direction(
            hessian,
            batches,
            spectrum.lowest,
            noise_trace=noise_trace,
            first_number=len(batches),
            should_stop=should_stop,
        )
    if escape is None:
        return None
    return WayOut(escape=_exact(escape), displacement=spectrum.lowest.displacement)


def _exact(escape: EscapeDirection) -> EscapeDirection:
    """With curvatures that have no sampling error: they are those of the loss that is trained on."""

    def exact(found: Estimate) -> Estimate:
        return replace(found, low=found.value, high=found.value)

    return replace(
        escape, curvature=exact(escape.curvature), parameter_curvature=exact(escape.parameter_curvature)
    )
