"""Branches are what a plain training loop does, one after the other or all at once, and are taken back."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from bsadvisor.measure.branches import Branch, Ground, SequentialBranches
from bsadvisor.measure.epochs import Epochs
from bsadvisor.measure.stacked_branches import StackedBranches, branches_for, stacking
from bsadvisor.target.data import DataSource, make_source
from bsadvisor.target.user_code import UserCode

Make = Callable[[Any, float], torch.optim.Optimizer]

ROWS, BATCH = 96, 8

OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda parameters, rate: torch.optim.SGD(parameters, lr=rate),
    "momentum": lambda parameters, rate: torch.optim.SGD(
        parameters, lr=rate, momentum=0.9, weight_decay=0.01
    ),
    "nesterov": lambda parameters, rate: torch.optim.SGD(parameters, lr=rate, momentum=0.9, nesterov=True),
    "adamw": lambda parameters, rate: torch.optim.AdamW(parameters, lr=rate, weight_decay=0.1),
    "rmsprop": lambda parameters, rate: torch.optim.RMSprop(parameters, lr=rate, momentum=0.5),
}


@dataclass(kw_only=True)
class Problem:
    """A small classifier of random rows."""

    model: nn.Module
    reduction: str = "mean"
    preconditioner: None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        torch.manual_seed(1)
        self.rows = torch.randn(ROWS, 6), torch.arange(ROWS) % 3
        self.data: DataSource = make_source(
            TensorDataset(*self.rows), code=UserCode(notify=print), device=self.device
        )

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    def loss(self, batch: Sequence[Tensor], *, full_precision: bool = False) -> Tensor:
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def weight(self, batch: Any) -> int | None:
        return len(batch[0])

    def labels(self, batch: Any) -> Tensor | None:
        return None


@dataclass(kw_only=True)
class Trainer:
    """An optimizer that has taken a few steps already."""

    model: nn.Module
    make: Make
    clip_grad_norm: float | None = None
    state: dict[str, Any] | None = None
    factors: list[float] = field(default_factory=list)

    def optimizer(self, learning_rate: float, *, batch_factor: float = 1.0) -> torch.optim.Optimizer:
        self.factors.append(batch_factor)
        made = self.make(self.model.parameters(), learning_rate)
        if self.state is not None:
            state = {**copy.deepcopy(self.state), "param_groups": made.state_dict()["param_groups"]}
            made.load_state_dict(state)
        return made


def mlp(*middle: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), *middle, nn.Tanh(), nn.Linear(8, 3))


def ground(kind: str = "momentum", model: nn.Module | None = None, **options: Any) -> Ground:
    problem = Problem(model=model or mlp())
    clip = options.pop("clip_grad_norm", None)
    trainer = Trainer(model=problem.model, make=OPTIMIZERS[kind], clip_grad_norm=clip)
    settings: dict[str, Any] = {
        "batch_in_use": BATCH,
        "examples": range(ROWS),
        "evaluation": list(problem.data.fetch([range(48), range(48, 96)])),
        "evaluated": ROWS,
        "micro_batch": 4096,
        "token_mean": False,
        "seed": 0,
        **options,
    }
    made = Ground(problem=problem, trainer=trainer, **settings)
    earlier = OPTIMIZERS[kind](problem.model.parameters(), 0.01)
    for step in range(3):
        problem.loss([part[8 * step : 8 * step + 8] for part in problem.rows]).backward()
        earlier.step()
        earlier.zero_grad()
    trainer.state = earlier.state_dict()
    return made


def plain_loop(
    ground: Ground, kind: str, rate: float, seed: int, steps: int, batch: int = BATCH
) -> nn.Module:
    """The oracle: torch's optimizer on a copy of the model."""
    problem: Any = ground.problem
    trainer: Any = ground.trainer
    model: nn.Module = copy.deepcopy(problem.model)
    optimizer = OPTIMIZERS[kind](model.parameters(), rate)
    state = {**copy.deepcopy(trainer.state), "param_groups": optimizer.state_dict()["param_groups"]}
    optimizer.load_state_dict(state)
    order = Epochs(range(ROWS), seed)
    inputs, targets = problem.rows
    for step in range(steps):
        picks = torch.as_tensor(order.batch(step, batch))
        nn.functional.cross_entropy(model(inputs[picks]), targets[picks]).backward()
        if trainer.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), trainer.clip_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    return model


def loss_of(ground: Ground, model: nn.Module) -> float:
    inputs, targets = ground.problem.rows  # type: ignore[attr-defined]
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(inputs), targets))


def stacked(ground: Ground, branches: Sequence[Branch], batch_size: int) -> StackedBranches:
    many = stacking(ground)
    assert many is not None
    return StackedBranches(ground, many, branches, batch_size)


BRANCHES = [Branch(learning_rate=rate, seed=seed) for rate in (0.01, 0.02, 0.05) for seed in (3, 4)]


@pytest.mark.parametrize("clip", [None, 0.1])
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("engine", [SequentialBranches, stacked])
def test_a_branch_is_a_plain_training_loop(engine: Any, kind: str, clip: float | None) -> None:
    on = ground(kind, clip_grad_norm=clip)
    with on.opened():
        branches = engine(on, BRANCHES, BATCH)
        branches.advance(7)
        branches.advance(13)
        found = branches.losses()
    wanted = [loss_of(on, plain_loop(on, kind, one.learning_rate, one.seed, 20)) for one in BRANCHES]
    assert found == pytest.approx(wanted, rel=2e-5)


@pytest.mark.parametrize("engine", [SequentialBranches, stacked])
def test_the_runs_that_are_kept_go_on_as_if_nothing_had_happened(engine: Any) -> None:
    on = ground("adamw")
    with on.opened():
        branches = engine(on, BRANCHES, BATCH)
        branches.advance(5)
        branches.keep([1, 4])
        branches.advance(10)
        found = branches.losses()
    wanted = [
        loss_of(on, plain_loop(on, "adamw", BRANCHES[place].learning_rate, BRANCHES[place].seed, 15))
        for place in (1, 4)
    ]
    assert found == pytest.approx(wanted, rel=2e-5)


def test_micro_batches_add_up_to_the_batch() -> None:
    """Of 5, 5 and 6 examples, and of 4 each."""
    on = ground(micro_batch=5)
    with on.opened():
        branches = branches_for(on, BRANCHES, 16, stacking(on))
        assert isinstance(branches, SequentialBranches), "stacked runs take their batch in one piece"
        branches.advance(6)
        found = branches.losses()
    wanted = [loss_of(on, plain_loop(on, "momentum", b.learning_rate, b.seed, 6, 16)) for b in BRANCHES]
    assert found == pytest.approx(wanted, rel=2e-5)
    on = ground(micro_batch=4, token_mean=True)
    with on.opened():
        weighted = SequentialBranches(on, BRANCHES, 16)
        weighted.advance(6)
        assert weighted.losses() == pytest.approx(wanted, rel=2e-5)


def test_averages_forget_after_the_same_number_of_examples() -> None:
    on = ground("adamw")
    on.optimizer(0.1, 4 * BATCH)
    assert on.trainer.factors[-1] == 4  # type: ignore[attr-defined]
    on.batch_in_use = None
    on.optimizer(0.1, 4 * BATCH)
    assert on.trainer.factors[-1] == 1  # type: ignore[attr-defined]


def test_everything_is_as_before_afterwards() -> None:
    on = ground(model=mlp(nn.BatchNorm1d(8), nn.Dropout(0.5)))
    model = on.problem.model
    before = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    with on.opened():
        branches = SequentialBranches(on, BRANCHES[:2], BATCH)
        branches.advance(4)
        assert on.loss() != on.start_loss()
        again = SequentialBranches(on, BRANCHES[:2], BATCH)
        again.advance(4)
        assert again.losses() == branches.losses()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_warm_up_moves_the_start_and_fills_the_state() -> None:
    on = ground("adamw")
    on.trainer.state = None  # type: ignore[attr-defined]
    with on.opened():
        before = on.start_loss()
        on.warm_up(5, 0.02, BATCH)
        assert on.start_loss() < before
        assert on.optimizer(0.1, BATCH).state_dict()["state"][0]["step"] == 5


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (nn.BatchNorm1d(8), "buffers"),
        (nn.Dropout(0.5), "random numbers"),
    ],
)
def test_what_cannot_be_stacked_is_run_one_after_the_other(layer: nn.Module, why: str) -> None:
    assert stacking(ground(model=mlp(layer))) is None, why


def test_a_plain_network_is_stacked_when_there_are_many_runs() -> None:
    on = ground()
    with on.opened():
        many = stacking(on)
        assert isinstance(branches_for(on, BRANCHES, BATCH, many), StackedBranches)
        assert isinstance(branches_for(on, BRANCHES[:2], BATCH, many), SequentialBranches)


class Branching(nn.Module):
    """Looks at its data, which stacked runs cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, rows: Tensor) -> Tensor:
        found: Tensor = self.layer(rows) * (2.0 if rows.sum().item() > 0 else 1.0)
        return found


def test_a_model_that_looks_at_its_data_is_not_stacked() -> None:
    assert stacking(ground(model=Branching())) is None


def test_many_runs_at_once_are_faster() -> None:
    """The benchmark has the figure; here only that there is a gain, on whatever else the machine does."""
    on = ground("momentum")
    many = [Branch(learning_rate=0.01 * 1.1**k, seed=k % 3) for k in range(30)]
    with on.opened():
        seconds: dict[Any, float] = {}
        for engine in (SequentialBranches, stacked):
            branches: Any = engine(on, many, BATCH)
            branches.advance(2)
            seconds[engine] = min(_timed(branches) for _ in range(3))
    assert seconds[stacked] < seconds[SequentialBranches]


def _timed(branches: Any) -> float:
    began = time.perf_counter()
    branches.advance(4)
    return time.perf_counter() - began


# --- the order of the data ----------------------------------------------------------------------


def test_every_epoch_holds_every_example_once() -> None:
    order = Epochs(range(10), 5)
    read = [number for step in range(10) for number in order.batch(step, 3)]
    for epoch in range(3):
        assert sorted(read[10 * epoch : 10 * epoch + 10]) == list(range(10))
    assert read[:10] != read[10:20]


def test_the_order_is_the_same_for_every_batch_size() -> None:
    small, large = Epochs(range(10), 5), Epochs(range(10), 5)
    read = [number for step in range(8) for number in small.batch(step, 3)]
    assert read == [number for step in range(3) for number in large.batch(step, 8)]


def test_a_batch_may_be_larger_than_an_epoch() -> None:
    batch = list(Epochs(range(4), 0).batch(1, 6))
    assert len(batch) == 6 and set(batch) <= set(range(4))


def test_seeds_differ() -> None:
    assert list(Epochs(range(50), 1).batch(0, 50)) != list(Epochs(range(50), 2).batch(0, 50))
    assert math.isclose(sum(Epochs(range(50), 1).batch(0, 50)), sum(range(50)))
