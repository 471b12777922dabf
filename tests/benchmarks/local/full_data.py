"""Loss, gradient and curvature of a checkpoint over all of its data."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tests.benchmarks.tasks import Task

CHUNK = 500
"""Examples of one pass: they fit in the processor's cache."""

FLOAT64_PARAMETERS = 3000
"""Larger models stay in float32, whose rounding here is below 1e-4 of any decrease at the best step."""


@dataclass(frozen=True, kw_only=True)
class Curvature:
    """Of the loss over all data along the updates D g of one example, whose mean is D G."""

    slope: float
    """G'DG."""
    along_gradient: float
    """G'DHDG."""
    of_noise: float
    """tr(DHD Sigma)."""
    of_noise_error: float
    """Standard error of `of_noise`."""

    @property
    def noise_scale(self) -> float:
        """B_noise."""
        return self.of_noise / self.along_gradient

    @property
    def learning_rate(self) -> float:
        """eta_max of the quadratic model."""
        return self.slope / self.along_gradient


@dataclass(frozen=True, kw_only=True)
class FullData:
    """A private copy of a task, moved by steps along flat vectors."""

    task: Task
    origin: Tensor
    scale: Tensor
    """D, flat."""

    @property
    def size(self) -> int:
        return len(self.task.inputs)

    def loss(self, step: Tensor) -> float:
        """The mean loss over all data at theta - step."""
        vector_to_parameters(self.origin - step, self.task.model.parameters())
        with torch.no_grad():
            losses = [float(self._mean_loss(rows)) * len(rows) for rows in self._chunks()]
        vector_to_parameters(self.origin, self.task.model.parameters())
        return sum(losses) / self.size

    def gradient(self, rows: Tensor) -> Tensor:
        """The mean gradient over `rows`."""
        total = torch.zeros_like(self.origin)
        for chunk in rows.split(CHUNK):
            grads = torch.autograd.grad(self._mean_loss(chunk), list(self.task.model.parameters()))
            total += parameters_to_vector(grads) * (len(chunk) / len(rows))
        return total

    def update(self, rows: Tensor) -> Tensor:
        """D times the mean gradient over `rows`."""
        return self.scale * self.gradient(rows)

    def curvature_along(self, vector: Tensor) -> float:
        """v'Hv over all data."""
        total = 0.0
        parameters = list(self.task.model.parameters())
        with sdpa_kernel(SDPBackend.MATH):
            for rows in self._chunks():
                grads = torch.autograd.grad(self._mean_loss(rows), parameters, create_graph=True)
                slope = torch.cat([grad.flatten() for grad in grads]) @ vector
                product = torch.cat([part.flatten() for part in torch.autograd.grad(slope, parameters)])
                total += float(product @ vector) * len(rows) / self.size
        return total

    def curvature(self, draws: int) -> Curvature:
        """Both curvatures; that of the noise exactly, or from `draws` random sign combinations if not 0."""
        rows = torch.arange(self.size)
        gradient = self.gradient(rows)
        noises = (
            (self._signed_noise(gradient, seed) for seed in range(draws))
            if draws
            else (self.scale * (self.gradient(row) - gradient) for row in rows.split(1))
        )
        found = torch.tensor([self.curvature_along(noise) for noise in noises])
        return Curvature(
            slope=float(gradient @ (self.scale * gradient)),
            along_gradient=self.curvature_along(self.scale * gradient),
            of_noise=float(found.mean()),
            of_noise_error=float(found.std()) / math.sqrt(draws) if draws else 0.0,
        )

    def _signed_noise(self, gradient: Tensor, seed: int) -> Tensor:
        """D sum(s_i (g_i - G)) / sqrt(N) with random signs s: its covariance is D Sigma D."""
        generator = torch.Generator().manual_seed(seed)
        plus = torch.rand(self.size, generator=generator) < 0.5
        ups, downs = plus.nonzero().flatten(), (~plus).nonzero().flatten()
        signed = len(ups) * (self.gradient(ups) - gradient) - len(downs) * (self.gradient(downs) - gradient)
        return self.scale * signed / math.sqrt(self.size)

    def _chunks(self) -> Sequence[Tensor]:
        chunks: Sequence[Tensor] = torch.arange(self.size).split(CHUNK)
        return chunks

    def _mean_loss(self, rows: Tensor) -> Tensor:
        return self.task.loss((self.task.inputs[rows], self.task.targets[rows]))


def full_data(task: Task) -> FullData:
    """In float64 where that is cheap; sums over chunks always are."""
    dtype = torch.float64 if task.num_parameters <= FLOAT64_PARAMETERS else torch.float32
    inputs = task.inputs.to(dtype) if task.inputs.is_floating_point() else task.inputs
    model = copy.deepcopy(task.model).to(dtype)
    own = replace(task, model=model, inputs=inputs)
    origin = parameters_to_vector(model.parameters()).detach().clone()
    scale = torch.ones_like(origin)
    if task.preconditioner is not None:
        scale = torch.cat([task.preconditioner[name].flatten() for name in own.parameters]).to(dtype)
    return FullData(task=own, origin=origin, scale=scale)
