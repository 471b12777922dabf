"""A held-out loss that falls, rises and falls again is seen, and one that does not is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from bsadvisor.advise.double_descent import find_double_descent
from bsadvisor.advise.track_remarks import about_run
from bsadvisor.values import Estimate, TrackedCheckpoint
from tests.advise.test_ramp import checkpoint

TIMES = (1, 2, 4, 7, 12, 20, 40, 80, 150, 300, 600, 1200, 2500, 5000, 10000, 20000, 40000)


def with_heldout(times: Sequence[int], losses: Sequence[tuple[float, float]]) -> list[TrackedCheckpoint]:
    """Of each its mean and its standard error."""
    return [
        _with_loss(checkpoint(step, loss=1.0, noise_scale=100.0), *loss)
        for step, loss in zip(times, losses, strict=True)
    ]


def _with_loss(one: TrackedCheckpoint, loss: float, error: float) -> TrackedCheckpoint:
    interval = Estimate(value=loss, low=loss - 1.96 * error, high=loss + 1.96 * error, confidence=0.95)
    return replace(one, heldout_loss=interval)


def linear_run(seed: int, *, slow_signal: float) -> list[TrackedCheckpoint]:
    """Gradient descent on 120 rows of a linear model, by its closed form, and the loss on 2,000 others.

    Fast features are overfitted before slow ones are learned (Heckel and Yilmaz 2021): with much signal in
    the slow ones the held-out loss descends twice, with none only once.
    """
    random = np.random.default_rng(seed)
    truth = np.concatenate([np.r_[np.full(20, 1.0), np.zeros(80)], slow_signal * random.standard_normal(20)])

    def draw(rows: int) -> tuple[np.ndarray, np.ndarray]:
        features = np.hstack([random.standard_normal((rows, 100)), 0.12 * random.standard_normal((rows, 20))])
        return features, features @ truth + 0.5 * random.standard_normal(rows)

    (seen, answers), (held, true) = draw(120), draw(2000)
    left, singular, right = np.linalg.svd(seen, full_matrices=False)
    losses = []
    for time in TIMES:
        learned = (1 - (1 - 0.3 / 120 * singular**2) ** time) / singular
        errors = (held @ (right.T @ (learned * (left.T @ answers))) - true) ** 2 / 2
        losses.append((float(errors.mean()), float(errors.std() / len(errors) ** 0.5)))
    return with_heldout(TIMES, losses)


def test_the_double_descents_of_a_linear_model_are_seen_where_they_are() -> None:
    found = [find_double_descent(linear_run(seed, slow_signal=6.0)) for seed in range(20)]
    seen = [one for one in found if one is not None]
    assert len(seen) >= 18
    assert all(one.valley.step < one.peak.step < one.second.step for one in seen)
    assert all(40 <= one.peak.step <= 2500 for one in seen)


def test_a_loss_that_only_overfits_is_no_double_descent() -> None:
    assert not any(find_double_descent(linear_run(seed, slow_signal=0.0)) for seed in range(20))


@pytest.mark.parametrize("scatter", [0.0, 0.05, 0.2])
def test_noise_alone_hardly_ever_makes_one(scatter: float) -> None:
    def flat(seed: int) -> list[TrackedCheckpoint]:
        random = np.random.default_rng(seed)
        falling = np.geomspace(2, 1, 12)
        noisy = falling * np.exp(scatter * random.standard_normal(12)) + 0.02 * random.standard_normal(12)
        return with_heldout(range(1, 13), [(float(loss), 0.02) for loss in noisy])

    alarms = sum(find_double_descent(flat(seed)) is not None for seed in range(200))
    assert alarms <= 4


def test_one_checkpoint_makes_no_peak() -> None:
    losses = [2.0, 1.5, 1.2, 1.0, 3.0, 0.9, 0.8, 0.7]
    assert find_double_descent(with_heldout(range(1, 9), [(loss, 0.01) for loss in losses])) is None


def test_without_held_out_losses_nothing_is_said() -> None:
    assert find_double_descent([checkpoint(n, loss=1.0, noise_scale=9.0) for n in range(1, 9)]) is None


def test_the_finding_names_the_three_steps() -> None:
    losses = [2.0, 1.5, 1.0, 1.01, 1.8, 2.0, 2.01, 1.8, 0.9, 0.8, 0.8]
    run = with_heldout(range(100, 1200, 100), [(loss, 0.01) for loss in losses])
    (found,) = [
        one for one in about_run(run, (), reordered=False, doubles=(), left=0) if one.code == "BSA651"
    ]
    assert "1 at step 400" in found.message or "at step 300" in found.message
    assert "at step 1,000" in found.message or "at step 1,100" in found.message
