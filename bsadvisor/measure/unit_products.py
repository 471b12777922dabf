"""What B_noise is computed from: products g'Hg' of gradients and Hessians of disjoint micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bsadvisor.measure.hessian import Products
from bsadvisor.measure.norms import check_finite, inner_product, squared_norm
from bsadvisor.measure.sketch import Sketch
from bsadvisor.theory.curvature_noise import CurvatureProducts


class Multiplies(Protocol):
    """A Hessian, or the Gauss-Newton matrix."""

    def multiply(self, batch: Any, number: int, vectors: Sequence[Tensor]) -> Products: ...

    def gradient(self, batch: Any, number: int) -> Tensor: ...


def unit_products(
    matrix: Multiplies,
    batches: Sequence[Any],
    *,
    examples: int,
    sizes: Sequence[int],
    seed: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> CurvatureProducts | None:
    """Multiply each micro-batch's Hessian with its neighbour's gradient.

    The Hessian of every product is that of other examples than its gradients, so that all are unbiased
    and their scatter holds the sampling of the Hessian too.

    Args:
        matrix: in the geometry that is asked for.
        batches: K of them.
        examples: of each.
        sizes: elements of each parameter, for the sketch.
        seed: of the sketch.
        should_stop: asked before every micro-batch.

    Returns:
        None where `should_stop` said so.

    Raises:
        FloatingPointError: a gradient or product is not finite.

    Source: theory/curvature_noise.py.
    Cost: one gradient and one product per micro-batch; five vectors.
    """
    partner = matrix.gradient(batches[0], 0)
    collected = _Collected(like=partner, sizes=sizes, seed=seed)
    for number in reversed(range(len(batches))):
        if should_stop():
            return None
        found = matrix.multiply(batches[number], number, [partner])
        collected.add(found.gradient, found.products[0], partner)
        partner = found.gradient
        del found  # with its product, before the next one is made
    return collected.products(examples)


class _Collected:
    """Running sums, exact neighbours and sketches, from the last micro-batch to the first."""

    def __init__(self, *, like: Tensor, sizes: Sequence[int], seed: int) -> None:
        self._sizes = list(sizes)
        self._sketch = Sketch(sizes, seed=seed, device=like.device)
        self._gradients, self._products = torch.zeros_like(like), torch.zeros_like(like)
        self._gradient_rows: list[Tensor] = []
        self._product_rows: list[Tensor] = []
        self._own: list[float] = []
        self._next: list[float] = []
        self._norms: list[float] = []

    def add(self, gradient: Tensor, product: Tensor, partner: Tensor) -> None:
        self._gradients += gradient
        self._products += product
        self._gradient_rows.append(self._row(gradient))
        self._product_rows.append(self._row(product))
        self._own.append(inner_product(product, gradient))
        self._next.append(inner_product(product, partner))
        self._norms.append(squared_norm(gradient))
        check_finite(self._own[-1], self._next[-1], self._norms[-1])

    def products(self, examples: int) -> CurvatureProducts:
        gradients, products = (torch.stack(rows[::-1]) for rows in (self._gradient_rows, self._product_rows))
        crossed, gram = ((rows @ gradients.T).numpy() for rows in (products, gradients))
        units = np.arange(len(gram))
        crossed[units, units] = self._own[::-1]
        crossed[units, (units + 1) % len(units)] = self._next[::-1]
        gram[units, units] = self._norms[::-1]
        return CurvatureProducts(
            products=crossed,
            summed_product=inner_product(self._products, self._gradients),
            gram=gram,
            summed_squared_norm=squared_norm(self._gradients),
            examples=examples,
        )

    def _row(self, vector: Tensor) -> Tensor:
        return self._sketch.of(vector.float().split(self._sizes)).cpu().double()
