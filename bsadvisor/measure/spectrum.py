"""The ends of the Hessian's spectrum: sought on some examples, judged on others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bsadvisor.measure.escape_direction import AlongDirection, along_directions
from bsadvisor.measure.hessian import Hessian
from bsadvisor.measure.lanczos import Extremes, lanczos
from bsadvisor.theory.noise_scale import Array

TOLERANCE = 1e-2
"""Of the Lanczos residuals, relative to the largest |eigenvalue|."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Micro-batches of equal size, in two disjoint lists."""

    direction: list[Any]
    certificate: list[Any]
    micro_batch: int
    iterations: int
    """Of Lanczos, at most."""

    @property
    def is_enough(self) -> bool:
        """For a direction, and for an error of what holds along it."""
        return len(self.direction) >= 1 and len(self.certificate) >= 2

    @property
    def direction_examples(self) -> int:
        return len(self.direction) * self.micro_batch

    @property
    def certificate_examples(self) -> int:
        return len(self.certificate) * self.micro_batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """Both ends on the direction sample, and along the same directions on the certificate sample."""

    sample: Sample
    extremes: Extremes
    """Without the vectors: those are in the next two, as displacements."""
    lowest: AlongDirection
    highest: AlongDirection
    traces: Array
    """(K,): of the certificate micro-batches, by random signs."""

    @property
    def error_ratio(self) -> float:
        """Sampling error on the direction sample over that on the certificate sample."""
        return math.sqrt(self.sample.certificate_examples / self.sample.direction_examples)

    def lean(self, *, keep_lowest: bool) -> Spectrum:
        """The figures alone, with the displacement of the lower end where it is still of use."""
        lowest = self.lowest if keep_lowest else self.lowest.without_vector()
        return replace(self, lowest=lowest, highest=self.highest.without_vector())


def find_spectrum(
    hessian: Hessian,
    sample: Sample,
    *,
    keep_basis: bool,
    seed: int,
    enough: Callable[[], bool] = lambda: False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Spectrum | None:
    """Lanczos on the direction sample, then curvatures along both eigenvectors on the certificate sample.

    Args:
        hessian: in the geometry that is asked for.
        keep_basis: of Lanczos.
        seed: of its starting vector.
        enough: ends Lanczos early.
        should_stop: ends everything.

    Returns:
        None where `should_stop` said so before the end.

    Cost: one product per iteration over the direction sample (two without a basis), and a gradient with
        three products over the certificate sample.
    """

    def start() -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(hessian.num_parameters, generator=generator).to(hessian.like)

    def add_mean_product(vector: Tensor, total: Tensor) -> None:
        direction = hessian.displacement(vector)
        for number, batch in enumerate(sample.direction):
            hessian.add_product(total, batch, number, direction, share=1 / len(sample.direction))

    extremes = lanczos(
        add_mean_product,
        start,
        max_iterations=sample.iterations,
        tolerance=TOLERANCE,
        keep_basis=keep_basis,
        should_stop=enough,
    )
    along = along_directions(
        hessian,
        sample.certificate,
        [extremes.lowest.vector, extremes.highest.vector],
        examples=sample.micro_batch,
        first_number=len(sample.direction),
        should_stop=should_stop,
    )
    if along is None:
        return None
    (lowest, highest), traces = along
    return Spectrum(
        sample=sample, extremes=extremes.without_vectors(), lowest=lowest, highest=highest, traces=traces
    )
