"""What the estimators take for granted, tested on a few examples before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bsadvisor.errors import TargetError
from bsadvisor.measure.dropout_calls import dropout_watched
from bsadvisor.measure.gradients import gradients_of
from bsadvisor.measure.preserve import preserved
from bsadvisor.measure.problem import Problem
from bsadvisor.measure.sampler import Sampler
from bsadvisor.random_state import seed_everything
from bsadvisor.values import AssumptionFacts

QUARTER = 4
"""Examples in each of the four parts that change partners."""

ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}
"""Relative differences of a loss that mean nothing, by the weights' type."""

REPEATED = 1e-5
"""Relative difference of a loss that is computed twice, at most."""

MASK_NOISE_FACTOR = 4.0
"""A change of partners counts when it moves the loss this much more than new dropout masks do."""

Reduction = Literal["mean", "sum", "token_mean"]


def check_assumptions(problem: Problem, sampler: Sampler, *, seed: int) -> AssumptionFacts:
    """How the loss reduces, whether examples couple, whether the forward pass repeats, and what else is random.

    Raises:
        TargetError: the loss depends on no parameter.

    Cost: about a dozen passes over 8 examples.
    """
    with preserved(problem.model):
        seed_everything(seed)
        a, b, c, d = (range(at, at + QUARTER) for at in range(0, 4 * QUARTER, QUARTER))
        pairs = [(a, b), (c, d), (a, c), (b, d), (a, d), (b, c)]
        joint = sampler.check([[*left, *right] for left, right in pairs])
        alone = sampler.check([a, b, c, d])
        halves = _unequal(problem, joint, alone)
        reduction = loss_reduction(problem, *halves, seed)
        coupling, size = _coupling(problem, joint, reduction, seed)
        if coupling == "other" and reduction == "sum":
            reduction = "mean"  # A coupled loss can grow with the batch without being a sum over it.
        with dropout_watched(problem.model) as seen:
            first = _loss_value(problem, joint[0], seed)
        again, other = (_loss_value(problem, joint[0], mask_seed) for mask_seed in (seed, seed + 1))
        return AssumptionFacts(
            loss_reduction=reduction,
            coupling=coupling,
            coupling_size=size,
            repeatable=abs(again - first) <= REPEATED * abs(first),
            random_forward=_spread([first, again, other]) > REPEATED * abs(first),
            augmented=_augmented(problem, sampler, range(QUARTER), seed),
            dropout=seen.keep_probabilities,
        )


def loss_reduction(problem: Problem, joint: Any, left: Any, right: Any, seed: int) -> Reduction:
    """Whether the loss of a batch is the mean, the sum, or the token-weighted mean of its examples'.

    Where both halves count equally many tokens, the two means are one.

    |g(AB)|^2 over |g(A) + g(B)|^2 is 1/4 for any mean and 1 for a sum, with dropout noise or without.
    """
    whole, *halves = (_flat_gradient(problem, batch, seed) for batch in (joint, left, right))
    both = halves[0] + halves[1]
    if float(whole.square().sum()) > 0.5 * float(both.square().sum()) > 0:
        return "sum"
    weights = [problem.weight(batch) for batch in (left, right)]
    if weights[0] is None or weights[1] is None or weights[0] == weights[1]:
        return "mean"
    share = weights[0] / (weights[0] + weights[1])
    by_tokens = share * halves[0] + (1 - share) * halves[1]
    closer = (whole - by_tokens).norm() < (whole - both / 2).norm()
    return "token_mean" if closer else "mean"


def has_batch_norm(model: nn.Module) -> bool:
    """Whether a BatchNorm normalises with the statistics of the batch."""
    return any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training for module in model.modules()
    )


def _unequal(problem: Problem, joint: Sequence[Any], alone: Sequence[Any]) -> tuple[Any, Any, Any]:
    """A batch with its two halves, of unequal weight where there are such."""
    whole_and_halves = [(joint[0], alone[0], alone[1]), (joint[1], alone[2], alone[3])]
    return max(whole_and_halves, key=lambda parts: problem.weight(parts[1]) != problem.weight(parts[2]))


def _flat_gradient(problem: Problem, batch: Any, seed: int) -> Tensor:
    seed_everything(seed)
    loss = problem.loss(batch)
    if not loss.requires_grad:
        raise TargetError(
            "the loss has no gradient: it does not depend on a trainable parameter",
            "compute it from the model's output, without .detach(), .item() or torch.no_grad()",
        )
    gradients = [grad for grad in gradients_of(loss, problem.parameters).values() if grad is not None]
    if not gradients:
        raise TargetError(
            "the loss depends on no trainable parameter of the model",
            "compute it from the model's output; is the model in the file the one that the loss uses?",
        )
    dense = (grad.to_dense() if grad.is_sparse else grad for grad in gradients)
    return torch.cat([grad.reshape(-1).float() for grad in dense])


def _coupling(
    problem: Problem, joint: Sequence[Any], reduction: Reduction, seed: int
) -> tuple[Literal["none", "batch_norm", "other"], float | None]:
    """Let the four parts change partners: a sum over separate examples does not notice."""

    def total(first: int, mask_seed: int) -> float:
        return sum(_weighted_loss(problem, batch, reduction, mask_seed) for batch in joint[first : first + 2])

    totals = [total(first, seed) for first in (0, 2, 4)]
    masks = [total(0, seed + offset) for offset in (1, 2)]
    size = _spread(totals) / (sum(map(abs, totals)) / len(totals) or 1.0)
    noise = _spread([totals[0], *masks]) / (abs(totals[0]) or 1.0)
    if has_batch_norm(problem.model):
        return "batch_norm", size
    dtype = next(iter(problem.parameters.values())).dtype
    coupled = size > max(ROUNDING.get(dtype, 1e-2), MASK_NOISE_FACTOR * noise)
    return ("other", size) if coupled else ("none", None)


def _weighted_loss(problem: Problem, batch: Any, reduction: Reduction, seed: int) -> float:
    loss = _loss_value(problem, batch, seed)
    weight = problem.weight(batch) if reduction == "token_mean" else None
    return loss * (1 if weight is None else weight)


def _augmented(problem: Problem, sampler: Sampler, group: Sequence[int], seed: int) -> bool:
    """Whether the same examples come with other numbers; a stream's cannot be fetched anew."""
    if problem.data.size is None:
        return False
    fetched = []
    for draw in range(2):
        seed_everything(seed + draw)
        fetched += sampler.check([group])
    return not _alike(*fetched)


def _alike(first: Any, second: Any) -> bool:
    """Whether all tensors in two batches are equal; what is neither tensor nor container counts as equal."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and bool(torch.isclose(first, second, equal_nan=True).all())
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_alike(first[name], second[name]) for name in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(_alike, first, second))
    return True


def _loss_value(problem: Problem, batch: Any, seed: int) -> float:
    seed_everything(seed)
    with torch.no_grad():
        return float(problem.loss(batch))


def _spread(values: Sequence[float]) -> float:
    return max(values) - min(values)
