"""Sets the ground for a trial: what is trained on, what losses are judged on, how much fits at once."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from bsadvisor.measure.branches import Ground, Trainer
from bsadvisor.measure.problem import Problem
from bsadvisor.measure.sampler import Sampler

EVALUATED = 1024
"""Examples on which losses are compared."""

EVALUATION_CHUNK = 256

MOST_EVALUATION_BYTES = 2**28

MOST_AT_ONCE = 2**16
"""Examples through the model; whatever does not fit in memory is halved."""


def trial_ground(
    problem: Problem,
    trainer: Trainer,
    sampler: Sampler,
    *,
    batch_in_use: int | None,
    per_device_batch: int | None,
    couples: bool,
    token_mean: bool,
    seed: int,
) -> Ground:
    """All examples are trained on; the loss is judged on some of them, always the same.

    Args:
        per_device_batch: examples that go through the model together where they influence each other.
        couples: whether they do.
    """
    assert problem.data.size is not None
    size = per_device_batch or EVALUATION_CHUNK if couples else EVALUATION_CHUNK
    first = next(sampler.gradient(0, 1, 1))
    most = min(EVALUATED, problem.data.size, max(64, MOST_EVALUATION_BYTES // _bytes(first)))
    size = most // math.ceil(most / min(size, most))  # equal chunks, so that their means weigh the same
    evaluation = list(sampler.first(most // size, size))
    return Ground(
        problem=problem,
        trainer=trainer,
        batch_in_use=batch_in_use,
        examples=range(problem.data.size),
        evaluation=evaluation,
        evaluated=len(evaluation) * size,
        micro_batch=size if couples else MOST_AT_ONCE,
        token_mean=token_mean,
        seed=seed,
    )


def _bytes(batch: Any) -> int:
    """Of one example."""
    tensors = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor)]
    return max(1, sum(tensor.numel() * tensor.element_size() for tensor in tensors))
