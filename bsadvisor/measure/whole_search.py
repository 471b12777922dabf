"""The way out of a saddle of the training loss itself: sought and measured on all the examples there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from bsadvisor.errors import TargetError
from bsadvisor.measure.escape_direction import escape_direction
from bsadvisor.measure.hessian import Hessian, double_backward_allowed
from bsadvisor.measure.preserve import buffers_kept, in_full_precision, preserved
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.spectrum import Sample, find_spectrum
from bsadvisor.random_state import seed_everything
from bsadvisor.theory.noise_scale import MIN_MICRO_BATCHES
from bsadvisor.values import EscapeDirection, Estimate

MOST_EXAMPLES = 8192
"""More are not searched in whole."""

MOST_HELD = 2048
"""Of them, to follow runs on."""

SEARCH_SHARE = 0.5
"""Of the time that is left, for the directions; the rest is for what holds along the lowest."""

LEAST_ITERATIONS = 16
"""Of Lanczos: with fewer, more examples find no better direction."""

LARGEST_BATCH = 512
"""Examples of a micro-batch: beyond, a small model's passes get no faster."""

GRAPH_BYTES = 2**24
"""That a pass over such a micro-batch may keep: a product keeps several times as much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """A direction of negative curvature and what was measured along it."""

    escape: EscapeDirection
    displacement: Tensor
    """(P,): a unit step in the space of the parameters."""
    held: Sequence[Any]
    """Micro-batches on which runs along it are followed."""
    held_examples: int
    """Of each."""


def can_search_whole(hessian: Hessian, sampler: Sampler, micro_batch: int) -> bool:
    """Whether there are few enough examples, and their loss is the same every time."""
    batches = sampler.whole(micro_batch, MOST_EXAMPLES)
    if len(batches) < MIN_MICRO_BATCHES:
        return False
    model = hessian.problem.model
    try:
        with preserved(model), in_full_precision(model), double_backward_allowed(model):
            return bool(hessian.loss(batches[0], 0) == hessian.loss(batches[0], 1))
    except TargetError:  # it does not run in full precision: the curvature will say so
        return False


def search_whole(
    hessian: Hessian,
    sampler: Sampler,
    *,
    micro_batch: int,
    iterations: int,
    noise_trace: float | None,
    time_left: Callable[[], float],
    stop: Callable[[], bool],
) -> WayOut | None:
    """The lowest curvature on all examples: no sample of them, so its own choice does not flatter it.

    Args:
        hessian: in the optimizer's geometry; its weights are as before afterwards. Ask
            `can_search_whole` first.
        micro_batch: that is known to fit; where the graph of a larger one is small, that is taken.
        time_left: seconds; Lanczos gets a share of them, on fewer examples where they are short.
        stop: whether someone asked to.

    Returns:
        None where it curves up, and where the time was over first.

    Cost: a product per iteration, a gradient with three products and 25 losses, over all examples.
    """
    model, ends = hessian.problem.model, (1 - SEARCH_SHARE) * time_left()

    def should_stop() -> bool:
        return stop() or time_left() <= 0

    with preserved(model), in_full_precision(model), double_backward_allowed(model):
        seed_everything(hessian.seed)
        batches = sampler.whole(micro_batch, MOST_EXAMPLES)
        most = min(LARGEST_BATCH, len(batches) * micro_batch // 4)
        large = larger_batch(hessian, batches[0], micro_batch, most)
        judged = micro_batch
        while 2 * judged <= large and len(batches) * micro_batch >= 2 * judged * MIN_MICRO_BATCHES:
            judged *= 2
        if hessian.divide_by > 1:
            large, hessian = judged, replace(hessian, divide_by=judged)
        batches = sampler.whole(judged, MOST_EXAMPLES)
        spectrum = find_spectrum(
            hessian,
            Sample(
                direction=_affordable(hessian, sampler.whole(large, MOST_EXAMPLES), time_left, ends),
                certificate=batches,
                micro_batch=judged,
                iterations=iterations,
            ),
            keep_basis=True,
            seed=hessian.seed,
            enough=lambda: should_stop() or time_left() <= ends,
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
    return WayOut(
        escape=_exact(escape),
        displacement=spectrum.lowest.displacement,
        held=batches[: max(MOST_HELD // judged, 2)],
        held_examples=judged,
    )


def _affordable(
    hessian: Hessian, batches: list[Any], time_left: Callable[[], float], ends: float
) -> list[Any]:
    """As many as there is time to multiply with often enough, but a quarter of them at least."""
    vector = torch.ones(hessian.num_parameters).to(hessian.like)
    before = time_left()
    hessian.add_product(torch.zeros_like(vector), batches[0], 0, vector, share=1.0)
    after = time_left()
    if not after < before:  # there is no limit, or no clock so fine
        return batches
    affordable = (after - ends) / (LEAST_ITERATIONS * (before - after))
    return batches[: max(int(min(affordable, len(batches))), math.ceil(len(batches) / 4))]


def _exact(escape: EscapeDirection) -> EscapeDirection:
    """With curvatures that have no sampling error: they are those of the loss that is trained on."""

    def exact(found: Estimate) -> Estimate:
        return replace(found, low=found.value, high=found.value)

    return replace(
        escape,
        curvature=exact(escape.curvature),
        parameter_curvature=exact(escape.parameter_curvature),
    )


def larger_batch(hessian: Hessian, batch: Any, examples: int, most: int) -> int:
    """Examples of a micro-batch as large as `most` and the memory of its graph allow: `examples` doubled.

    Args:
        batch: of so many `examples`, that fits.
    """
    kept = _graph_bytes(hessian, batch)
    while 2 * examples <= most and 2 * kept <= GRAPH_BYTES:
        examples, kept = 2 * examples, 2 * kept
    return examples


def _graph_bytes(hessian: Hessian, batch: Any) -> int:
    """What a forward pass keeps for the way back."""
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    with buffers_kept(hessian.problem.model), saved_tensors_hooks(count, lambda tensor: tensor):
        hessian.loss_with_graph(batch, 0)
    return kept
