"""Both ends of a symmetric operator's spectrum by the Lanczos iteration, on the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bsadvisor.theory.noise_scale import Array

Product = Callable[[Tensor], Tensor]

BREAKDOWN = 1e-6
"""A new direction this much shorter than the operator's norm is rounding: the space is exhausted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RitzPair:
    """An approximate eigenpair; `value` is biased outwards where the operator is a sample's Hessian."""

    value: float
    vector: Tensor
    """(P,), of length one."""
    residual: float
    """|Hv - value v|: some eigenvalue is at most this far away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extremes:
    """The two ends."""

    lowest: RitzPair
    highest: RitzPair
    iterations: int


def lanczos(
    product: Product,
    start: Tensor,
    *,
    max_iterations: int,
    tolerance: float,
    keep_basis: bool,
    should_stop: Callable[[], bool] = lambda: False,
) -> Extremes:
    """The extreme eigenpairs of the operator behind `product`.

    With the basis kept, each new direction is orthogonalised against all of it twice. Without, the
    three-term recurrence runs twice, the second time to add up the two vectors: rounding then makes
    copies of converged eigenvalues, which the ends of the spectrum do not mind.

    Args:
        product: H v of a (P,) vector.
        start: (P,), any length but zero.
        tolerance: on the residuals, relative to the largest |eigenvalue|.
        should_stop: asked between products; what was found by then is returned.

    Returns:
        Ritz pairs with residuals as the recurrence estimates them; never outside the spectrum but by
        rounding.

    Source: Golub and Van Loan, Matrix Computations, section 10.1 (recurrence), 10.3 (orthogonalisation).
    Cost: `max_iterations` products and as many vectors; without a basis twice the products, 5 vectors.
    """
    recurrence = _Recurrence(product, start, keep_basis)
    while recurrence.size < max_iterations and not recurrence.exhausted:
        if recurrence.size and (
            should_stop() or recurrence.residuals().max() <= tolerance * recurrence.norm()
        ):
            break
        recurrence.advance()
    values, vectors = recurrence.eigen()
    coefficients = vectors[:, [0, -1]]
    lowest, highest = (
        recurrence.combine(coefficients) if keep_basis else _again(product, start, coefficients, recurrence)
    )
    residuals = recurrence.residuals()
    return Extremes(
        lowest=_pair(values[0], lowest, residuals[0]),
        highest=_pair(values[-1], highest, residuals[1]),
        iterations=recurrence.size * (1 if keep_basis else 2),
    )


class _Recurrence:
    """H V = V T + beta w e': T is tridiagonal, V orthonormal."""

    def __init__(self, product: Product, start: Tensor, keep_basis: bool) -> None:
        self._product = product
        self._basis: list[Tensor] | None = [] if keep_basis else None
        self.previous: Tensor | None = None
        self.current = start / start.norm()
        self._diagonal: list[float] = []
        self._off_diagonal: list[float] = []
        self.exhausted = False

    @property
    def size(self) -> int:
        return len(self._diagonal)

    def advance(self) -> None:
        """One more product."""
        if self._basis is not None:
            self._basis.append(self.current)
        image = self._product(self.current)
        along = float(self.current @ image)
        if not math.isfinite(along):
            raise FloatingPointError("a product with the Hessian is not finite")
        image = image - along * self.current
        if self.previous is not None:
            image = image - self._off_diagonal[-1] * self.previous
        for _ in range(2 if self._basis is not None else 0):
            for direction in self._basis or ():
                image -= (direction @ image) * direction
        self._diagonal.append(along)
        length = float(image.norm())
        self._off_diagonal.append(length)
        self.exhausted = length <= BREAKDOWN * self.norm() or self.size == len(image)
        if not self.exhausted:
            self.previous, self.current = self.current, image / length

    def eigen(self) -> tuple[Array, Array]:
        """Eigenvalues of T in ascending order, and its eigenvectors in columns."""
        off = np.diag(self._off_diagonal[:-1], 1)
        values, vectors = np.linalg.eigh(np.diag(self._diagonal) + off + off.T)
        return values, vectors

    def norm(self) -> float:
        """Of the operator, as far as it has been seen."""
        return float(np.abs(self.eigen()[0]).max())

    def residuals(self) -> Array:
        """Of the lowest and the highest Ritz pair."""
        last = np.abs(self.eigen()[1][-1, [0, -1]])
        return np.asarray(last * (0.0 if self.exhausted else self._off_diagonal[-1]))

    def combine(self, coefficients: Array) -> list[Tensor]:
        """V times each column."""
        return [
            torch.stack([float(c) * v for c, v in zip(column, self._basis or (), strict=True)]).sum(0)
            for column in coefficients.T
        ]


def _again(product: Product, start: Tensor, coefficients: Array, first: _Recurrence) -> list[Tensor]:
    """V times each column, with V made anew one vector at a time."""
    second = _Recurrence(product, start, keep_basis=False)
    sums = [torch.zeros_like(start), torch.zeros_like(start)]
    for row in coefficients:
        for total, coefficient in zip(sums, row, strict=True):
            total.add_(second.current, alpha=float(coefficient))
        if second.size + 1 < first.size:
            second.advance()
    return sums


def _pair(value: float, vector: Tensor, residual: float) -> RitzPair:
    return RitzPair(value=float(value), vector=vector / vector.norm(), residual=float(residual))
