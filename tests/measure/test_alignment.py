"""The alignment from the real gradient phase, against gradients of whole data sets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bsadvisor.measure.alignment import gradient_alignment
from bsadvisor.measure.heldout_loss import heldout_sampler
from bsadvisor.values import Estimate
from tests.benchmarks.tasks import Task, digits, sgd, trained
from tests.worlds import probe


@cache
def model() -> nn.Module:
    """Trained on the first 400 digits."""
    torch.manual_seed(0)
    images, labels = digits()
    net = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    return trained(
        Task(name="digits", model=net, inputs=images[:400], targets=labels[:400]), 40, sgd(0.3)
    ).model


def task(first: int, last: int) -> Task:
    """The same net with some of the rows as its data."""
    images, labels = digits()
    return Task(name="digits", model=model(), inputs=images[first:last], targets=labels[first:last])


def gradient(problem: Task) -> Mapping[str, Tensor]:
    loss = problem.loss((problem.inputs, problem.targets))
    return dict(
        zip(problem.parameters, torch.autograd.grad(loss, list(problem.parameters.values())), strict=True)
    )


def inner(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> float:
    return sum(float((one[name] * two[name]).sum()) for name in one)


def aligned(training: Task, heldout: Task, seed: int, examples: int) -> Estimate:
    measured = probe(training, examples=examples, micro_batch=8, seed=seed)
    found = gradient_alignment(
        measured,
        heldout_sampler(heldout.data, seed=seed + 1),
        confidence=0.95,
        population=len(training.inputs),
        time_left=lambda: 1e9,
        stop=lambda: False,
    )
    assert found is not None
    return found


def test_the_whole_data_gives_the_ratio_of_whole_gradients() -> None:
    """The product of both means, over the held-out gradients' products of one example with another."""
    training, heldout = task(0, 400), task(400, 800)
    found = aligned(training, heldout, seed=0, examples=400)
    held, count = gradient(heldout), 400
    own = sum(inner(one, one) for one in map(gradient, (task(row, row + 1) for row in range(400, 800))))
    between = (count**2 * inner(held, held) - own) / (count * (count - 1))
    # Those of one micro-batch with itself are left out, too: another sample of the same mean.
    assert found.value == pytest.approx(inner(gradient(training), held) / between, rel=0.03)


def test_intervals_hold_the_ratio_of_the_gradients_of_all_there_is() -> None:
    training = task(0, 400)
    everything = task(400, 1437)
    held = gradient(everything)
    truth = inner(gradient(training), held) / inner(held, held)
    order = torch.Generator().manual_seed(3)
    inside = []
    for seed in range(60):
        picks = torch.randperm(1037, generator=order)[:160]
        some = Task(
            name="some",
            model=training.model,
            inputs=everything.inputs[picks],
            targets=everything.targets[picks],
        )
        found = aligned(training, some, seed=seed, examples=160)
        low, high = (
            (-np.inf if found.low is None else found.low),
            (np.inf if found.high is None else found.high),
        )
        inside.append(low <= truth <= high)
    assert np.mean(inside) >= 0.9


def test_too_few_held_out_examples_give_nothing() -> None:
    measured = probe(task(0, 400), examples=160, micro_batch=8)
    found = gradient_alignment(
        measured,
        heldout_sampler(task(400, 403).data, seed=0),
        confidence=0.95,
        population=400,
        time_left=lambda: 1e9,
        stop=lambda: False,
    )
    assert found is None


def test_no_time_for_held_out_gradients_gives_nothing() -> None:
    measured = probe(task(0, 400), examples=160, micro_batch=8)
    found = gradient_alignment(
        measured,
        heldout_sampler(task(400, 800).data, seed=0),
        confidence=0.95,
        population=400,
        time_left=lambda: 0.0,
        stop=lambda: False,
    )
    assert found is None
