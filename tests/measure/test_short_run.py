"""A short run is what the optimizer itself would do, and is taken back afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bsadvisor.measure.known_answers import Table
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.short_run import Steps, short_run
from bsadvisor.values import ShortRun
from tests.measure.test_curvature import unchanged
from tests.measure.test_gradients import Net, table

SGD = Steps(
    scheme="gradient_descent",
    learning_rate=0.1,
    momentum=0.0,
    second_beta=None,
    taken=0,
    number=20,
    micro_batches=1,
    micro_batch=16,
)
EVALUATED, SEED = 8, 3
BETA, SECOND = 0.9, 0.99


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def looks(
    net: Net, steps: Steps, *, evaluated: int = EVALUATED, first: int = 0, **options: Any
) -> tuple[ShortRun, ...]:
    size = sum(parameter.numel() for parameter in net.parameters.values())
    sampler = Sampler(net.data, seed=0)
    given: dict[str, Any] = {
        "held": sampler.curvature(first, evaluated, steps.micro_batch),
        "held_examples": steps.micro_batch,
        "kick": torch.zeros(size, dtype=torch.float64),
        "divide_by_examples": False,
        "has_left": lambda fall: False,
        "should_stop": lambda: False,
    }
    return short_run(net, sampler, steps, seed=SEED, **{**given, **options})


def run(net: Net, steps: Steps, **options: Any) -> ShortRun:
    return looks(net, replace(steps, look_every=steps.number), **options)[-1]


@torch.no_grad()
def mean_loss(net: Net, batches: list[Tensor]) -> float:
    return float(np.mean([float(net.loss(batch)) for batch in batches]))


def drop_of(net: Net, steps: Steps, optimizer: torch.optim.Optimizer) -> float:
    """Of the real optimizer, over the same batches; it leaves the model moved."""
    sampler = Sampler(net.data, seed=0)
    held = sampler.curvature(0, EVALUATED, steps.micro_batch)
    before = mean_loss(net, held)
    for batch in sampler.random(steps.number, steps.micro_batch, SEED):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    return before - mean_loss(net, held)


OPTIMIZERS: dict[str, tuple[Steps, Callable[[Any], torch.optim.Optimizer]]] = {
    "SGD": (SGD, lambda weights: torch.optim.SGD(weights, lr=0.1)),
    "momentum": (
        replace(SGD, scheme="heavy_ball", momentum=BETA),
        lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=BETA),
    ),
    "Nesterov": (
        replace(SGD, scheme="nesterov", momentum=BETA),
        lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=BETA, nesterov=True),
    ),
    "decay in the gradient": (
        replace(SGD, scheme="heavy_ball", momentum=BETA, weight_decay=0.05),
        lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=BETA, weight_decay=0.05),
    ),
}


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_twenty_steps_are_those_of_the_optimizer(kind: str) -> None:
    steps, optimizer = OPTIMIZERS[kind]
    net = Net(mlp(), table())
    found = run(net, steps)
    assert found.steps == 20
    wanted = drop_of(net, steps, optimizer(net.model.parameters()))
    assert found.loss_drop.value == pytest.approx(wanted, rel=1e-9)
    assert found.kicked_loss_drop == found.loss_drop  # with no kick at all
    assert found.gain.value == found.gain.high == 0.0


@pytest.mark.parametrize(("taken", "decay"), [(1, 0.0), (7, 0.0), (400, 0.0), (7, 0.5)])
def test_adam_goes_on_from_the_second_moments_and_the_step_count_of_its_checkpoint(
    taken: int, decay: float
) -> None:
    """Its first moments start anew, so those of the real one are put to zero and their count to none."""
    rate, eps = 3e-3, 1e-12
    net = Net(mlp(), table())
    adam = torch.optim.AdamW(
        net.model.parameters(), lr=rate, betas=(0.0, SECOND), eps=eps, weight_decay=decay
    )
    batches = Sampler(net.data, seed=0).random(taken, 16, 9)
    for batch in batches:
        adam.zero_grad()
        net.loss(batch).backward()
        adam.step()
    adam.zero_grad(set_to_none=True)
    net.preconditioner = {  # type: ignore[assignment]
        name: 1 / ((adam.state[weights]["exp_avg_sq"] / (1 - SECOND**taken)).sqrt() + eps)
        for name, weights in net.parameters.items()
    }
    steps = replace(
        SGD,
        scheme="ema",
        learning_rate=rate,
        second_beta=SECOND,
        taken=taken,
        weight_decay=decay,
        decoupled=True,
    )
    found = run(net, steps)
    assert found.loss_drop.value == pytest.approx(drop_of(net, steps, adam), rel=1e-5)


@pytest.mark.parametrize("adaptive", [False, True])
def test_groups_step_at_their_own_learning_rates(adaptive: bool) -> None:
    """They are contained in D, and the second moments of a group do not see its rate."""
    rate, taken, eps = 3e-3, 7, 1e-12
    net = Net(mlp(), table())
    weights = list(net.parameters.values())
    groups: Any = [{"params": weights[:2], "lr": rate / 10}, {"params": weights[2:]}]
    made: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW if adaptive else torch.optim.SGD
    settings: Any = {"betas": (0.0, SECOND), "eps": eps, "weight_decay": 0.0} if adaptive else {}
    optimizer = made(groups, lr=rate, **settings)
    for batch in Sampler(net.data, seed=0).random(taken, 16, 9):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    rates = {name: 0.1 if number < 2 else 1.0 for number, name in enumerate(net.parameters)}
    net.preconditioner = {  # type: ignore[assignment]
        name: rates[name]
        / (
            (optimizer.state[part]["exp_avg_sq"] / (1 - SECOND**taken)).sqrt()
            if adaptive
            else part.detach() ** 0
        )
        for name, part in net.parameters.items()
    }
    steps = replace(
        SGD,
        scheme="ema" if adaptive else "gradient_descent",
        learning_rate=rate,
        second_beta=SECOND if adaptive else None,
        taken=taken,
        relative_rates=rates,
    )
    found = run(net, steps)
    assert found is not None
    assert found.loss_drop.value == pytest.approx(drop_of(net, steps, optimizer), rel=1e-5)


def test_a_frozen_preconditioner_with_bias_corrected_momentum_is_followed() -> None:
    net = Net(mlp(), table())
    scale = {name: torch.full_like(weights, 0.5) for name, weights in net.parameters.items()}
    net.preconditioner = scale  # type: ignore[assignment]
    steps = replace(SGD, scheme="ema", momentum=BETA, number=3)
    found = run(net, steps)
    weights = list(net.parameters.values())
    sampler = Sampler(net.data, seed=0)
    held = sampler.curvature(0, EVALUATED, 16)
    before = mean_loss(net, held)
    mean = [torch.zeros_like(part) for part in weights]
    for count, batch in enumerate(sampler.random(3, 16, SEED), start=1):
        gradients = torch.autograd.grad(net.loss(batch), weights)
        for part, average, gradient in zip(weights, mean, gradients, strict=True):
            average.mul_(BETA).add_(gradient, alpha=1 - BETA)
            part.data -= 0.1 * 0.5 * average / (1 - BETA**count)
    after = mean_loss(net, held)
    assert found.loss_drop.value == pytest.approx(before - after, rel=1e-9)


def test_gradients_are_accumulated_where_the_batch_exceeds_the_micro_batch() -> None:
    """The examples of every step and those that judge it are the same in both arrangements."""
    net = Net(mlp(), table())
    whole = run(net, replace(SGD, micro_batch=32), evaluated=4)
    parts = run(net, replace(SGD, micro_batches=2), evaluated=8)
    single = run(net, SGD, evaluated=8)
    assert parts.loss_drop.value == pytest.approx(whole.loss_drop.value, rel=1e-9)
    assert parts.loss_drop.value != pytest.approx(single.loss_drop.value, rel=1e-3)


def test_a_kick_moves_the_second_run_alone() -> None:
    net, kicked = Net(mlp(), table()), Net(mlp(), table())
    kick = torch.linspace(
        -0.3, 0.3, sum(part.numel() for part in net.parameters.values()), dtype=torch.float64
    )
    found = run(net, SGD, kick=kick)
    nn.utils.vector_to_parameters(
        nn.utils.parameters_to_vector(kicked.model.parameters()) + kick, kicked.model.parameters()
    )
    held = Sampler(net.data, seed=0).curvature(0, EVALUATED, 16)
    climbed = mean_loss(kicked, held) - mean_loss(net, held)
    wanted = drop_of(kicked, SGD, torch.optim.SGD(kicked.model.parameters(), lr=0.1)) - climbed
    assert found.kicked_loss_drop.value == pytest.approx(wanted, rel=1e-9)
    unkicked = run(net, SGD)
    assert found.loss_drop == unkicked.loss_drop


def test_the_gain_of_a_kick_is_known_better_than_either_fall() -> None:
    """Both runs end on the same examples, whose own losses differ much more than the two runs do."""
    net = Net(mlp(), table())
    kick = torch.full((sum(part.numel() for part in net.parameters.values()),), 0.01, dtype=torch.float64)
    found = run(net, SGD, kick=kick)
    falls = found.loss_drop, found.kicked_loss_drop
    assert found.gain.value == pytest.approx((falls[1].value or 0.0) - (falls[0].value or 0.0), rel=1e-9)
    widths = [(part.high or 0.0) - (part.low or 0.0) for part in (found.gain, *falls)]
    assert 0 < widths[0] < min(widths[1:]) / 3


def test_a_run_is_judged_on_the_examples_that_did_not_choose_its_kick() -> None:
    net = Net(mlp(), table())
    sampler = Sampler(net.data, seed=0)
    found = run(net, SGD, first=64)
    held = sampler.curvature(64, EVALUATED, 16)
    before = mean_loss(net, held)
    drop_of(net, SGD, torch.optim.SGD(net.model.parameters(), lr=0.1))
    assert found.loss_drop.value == pytest.approx(before - mean_loss(net, held), rel=1e-9)


def test_a_summed_loss_takes_the_steps_of_its_mean() -> None:
    def summed(model: Any, batch: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(batch[:, :-1]), batch[:, -1].long(), reduction="sum")

    mean, total = (
        run(Net(mlp(), table()), SGD),
        run(Net(mlp(), table(), summed), SGD, divide_by_examples=True),
    )
    assert total.loss_drop.value == pytest.approx(mean.loss_drop.value, rel=1e-9)


def test_batch_norm_trains_on_its_batches_and_keeps_its_statistics() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    net = Net(model, table())
    with unchanged(model):
        found = run(net, SGD)
    wanted = drop_of(net, SGD, torch.optim.SGD(model.parameters(), lr=0.1))
    assert found.loss_drop.value == pytest.approx(wanted, rel=1e-9)


def test_a_run_that_diverges_gives_no_value() -> None:
    net = Net(mlp(), table(), lambda model, batch: model(batch[:, :-1]).pow(4).mean())
    with unchanged(net.model):
        found = run(net, replace(SGD, learning_rate=1e9))
    assert found.loss_drop.value is found.loss_drop.low is found.kicked_loss_drop.value is None


def test_a_look_is_what_a_run_of_so_many_steps_would_end_with() -> None:
    kick = torch.full((83,), 0.05, dtype=torch.float64)
    found = looks(Net(mlp(), table()), replace(SGD, look_every=5), kick=kick)
    assert [look.steps for look in found] == [5, 10, 15, 20]
    for look in found:
        alone = run(Net(mlp(), table()), replace(SGD, number=look.steps), kick=kick)
        assert (look.loss_drop, look.kicked_loss_drop) == (alone.loss_drop, alone.kicked_loss_drop)
        assert look.gain == alone.gain


def test_a_hurried_run_is_that_of_an_optimizer_with_a_growing_rate() -> None:
    net = Net(mlp(), table())
    steps = replace(SGD, scheme="heavy_ball", momentum=BETA, growth=1.1, highest_rate=0.3)
    found = run(net, steps)
    optimizer = torch.optim.SGD(net.model.parameters(), lr=0.1, momentum=BETA)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.1**step, 3.0))
    optimizer.register_step_post_hook(lambda *_: rates.step())
    assert found.loss_drop.value == pytest.approx(drop_of(net, steps, optimizer), rel=1e-9)


def test_what_happened_on_the_way_is_not_forgotten() -> None:
    """At a rate at which the loss swings, the widest fall is not the last one."""
    steps = replace(SGD, learning_rate=3.0, look_every=1)
    kick = torch.full((83,), 0.05, dtype=torch.float64)
    found = looks(Net(mlp(), table()), steps, kick=kick)
    falls, gains = ([getattr(look, name) for look in found] for name in ("loss_drop", "gain"))
    for count, look in enumerate(found, 1):
        assert look.widest_drop == max(falls[:count], key=lambda fall: abs(fall.value))
        assert look.lasting_gain == min(gains[max(count - 3, 0) : count], key=lambda gain: gain.value)
    assert found[-1].widest_drop != found[-1].loss_drop
    assert any(look.lasting_gain != look.gain for look in found)


def test_both_runs_end_where_the_first_has_left_by_itself() -> None:
    net = Net(mlp(), table())
    full = looks(net, replace(SGD, look_every=5))
    enough = full[1].loss_drop.value or 0.0
    with unchanged(net.model):
        found = looks(net, replace(SGD, look_every=5), has_left=lambda fall: (fall.value or 0.0) >= enough)
    assert found == full[:2]


@pytest.mark.parametrize(("stop_at", "seen"), [(0, 0), (7, 0), (20, 0), (26, 1), (39, 3)])
def test_a_stop_leaves_what_both_runs_have_shown_and_no_trace(stop_at: int, seen: int) -> None:
    net, asked = Net(mlp(), table()), iter(range(1000))
    with unchanged(net.model):
        found = looks(net, replace(SGD, look_every=5), should_stop=lambda: next(asked) >= stop_at)
    assert len(found) == seen
    # A run that is stopped does not keep the next one from asking.
    assert next(asked) >= stop_at + 1


@pytest.mark.parametrize("fails_at", [0, EVALUATED + 5, EVALUATED + 20 + EVALUATED + 3])
def test_everything_is_as_before_after_an_exception(fails_at: int) -> None:
    calls = iter(range(1000))

    def failing(model: Any, batch: Tensor) -> Tensor:
        if next(calls) == fails_at:
            raise ValueError("the user's own")
        return nn.functional.cross_entropy(model(batch[:, :-1]), batch[:, -1].long())

    net = Net(mlp(), table(), failing)
    with unchanged(net.model), pytest.raises(ValueError, match="the user's own"):
        run(net, SGD)


@pytest.mark.parametrize(("rows", "ends"), [(2048, False), (64, True), (300, True)])
def test_a_stream_that_ends_within_the_run_gives_no_more(rows: int, ends: bool) -> None:
    net = Net(mlp(), table())
    net.data = Table(table(rows), endless=True)
    with unchanged(net.model):
        assert (len(looks(net, SGD)) < 2) == ends
