"""How much of the training gradient serves held-out examples, from micro-batches that share none."""

from __future__ import annotations

from collections.abc import Callable

from bsadvisor.measure.gradients import GradientProbe, MicroBatchTooLargeError
from bsadvisor.measure.heldout_loss import EXAMPLES
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.statistics import MIN_BLOCKS, estimate
from bsadvisor.theory import alignment as theory
from bsadvisor.values import Estimate


def gradient_alignment(
    training: GradientProbe,
    heldout: Sampler,
    *,
    confidence: float,
    population: int | None,
    time_left: Callable[[], float],
    stop: Callable[[], bool],
) -> Estimate | None:
    """G_t'G_v / |G_v|^2 of the training gradient G_t and the held-out one G_v.

    Args:
        training: a probe that is done; held-out examples are measured as it measured its own.
        heldout: held-out examples: as many as the probe has of its own, at most `EXAMPLES`.
        confidence: of the two-sided interval.
        population: training examples, where the probe drew from so many without replacement.

    Returns:
        1 where both gradients agree, 0 where a small step for the training examples does nothing for others;
        without a value where G_v cannot be told from noise. None where there are too few micro-batches,
        or there is no time for them.

    Source: `theory.alignment`.
    Cost: a forward and backward pass per held-out example; the memory of a `GradientProbe`.
    """
    measured = GradientProbe(
        training.problem,
        heldout,
        micro_batch=min(training.micro_batch, max(heldout.num_certain // MIN_BLOCKS, 1)),
        seed=training.seed,
        reduction=training.reduction,
    )
    ours = training.accumulator
    wanted = min(ours.num_examples, heldout.num_certain, EXAMPLES)
    try:
        measured.run(wanted, time_left=time_left, stop=stop, progress=lambda done: None)
    except MicroBatchTooLargeError:  # for the time or the memory that is left, where the probe's own was not
        return None
    theirs = measured.accumulator
    if stop() or min(ours.num_micro_batches, theirs.num_micro_batches) < MIN_BLOCKS:
        return None
    total, cross = ours.cross(theirs)
    unseen = 1.0 if population is None else max(0.0, 1 - ours.num_examples / population)
    found = theory.alignment(
        ours.sums(), theirs.sums(), total=total, cross=cross, confidence=confidence, unseen=unseen
    )
    return estimate(found, confidence)
