"""The best single step at every batch size against closed forms, and what it leaves untouched."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bsadvisor.errors import DataError
from bsadvisor.measure.best_step import BestStep, Chunks, best_step, tried_examples
from bsadvisor.measure.known_answers import NoisyQuadratic
from bsadvisor.measure.step_trial import MeanGradient, mean_gradient
from bsadvisor.values import Estimate
from tests.measure.test_gradients import Net, table
from tests.worlds import bent_quadratic, probe, quadratic


def find(problem: Any, *, examples: int = 1024, micro_batch: int = 16, **options: Any) -> BestStep | None:
    """After a real gradient phase."""
    reduction = options.pop("reduction", "mean")
    measured = probe(problem, examples=examples, micro_batch=micro_batch, reduction=reduction)
    tried = tried_examples(measured.sampler, measured=examples, micro_batch=micro_batch, couples=False)
    return search(problem, tried, mean_gradient(measured), **options)


def search(problem: Any, tried: Chunks, mean: MeanGradient, *, stop: bool = False) -> BestStep | None:
    return best_step(problem, tried, mean, confidence=0.95, seed=0, should_stop=lambda: stop)


def truths(world: NoisyQuadratic, batch_size: float) -> tuple[float, float]:
    """The best step and its decrease of a quadratic, in any geometry."""
    scale = torch.ones_like(world.gradient) if world.diagonal is None else world.diagonal.double()
    update, hessian = scale * world.gradient, world.hessian.double()
    slope = float((world.gradient * update).sum())
    noise = float((hessian * scale.square() * world.deviations.double().square()).sum())
    steepness = float((hessian * update.square()).sum()) + noise / batch_size
    return slope / steepness, slope**2 / steepness / 2


def covers(interval: Estimate, truth: float) -> bool:
    return interval.low is not None and interval.high is not None and interval.low <= truth <= interval.high


def test_intervals_cover_the_best_steps_and_decreases_of_a_quadratic_at_every_batch_size() -> None:
    """Narrow ones: of ten per cent and less around the noise-free step."""
    seeds, sizes = 60, (4.0, 32.0, 256.0, math.inf)
    covered = np.zeros((len(sizes), 2))
    noise_scales, widths = 0, []
    for seed in range(seeds):
        world = quadratic(noise_scale=10, seed=seed)
        found = find(world)
        assert found is not None
        for row, size in enumerate(sizes):
            pairs = zip(found.at(size), truths(world, size), strict=True)
            covered[row] += [covers(interval, truth) for interval, truth in pairs]
        best, scale = found.noise_free[0], truths(world, 1)[0]
        noise_scales += covers(found.noise_scale, truths(world, math.inf)[0] / scale - 1)
        assert best.low is not None and best.high is not None
        widths.append(best.high / best.low)
    assert (covered >= 0.9 * seeds).all(), covered
    assert noise_scales >= 0.85 * seeds  # within two standard errors of 0.9 and more
    assert np.median(widths) < 1.25


def test_the_best_steps_are_not_biased_by_the_examples_that_made_the_gradient() -> None:
    """The slope that 256 of 512 examples owe to it would be seven tenths of the true one again."""
    logs = []
    for seed in range(30):
        world = quadratic(noise_scale=360, dimensions=400, seed=seed)
        found = find(world, examples=512, micro_batch=16)
        assert found is not None
        pairs = [(found.at(size), truths(world, size)) for size in (16.0, 256.0)]
        logs.append([math.log((answer[1].value or 1.0) / truth[1]) for answer, truth in pairs])
    # Truth is of the population, the answer of the training set, whose slope is tr(Sigma) / N larger.
    assert np.abs(np.mean(logs, axis=0)).max() < 0.2


def test_a_preconditioned_direction_is_searched_in_its_own_units() -> None:
    world = quadratic(noise_scale=10, diagonal=torch.linspace(0.01, 0.02, 60))
    found = find(world)
    assert found is not None and found.direction == "optimizer"
    for size in (8.0, math.inf):
        rate, decrease = truths(world, size)
        assert found.at(size)[0].value == pytest.approx(rate, rel=0.15)
        assert found.at(size)[1].value == pytest.approx(decrease, rel=0.2)


def test_the_curvature_of_the_noise_may_vary_from_example_to_example() -> None:
    world = bent_quadratic("definite", examples=8192)
    found = find(world, examples=4096)
    assert found is not None
    assert found.noise_scale.value == pytest.approx(world.noise_scale, rel=0.35)


def test_gradients_that_are_kept_are_those_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = bent_quadratic("definite")
    kept = find(world)
    monkeypatch.setattr("bsadvisor.measure.step_trial.KEPT_PARAMETERS", 0)
    again = find(world)
    assert kept is not None and again is not None
    assert (again.at(32), again.noise_scale) == (kept.at(32), kept.noise_scale)


def test_a_step_too_long_for_the_parabola_is_seen() -> None:
    """|w|^4 at distance one, which is flat about its best step 1 / 4; by its curvature that were 1 / 12."""
    point = torch.zeros(6)
    point[0] = 1.0
    noise = torch.randn(2048, 6, generator=torch.Generator().manual_seed(0))

    class Quartic(NoisyQuadratic):
        def loss(self, batch: Tensor, *, full_precision: bool = False) -> Tensor:
            w = self.parameters["position"]
            return w.square().sum().square() + 0.01 * (batch.to(w) @ w).mean()

    world = Quartic(hessian=torch.ones(6), position=point, deviations=noise.std(0))
    found = find(world)
    assert found is not None
    assert found.noise_free[0].value == pytest.approx(1 / 4, rel=0.25)
    assert found.noise_free[1].value == pytest.approx(1.0, rel=0.01)


def test_a_summed_loss_and_a_mean_give_the_same_step() -> None:
    mean, total = quadratic(noise_scale=10), quadratic(noise_scale=10, reduction="sum")
    first, second = find(mean), find(total, reduction="sum")
    assert first is not None and second is not None
    assert second.noise_free[0].value == pytest.approx(first.noise_free[0].value, rel=1e-3)
    assert second.loss.value == pytest.approx(first.loss.value, rel=1e-3)


def test_chunks_count_by_their_tokens_where_the_loss_averages_over_them() -> None:
    class Tokens(Net):
        def weight(self, batch: Tensor) -> int | None:
            return 1000 if float(batch[0, 0]) > 0 else 1

    net = Tokens(nn.Linear(6, 3), table())
    found = find(net, examples=256, micro_batch=32, reduction="token_mean")
    plain = find(Net(net.model, table()), examples=256, micro_batch=32)
    assert found is not None and plain is not None
    rows = list(probe(net, examples=256, micro_batch=32).sampler.gradient(0, 8, 32))
    losses = [float(net.loss(batch).detach()) for batch in rows]
    weights = [net.weight(batch) or 0 for batch in rows]
    assert found.loss.value == pytest.approx(np.average(losses, weights=weights), rel=1e-5)
    assert plain.loss.value == pytest.approx(np.mean(losses), rel=1e-5)


@dataclass(kw_only=True)
class Distant(NoisyQuadratic):
    """Seen from weights of 100, between which 16 bits know half steps at best."""

    def loss(self, batch: Tensor, *, full_precision: bool = False) -> Tensor:
        w = self.parameters["position"].float() - 100
        return 0.5 * (self.hessian * w * w).sum() + (batch @ w).mean()


def test_weights_of_sixteen_bits_are_moved_finely() -> None:
    def world(dtype: torch.dtype) -> Distant:
        position = torch.full((60,), 100.5, dtype=dtype)
        return Distant(hessian=torch.linspace(0.5, 1.5, 60), position=position, deviations=torch.ones(60))

    narrow = world(torch.bfloat16)
    exact, found = find(world(torch.float32)), find(narrow)
    assert exact is not None and found is not None and exact.at(4.0)[0].value is not None
    for size in (4.0, math.inf):
        assert found.at(size)[0].value == pytest.approx(exact.at(size)[0].value, rel=0.02)
    assert narrow.parameters["position"].dtype == torch.bfloat16
    assert torch.equal(narrow.parameters["position"], narrow.position)


def test_a_stream_is_tried_on_its_next_examples() -> None:
    world = quadratic(noise_scale=10, endless=True)
    measured = probe(world, examples=1024, micro_batch=16)
    tried = tried_examples(measured.sampler, measured=1024, micro_batch=16, couples=False)
    seen = torch.cat(list(measured.sampler._fetch(measured.sampler.num_line_search, 64, 16)))
    fresh = torch.cat(list(tried.draw()))
    assert not (fresh[:, None] == seen).all(2).any()
    found = find(world)
    assert found is not None
    assert found.at(8.0)[0].value == pytest.approx(truths(world, 8)[0], rel=0.25)


def test_few_examples_are_all_tried_and_coupled_ones_keep_their_micro_batch() -> None:
    measured = probe(quadratic(), examples=64, micro_batch=4)
    few = tried_examples(measured.sampler, measured=64, micro_batch=4, couples=False)
    assert (few.size, len(list(few.draw()))) == (4, 16)
    coupled = tried_examples(measured.sampler, measured=1024, micro_batch=128, couples=True)
    assert (coupled.size, len(list(coupled.draw()))) == (128, 4)


def test_an_unresolved_gradient_has_a_loss_and_no_best_step() -> None:
    world = quadratic(noise_scale=10)
    measured = probe(world, examples=1024, micro_batch=16)
    tried = tried_examples(measured.sampler, measured=1024, micro_batch=16, couples=False)
    found = search(world, tried, replace(mean_gradient(measured), slope=-1.0))
    assert found is not None and found.loss.value is not None
    assert found.noise_free[0].value is None and found.noise_scale.value is None


def test_a_loss_that_overflows_only_ends_the_line() -> None:
    class Walled(NoisyQuadratic):
        def loss(self, batch: Tensor, *, full_precision: bool = False) -> Tensor:
            w = self.parameters["position"]
            wall = torch.where(w.norm() > 1.2 * self.position.norm(), math.inf, 0.0)
            return super().loss(batch) + wall.detach()

    free = quadratic(noise_scale=10)
    world = Walled(hessian=free.hessian, position=free.position, deviations=free.deviations)
    found = find(world)
    assert found is not None
    assert found.noise_free[0].value == pytest.approx(truths(free, math.inf)[0], rel=0.15)


def test_weights_and_buffers_come_back_bit_for_bit_and_dropout_is_the_same_at_every_step() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    first, second = (find(Net(model, table()), examples=256, micro_batch=32) for _ in range(2))
    assert first is not None and second is not None and first.noise_free == second.noise_free
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_too_few_batches_or_a_stop_leave_it_out() -> None:
    world = quadratic()
    mean = mean_gradient(probe(world, examples=256, micro_batch=16))
    assert search(world, Chunks(draw=list, size=16), mean) is None
    assert find(world, stop=True) is None


def test_a_stop_in_the_middle_leaves_it_out() -> None:
    world, calls = quadratic(), iter([False, True])
    measured = probe(world, examples=1024, micro_batch=16)
    tried = tried_examples(measured.sampler, measured=1024, micro_batch=16, couples=False)
    stopped = best_step(
        world,
        tried,
        mean_gradient(measured),
        confidence=0.95,
        seed=0,
        should_stop=lambda: next(calls, True),
    )
    assert stopped is None


def test_data_that_is_not_finite_is_refused() -> None:
    bad, good = table(), Net(nn.Linear(6, 3), table())
    bad[:, 0] = float("nan")
    mean = mean_gradient(probe(good, examples=256, micro_batch=16))
    with pytest.raises(DataError, match="not finite"):
        search(good, Chunks(draw=lambda: list(bad[:64].split(16)), size=16), mean)


def test_random_augmentation_of_the_data_is_seeded_and_leaves_no_trace() -> None:
    world = quadratic(noise_scale=10)
    measured = probe(world, examples=1024, micro_batch=16)
    rows = world.data.fetch([range(at, at + 16) for at in range(0, 256, 16)])
    kept = list(rows)

    def noisy() -> Iterator[Tensor]:
        return (batch + 0.1 * torch.randn(batch.shape) for batch in kept)

    state = torch.get_rng_state()
    first = search(world, Chunks(draw=noisy, size=16), mean_gradient(measured))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    second = search(world, Chunks(draw=noisy, size=16), mean_gradient(measured))
    assert first is not None and second is not None and first.loss == second.loss
