"""Both ends of a symmetric operator's spectrum by the Lanczos iteration, on the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bsadvisor.measure.norms import check_finite, inner_product, squared_norm
from bsadvisor.theory.noise_scale import Array

Product = Callable[[Tensor, Tensor], object]
"""Adds H v of its first argument to its second."""

BREAKDOWN = 8.0
"""A new direction so many roundings of the operator's norm long is rounding: the space is exhausted."""


LEAST_ITERATIONS = 12
"""Before, a residual can be small because the start hardly points along the eigenvector that is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RitzPair:
    """An approximate eigenpair; `value` is biased outwards where the operator is a sample's Hessian."""

    value: float
    vector: Tensor
    """(P,), of length one; empty where it was let go."""
    residual: float
    """|Hv - value v|: some eigenvalue is at most this far away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extremes:
    """The two ends."""

    lowest: RitzPair
    highest: RitzPair
    iterations: int
    """Products that were made."""

    def without_vectors(self) -> Extremes:
        """The figures alone."""
        ends = (replace(pair, vector=pair.vector.new_empty(0)) for pair in (self.lowest, self.highest))
        lowest, highest = ends
        return replace(self, lowest=lowest, highest=highest)


def lanczos(
    product: Product,
    start: Callable[[], Tensor],
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
        product: adds H v of a (P,) vector to another.
        start: makes a (P,) vector of any length but zero, the same at every call; it is overwritten.
        tolerance: on the residual of the highest pair, relative to the largest |eigenvalue|; on that of the
            lowest, ten times as much relative to its own value, or a thousandth of the former.
        should_stop: asked between products; what was found by then is returned, without a basis after
            as many products again.

    Returns:
        Ritz pairs with residuals as the recurrence estimates them; never outside the spectrum but by
        rounding.

    Source: Golub and Van Loan, Matrix Computations, section 10.1 (recurrence), 10.3 (orthogonalisation).
    Cost: `max_iterations` products and as many vectors; without a basis twice the products, 4 vectors.
        For as many products as accurate as ARPACK, which works on the host and keeps its basis
        (errors of both ends beside ours: `python -m tests.benchmarks.lanczos`).
    """
    recurrence = _Recurrence(product, start(), keep_basis)
    while recurrence.size < max_iterations and not recurrence.exhausted:
        if recurrence.size and (should_stop() or recurrence.converged(tolerance)):
            break
        recurrence.advance()
    values, vectors = recurrence.eigen()
    coefficients = vectors[:, [0, -1]]
    residuals = recurrence.residuals()
    iterations = recurrence.size if keep_basis else 2 * recurrence.size - 1
    if keep_basis:
        lowest, highest = recurrence.combine(coefficients)
    else:
        del recurrence  # its two directions make room
        lowest, highest = _repeated(product, start(), coefficients)
    return Extremes(
        lowest=_pair(values[0], lowest, residuals[0]),
        highest=_pair(values[-1], highest, residuals[1]),
        iterations=iterations,
    )


class _Recurrence:
    """H V = V T + beta w e': T is tridiagonal, V orthonormal."""

    def __init__(self, product: Product, start: Tensor, keep_basis: bool) -> None:
        self._product = product
        self._basis: list[Tensor] | None = [] if keep_basis else None
        self._previous: Tensor | None = None
        self.current = start.div_(math.sqrt(squared_norm(start)))
        self._diagonal: list[float] = []
        self._off_diagonal: list[float] = []
        self.exhausted = False

    @property
    def size(self) -> int:
        return len(self._diagonal)

    def advance(self) -> None:
        """One more product."""
        current = self.current
        if self._basis is not None:
            self._basis.append(current)
        image = self._start_of_image()
        self._product(current, image)
        along = inner_product(current, image)
        check_finite(along)
        image.sub_(current, alpha=along)
        for _ in range(2):
            for direction in self._basis or ():
                image.addcmul_(direction, direction @ image, value=-1.0)
        self._diagonal.append(along)
        length = math.sqrt(squared_norm(image))
        self._off_diagonal.append(length)
        rounding = BREAKDOWN * torch.finfo(image.dtype).eps * self.norm()
        self.exhausted = length <= rounding or self.size == len(image)
        if not self.exhausted:
            self._previous, self.current = current, image.div_(length)

    def _start_of_image(self) -> Tensor:
        """-beta times the last direction but one, in its place where nobody keeps that."""
        if self._previous is None:
            return torch.zeros_like(self.current)
        previous = self._previous if self._basis is None else self._previous.clone()
        return previous.mul_(-self._off_diagonal[-1])

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

    def converged(self, tolerance: float) -> bool:
        """Whether both ends are as accurate as asked."""
        if self.size < LEAST_ITERATIONS:
            return False
        lowest, (low, high) = abs(self.eigen()[0][0]), self.residuals()
        enough = max(10 * tolerance * lowest, tolerance / 1000 * self.norm())
        return bool(low <= enough and high <= tolerance * self.norm())

    def combine(self, coefficients: Array) -> list[Tensor]:
        """V times each column."""
        sums = [torch.zeros_like((self._basis or [])[0]) for _ in coefficients.T]
        for direction, row in zip(self._basis or (), coefficients, strict=True):
            _add(sums, direction, row)
        return sums


def _repeated(product: Product, start: Tensor, coefficients: Array) -> list[Tensor]:
    """V times each column, with V made anew one vector at a time."""
    second = _Recurrence(product, start, keep_basis=False)
    sums = [torch.zeros_like(second.current) for _ in coefficients.T]
    for at, row in enumerate(coefficients):
        _add(sums, second.current, row)
        if at + 1 < len(coefficients):
            second.advance()
    return sums


def _add(sums: list[Tensor], direction: Tensor, coefficients: Array) -> None:
    for total, coefficient in zip(sums, coefficients, strict=True):
        total.add_(direction, alpha=float(coefficient))


def _pair(value: float, vector: Tensor, residual: float) -> RitzPair:
    return RitzPair(
        value=float(value), vector=vector.div_(math.sqrt(squared_norm(vector))), residual=float(residual)
    )
