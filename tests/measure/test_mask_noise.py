"""The split of the noise against closed forms: unbiased, and covered by its intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bsadvisor.measure.mask_noise import MaskProbe, RepeatedGradients
from bsadvisor.measure.mask_stats import dropout_stats
from bsadvisor.measure.sampler import Sampler
from bsadvisor.theory import mask_noise as theory
from bsadvisor.values import DropoutStats, Estimate
from tests.worlds import ShakenQuadratic

DIMENSIONS = 12


def world(**noise: Any) -> ShakenQuadratic:
    return ShakenQuadratic(
        hessian=torch.ones(DIMENSIONS),
        position=torch.full((DIMENSIONS,), 0.1),
        deviations=torch.ones(DIMENSIONS),
        examples=4096,
        **noise,
    )


def measure(
    problem: Any, seed: int, *, masks: int = 2, draws: int = 1, micro_batch: int = 8, small: int | None = 2
) -> RepeatedGradients:
    probe = MaskProbe(
        problem,
        Sampler(problem.data, seed=seed),
        micro_batch=micro_batch,
        small=small,
        masks=masks,
        draws=draws,
        seed=seed,
        reduction=getattr(problem, "reduction", "mean"),
    )
    found = probe.run(32, time_left=lambda: 1e9, stop=lambda: False)
    assert found is not None
    return found


def stats(found: RepeatedGradients, batch_size: int | None = 64) -> DropoutStats:
    return dropout_stats(found, keep_probabilities=(), ridges=(), batch_size=batch_size, confidence=0.95)


def off(values: list[float], truth: float) -> float:
    """The mean's distance from the truth in standard errors; intervals are judged in tests/theory."""
    spread = float(np.std(values) / np.sqrt(len(values)))
    return abs(float(np.mean(values)) - truth) / max(spread, 1e-9)


@pytest.mark.parametrize(("masks", "draws"), [(2, 1), (1, 2), (2, 2)])
def test_the_parts_are_unbiased(masks: int, draws: int) -> None:
    problem = world(augmentation=0.8 if draws > 1 else 0.0, mask=1.5 if masks > 1 else 0.0)
    found = [measure(problem, seed, masks=masks, draws=draws, small=None).sums for seed in range(40)]
    parts: list[tuple[theory.Statistic, float]] = [
        (lambda parts: parts.data, problem.trace(1.0)),
        (lambda parts: parts.augmentation, problem.trace(problem.augmentation)),
        (lambda parts: parts.mask, problem.trace(problem.mask)),
    ]
    for statistic, truth in parts:
        assert off([theory.split(sums, statistic, 0.95).value for sums in found], truth) < 3.5


def test_the_floor_of_shared_masks_is_unbiased() -> None:
    problem = world(mask=1.0, shared=0.5)
    found = [measure(problem, seed).floor for seed in range(40)]
    floors = [theory.floor_of(floor, lambda line: line.floor, 0.95).value for floor in found if floor]
    assert len(floors) == 40 and off(floors, problem.trace(0.5)) < 3.5


def test_masks_of_a_whole_batch_are_told_from_those_of_examples() -> None:
    own = [stats(measure(world(mask=1.5), seed)).masks for seed in range(10)]
    shared = [stats(measure(world(mask=1.0, shared=1.0), seed)).masks for seed in range(5)]
    assert own.count("per_example") >= 8 and "shared" not in own
    assert shared == ["shared"] * 5


def test_half_of_the_mask_noise_being_shared_is_measured_as_that() -> None:
    found = stats(measure(world(mask=1.0, shared=1.0), 0)).mask_sharing
    assert found is not None and found.low is not None and found.high is not None
    assert found.low < 0.5 < found.high and found.high - found.low < 0.6


def test_the_batch_size_where_half_the_noise_is_a_floor() -> None:
    problem = world(mask=1.0, shared=0.5)
    found = stats(measure(problem, 0, micro_batch=64, small=4))
    truth = problem.trace(2**0.5) / problem.trace(0.5)  # 8
    size = found.floor_batch_size
    assert (
        size is not None and size.low is not None and size.high is not None and size.low < truth < size.high
    )
    assert found.averaged_away is not None and found.averaged_away.value == pytest.approx(
        (1 / 64) / (1 / 64 + 0.25), rel=0.5
    )


def test_without_a_floor_only_its_low_end_is_told() -> None:
    size = stats(measure(world(mask=1.0), 0)).floor_batch_size
    assert size is not None and size.value is None and size.high is None and size.low is not None


def test_what_was_not_repeated_is_not_told() -> None:
    found = stats(measure(world(augmentation=1.0), 0, masks=1, draws=2))
    assert found.mask_trace is None and found.masks is None and found.mask_floor is None
    assert found.augmentation_share is not None and found.augmentation_share.value == pytest.approx(
        0.5, abs=0.2
    )


def test_too_little_time_is_no_result() -> None:
    problem = world(mask=1.0)
    probe = MaskProbe(
        problem,
        Sampler(problem.data, seed=0),
        micro_batch=8,
        small=2,
        masks=2,
        draws=1,
        seed=0,
        reduction="mean",
    )
    assert probe.run(32, time_left=lambda: 0.0, stop=lambda: False) is None


def test_the_same_seed_gives_the_same_numbers_and_leaves_the_generators_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again = (stats(measure(world(mask=1.0, augmentation=1.0), 3, draws=2)) for _ in range(2))
    assert first == again and torch.equal(state, torch.get_rng_state())


def test_the_level_of_every_estimate_is_the_one_asked_for() -> None:
    found = stats(measure(world(mask=1.0), 0))
    assert all(e.confidence == 0.95 for e in vars_of(found))


def vars_of(found: DropoutStats) -> list[Estimate]:
    return [e for e in (getattr(found, name) for name in found.__slots__) if isinstance(e, Estimate)]
