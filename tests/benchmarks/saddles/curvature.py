"""The extreme curvatures of the loss over all the data, by Lanczos in float64 on exact products."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests.benchmarks.saddles.problem import SaddleTask

LANCZOS_STEPS = 120
"""At most; the residual that is left is stored."""

CLOSE = 1e-4
"""Residual of both ends, as part of the larger, at which Lanczos stops."""


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """At a checkpoint, on all examples; dropout is off."""

    loss: float
    gradient_norm: float
    lambda_min: float
    residual: float
    """|H v - lambda_min v|: there is an eigenvalue within it, and none is above v'Hv at the low end."""
    lambda_max: float

    @property
    def negative(self) -> bool:
        """v'Hv < 0 beyond rounding: as lambda_min <= v'Hv, this is a certificate."""
        return self.lambda_min < -1e-6 * max(abs(self.lambda_max), 1e-12)


def quiet(model: nn.Module) -> nn.Module:
    """A copy without dropout; BatchNorm stays in training mode."""
    model = deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return model


def measure(task: SaddleTask) -> Curvature:
    """Loss, gradient and both ends of the spectrum."""
    model = quiet(task.model).double()
    rows = [part.double() if part.is_floating_point() else part for part in (task.inputs, task.targets)]
    parameters = list(model.parameters())
    with sdpa_kernel(SDPBackend.MATH):
        loss = task.loss_of(model, rows)
        gradient = _flat(torch.autograd.grad(loss, parameters, create_graph=True))

        def times(vector: Tensor) -> Tensor:
            return _flat(torch.autograd.grad(gradient @ vector, parameters, retain_graph=True))

        low, residual, high = extremes(times, len(gradient))
    return Curvature(
        loss=float(loss.detach()),
        gradient_norm=float(gradient.detach().norm()),
        lambda_min=low,
        residual=residual,
        lambda_max=high,
    )


def _flat(parts: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def extremes(times: Callable[[Tensor], Tensor], size: int) -> tuple[float, float, float]:
    """The lowest Ritz value, its residual, and the highest Ritz value of a symmetric matrix.

    Every new vector is made orthogonal to all before it, twice.
    """
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(size, generator=generator, dtype=torch.float64)
    basis, diagonal, beside = [vector / vector.norm()], [], []
    for step in range(min(LANCZOS_STEPS, size)):
        product = times(basis[-1])
        diagonal.append(float(product @ basis[-1]))
        stack = torch.stack(basis)
        for _ in range(2):
            product = product - stack.T @ (stack @ product)
        beside.append(float(product.norm()))
        values, residuals = _ritz(diagonal, beside)
        largest = float(values.abs().max())
        near = step >= 20 and float(residuals[[0, -1]].max()) <= CLOSE * largest
        if near or beside[-1] <= 1e-12 * largest:
            break
        basis.append(product / beside[-1])
    return float(values[0]), float(residuals[0]), float(values[-1])


def _ritz(diagonal: list[float], beside: list[float]) -> tuple[Tensor, Tensor]:
    """Eigenvalues of the tridiagonal matrix, and their residuals in the full one."""
    off = torch.diag(torch.tensor(beside[:-1], dtype=torch.float64), 1)
    middle = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    values, vectors = torch.linalg.eigh(middle + off + off.T)
    return values, (beside[-1] * vectors[-1]).abs()
