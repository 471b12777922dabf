"""Steps towards a checkpoint: shrink, train, converge, split units, tie them, plant a saddle."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, pairwise

import torch
from torch import Tensor, nn

from bsadvisor.target.second_moments import find_second_moments
from tests.benchmarks.saddles.models import MLP, Planted
from tests.benchmarks.saddles.problem import SaddleTask, Step, training


def shrunk(factor: float, *, biases: float = 0.0) -> Step:
    """Near-zero weights: matrices times `factor`, vectors times `biases`."""

    def step(task: SaddleTask) -> SaddleTask:
        with torch.no_grad():
            for parameter in task.model.parameters():
                parameter.mul_(factor if parameter.dim() > 1 else biases)
        return task

    return step


def trained(steps: int, *, seed: int = 0) -> Step:
    """Train with the case's own optimizer and pair, and keep the optimizer's state."""

    def step(task: SaddleTask) -> SaddleTask:
        stepper = task.pair.stepper(task.model)
        for _ in islice(training(task, task.model, stepper, seed), steps):
            pass
        stepper.zero_grad()
        own = find_second_moments(task.pair.optimizer.lower(), task.model, stepper, None)
        return replace(task, optimizer_state=stepper.state_dict(), preconditioner=own.preconditioner)

    return step


def descended(steps: int, rate: float, *, momentum: float = 0.9, until: float = 0.0) -> Step:
    """Full-batch descent with momentum, at most `steps`, stopped where the loss is below `until`."""

    def step(task: SaddleTask) -> SaddleTask:
        stepper = torch.optim.SGD(task.model.parameters(), lr=rate, momentum=momentum)
        for _ in range(steps):
            stepper.zero_grad()
            loss = task.loss((task.inputs, task.targets))
            if float(loss.detach()) < until:
                break
            loss.backward()
            stepper.step()
        stepper.zero_grad()
        return task

    return step


def converged(steps: int = 300) -> Step:
    """Full-batch L-BFGS until its gradient or its progress vanishes."""

    def step(task: SaddleTask) -> SaddleTask:
        solver = torch.optim.LBFGS(
            task.model.parameters(),
            max_iter=steps,
            history_size=20,
            tolerance_grad=1e-7,
            tolerance_change=1e-10,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            solver.zero_grad()
            loss = task.loss((task.inputs, task.targets))
            loss.backward()
            return loss

        solver.step(closure)
        solver.zero_grad()
        return task

    return step


def split(copies: int, *, share: float | None = None, jitter: float = 0.0, dropout: float = 0.0) -> Step:
    """Replace each hidden unit of a two-layer net by copies that share its outgoing weight: the same function.

    With two copies, `share` is the first one's part, for all units; else the parts are drawn.
    """

    def step(task: SaddleTask) -> SaddleTask:
        layers = list(task.model.children())
        first, activation, second = layers[0], layers[1], layers[-1]
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        parts = torch.rand(copies, first.out_features) + 0.2
        parts = parts / parts.sum(0)
        if share is not None:
            parts = torch.stack([torch.full_like(parts[0], share), torch.full_like(parts[0], 1 - share)])
        sizes = (first.in_features, copies * first.out_features, second.out_features)
        wide = MLP(sizes, lambda: activation, dropout=dropout)
        wide.load_state_dict(
            {
                "0.weight": first.weight.repeat(copies, 1),
                "0.bias": first.bias.repeat(copies),
                f"{len(wide) - 1}.weight": torch.cat([second.weight * part for part in parts], 1),
                f"{len(wide) - 1}.bias": second.bias,
            }
        )
        return replace(task, model=_shaken(wide, jitter))

    return step


def _shaken(model: nn.Module, jitter: float, word: str = "") -> nn.Module:
    """Noise on the parameters with a word in their name."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if word in name:
                parameter.add_(jitter * torch.randn_like(parameter))
    return model


def tied(jitter: float) -> Step:
    """Give all units of each hidden layer the first one's weights, but for a little noise."""

    def step(task: SaddleTask) -> SaddleTask:
        layers = [layer for layer in task.model.modules() if isinstance(layer, nn.Linear)]
        with torch.no_grad():
            for layer, after in pairwise(layers):
                layer.weight.copy_(layer.weight[:1].expand_as(layer.weight).clone())
                layer.bias.copy_(layer.bias[:1].expand_as(layer.bias).clone())
                after.weight.copy_(after.weight[:, :1].expand_as(after.weight).clone())
        return replace(task, model=_shaken(task.model, jitter))

    return step


def asleep(word: str, steps: int, jitter: float) -> Step:
    """Converge with the matrices of this name at zero, then wake them by a little noise.

    Two factors that are both zero get no gradient: query and key, say.
    """

    def step(task: SaddleTask) -> SaddleTask:
        with torch.no_grad():
            for name, parameter in task.model.named_parameters():
                if word in name:
                    parameter.zero_()
        task = converged(steps)(task)
        return replace(task, model=_shaken(task.model, jitter, word))

    return step


def planted(height: float, noise: float) -> Step:
    """Add two parameters at the saddle of a term of their own."""

    def step(task: SaddleTask) -> SaddleTask:
        centre = task.inputs[:, 0].mean()
        return replace(task, model=Planted(task.model, height=height, noise=noise, centre=centre))

    return step


def saturated(shift: float) -> Step:
    """Move the biases of the first linear layer: units that no example reaches any more."""

    def step(task: SaddleTask) -> SaddleTask:
        first = next(layer for layer in task.model.modules() if isinstance(layer, nn.Linear))
        with torch.no_grad():
            first.bias.add_(shift)
        return task

    return step
