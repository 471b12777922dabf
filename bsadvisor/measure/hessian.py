"""Products of a micro-batch's Hessian with vectors, exact or by differences of gradients.

Vectors are flat: all parameters one after the other, in the order of `Problem.parameters`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel

from bsadvisor.errors import is_out_of_memory
from bsadvisor.measure.gradients import gradients_of
from bsadvisor.measure.norms import inner_product, squared_norm
from bsadvisor.measure.preserve import buffers_kept, moved
from bsadvisor.measure.problem import Problem
from bsadvisor.random_state import seed_everything

Method = Literal["exact", "finite_differences"]
Parts = Sequence[Tensor | None]
"""Shaped as the parameters; None where there is nothing."""

RELATIVE_STEP = {torch.float32: 5e-3, torch.float64: 1e-5}
"""Of a finite difference against the parameters' norm: about the cube root of the rounding error."""

AGREEMENT = 0.005
"""Relative difference of the two methods that is put down to the finite step."""

CHECKED_STEPS = (5e-3, 3e-4, 1e-4, 3e-5)
"""Relative steps at which they are compared: a small one seldom crosses a kink, a large one rounds less."""

ROUNDING = 3.0
"""Relative error of a gradient, in units of its type's precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """What one micro-batch gave."""

    gradient: Tensor
    """(P,), of the mean loss, in the scaled coordinates."""
    products: list[Tensor]
    """(P,) each: the Hessian times the vectors that were asked for."""


@dataclass(kw_only=True)
class Hessian:
    """Multiplies vectors with Hessians of single micro-batches.

    In an adaptive optimizer's geometry (`scale` = D^1/2) gradients are D^1/2 g and the Hessian is
    D^1/2 H D^1/2: what the optimizer's update -eta D g sees as plain gradient descent.

    Args:
        problem: weights in float32 at least; enter `double_backward_allowed` around all calls.
        seed: of dropout masks: a micro-batch is the same function at every call.
        divide_by: the examples of a micro-batch, where the loss is their sum.
        scale: (P,) or None.
        method: see `choose_method`.

    Source: Pearlmutter 1994 (the exact product).
    Cost: see `curvature.PASSES_PER_PRODUCT`; memory of a second graph and two copies of the parameters.
    """

    problem: Problem
    seed: int
    divide_by: int = 1
    scale: Tensor | None = None
    method: Method = "exact"
    relative_step: float | None = None
    """Of a finite difference, against the parameters' norm; None: by the parameters' type."""
    leaves: list[nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        self.leaves = list(self.problem.parameters.values())

    def multiply(self, batch: Any, number: int, vectors: Sequence[Tensor]) -> Products:
        """The gradient on a micro-batch, and its Hessian times each vector.

        Args:
            number: of the micro-batch: seeds its dropout masks.
            vectors: (P,) each, in the scaled coordinates.

        """
        found: list[Tensor] = []
        self.each(
            batch,
            number,
            [self.displacement(vector) for vector in vectors],
            gradient=lambda parts: found.append(self._flat_scaled(parts)),
            product=lambda index, parts: found.append(self._flat_scaled(parts)),
        )
        return Products(gradient=found[0], products=found[1:])

    def inner_products(
        self, batch: Any, number: int, directions: Sequence[Tensor]
    ) -> tuple[list[float], list[float]]:
        """Slope and curvature of a micro-batch along each `displacement`, with no product kept."""
        slopes: list[float] = []
        curvatures: list[float] = []

        def inner(parts: Parts, direction: Tensor) -> float:
            pairs = zip(parts, self.split(direction), strict=True)
            return sum(inner_product(_dense(a).flatten(), b.flatten()) for a, b in pairs if a is not None)

        self.each(
            batch,
            number,
            directions,
            gradient=lambda parts: slopes.extend(inner(parts, direction) for direction in directions),
            product=lambda index, parts: curvatures.append(inner(parts, directions[index])),
        )
        return slopes, curvatures

    def add_product(self, total: Tensor, batch: Any, number: int, direction: Tensor, *, share: float) -> None:
        """Add a share of the product with `displacement(v)`, itself scaled, to a (P,) total in place."""
        scales = [None] * len(self.leaves) if self.scale is None else self.split(self.scale)

        def add(index: int, parts: Parts) -> None:
            for into, part, scale in zip(self.split(total), parts, scales, strict=True):
                if part is not None and scale is None:
                    into.add_(part, alpha=share)
                elif part is not None and scale is not None:
                    into.addcmul_(_dense(part), scale, value=share)

        self.each(batch, number, [direction], gradient=None, product=add)

    def each(
        self,
        batch: Any,
        number: int,
        directions: Sequence[Tensor],
        *,
        gradient: Callable[[Parts], None] | None,
        product: Callable[[int, Parts], None],
    ) -> None:
        """Hand out the gradient and the products in the parameters' own coordinates, each while it lives.

        Nothing flat is made of them here: on a large model every copy of the parameters counts.

        Args:
            directions: (P,) each, see `displacement`.
            gradient: is called with its parts, shaped as the parameters; None: nobody wants it.
            product: is called with the number of a direction and the product's parts.
        """
        multiply = self._exact if self.method == "exact" else self._by_differences
        with buffers_kept(self.problem.model):
            multiply(lambda: self.loss_with_graph(batch, number), directions, gradient, product)

    def gradient(self, batch: Any, number: int) -> Tensor:
        """The gradient alone."""
        with buffers_kept(self.problem.model):
            return self._flat_scaled(self._gradient(lambda: self.loss_with_graph(batch, number)))

    def loss(self, batch: Any, number: int) -> Tensor:
        """The loss of a micro-batch where the parameters are now, without its graph."""
        with torch.no_grad(), buffers_kept(self.problem.model):
            return self.loss_with_graph(batch, number)

    def custom_functions(self, batch: Any, number: int) -> list[str]:
        """Names of the functions in the loss whose derivatives are not PyTorch's own."""
        with buffers_kept(self.problem.model):
            return _custom_functions(self.loss_with_graph(batch, number))

    def displacement(self, vector: Tensor) -> Tensor:
        """A step in the scaled coordinates as a change of the parameters: D^1/2 v."""
        return vector if self.scale is None else vector * self.scale

    def displace(self, vector: Tensor) -> Tensor:
        """`displacement` in the vector's own place."""
        return vector if self.scale is None else vector.mul_(self.scale)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.leaves)

    @property
    def like(self) -> Tensor:
        """A parameter: for the type and device of vectors."""
        return self.leaves[0]

    def loss_with_graph(self, batch: Any, number: int) -> Tensor:
        """The loss of a micro-batch, the same function at every call."""
        seed_everything(self.seed + number)
        return self.problem.loss(batch, full_precision=True) / self.divide_by

    def _exact(
        self,
        loss: Callable[[], Tensor],
        directions: Sequence[Tensor],
        gradient: Callable[[Parts], None] | None,
        product: Callable[[int, Parts], None],
    ) -> None:
        parts = torch.autograd.grad(loss(), self.leaves, create_graph=True, allow_unused=True)
        if gradient is not None:
            gradient([None if part is None else part.detach() for part in parts])
        # Where the graph of the gradient ends; the gradient itself need not live on.
        ends = [
            (index, get_gradient_edge(_dense(part)))
            for index, part in enumerate(parts)
            if part is not None and part.requires_grad
        ]
        del parts
        for index, direction in enumerate(directions):
            product(index, self._through(ends, direction, keep=index + 1 < len(directions)))

    def _through(self, ends: Sequence[tuple[int, GradientEdge]], direction: Tensor, *, keep: bool) -> Parts:
        if not ends:
            return [None] * len(self.leaves)
        parts = self.split(direction)
        return torch.autograd.grad(
            [edge for _, edge in ends],
            self.leaves,
            grad_outputs=[parts[index] for index, _ in ends],
            retain_graph=keep,
            allow_unused=True,
        )

    def _by_differences(
        self,
        loss: Callable[[], Tensor],
        directions: Sequence[Tensor],
        gradient: Callable[[Parts], None] | None,
        product: Callable[[int, Parts], None],
    ) -> None:
        if gradient is not None:
            gradient(self._gradient(loss))
        for index, direction in enumerate(directions):
            norm = math.sqrt(squared_norm(direction))
            if norm == 0:
                product(index, [None] * len(self.leaves))
                continue
            step = self.step(norm)
            with moved(self.leaves, self.split(direction)) as move:
                move(step)
                ahead = self._gradient(loss)
                move(-step)
                behind = self._gradient(loss)
            product(index, [_difference(*pair, 2 * step) for pair in zip(ahead, behind, strict=True)])

    def _gradient(self, loss: Callable[[], Tensor]) -> Parts:
        found = gradients_of(loss(), self.problem.parameters)
        return [found[name] for name in self.problem.parameters]

    def step(self, norm: float) -> float:
        """What a direction of this norm is multiplied with in a finite difference."""
        weights = float(torch.stack([part.detach().norm() for part in self.leaves]).norm())
        return (self.relative_step or RELATIVE_STEP[self.like.dtype]) * (1 + weights) / norm

    def flat(self, parts: Parts) -> Tensor:
        """One vector of the parts, zero where there is none."""
        pairs = zip(parts, self.leaves, strict=True)
        dense = (torch.zeros_like(leaf) if part is None else _dense(part) for part, leaf in pairs)
        return torch.cat([part.detach().reshape(-1) for part in dense])

    def _flat_scaled(self, parts: Parts) -> Tensor:
        return self.displace(self.flat(parts))

    def split(self, vector: Tensor) -> list[Tensor]:
        """A vector as parts that are shaped like the parameters."""
        parts = vector.split([parameter.numel() for parameter in self.leaves])
        return [part.view_as(parameter) for part, parameter in zip(parts, self.leaves, strict=True)]


def _dense(part: Tensor) -> Tensor:
    return part.to_dense() if part.is_sparse else part


def _difference(ahead: Tensor | None, behind: Tensor | None, step: float) -> Tensor | None:
    return None if ahead is None or behind is None else (ahead - behind) / step


@contextmanager
def double_backward_allowed(model: nn.Module) -> Iterator[None]:
    """Without the kernels that cannot be differentiated twice: fused attention, cuDNN's RNNs, compiled code.

    Convolutions keep cuDNN unless there is an RNN beside them: without it they are many times slower.
    Products are made in whole float32, for differences of them matter.
    """
    cudnn, has_rnn = torch.backends.cudnn, any(isinstance(module, nn.RNNBase) for module in model.modules())
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(
            cudnn.flags(
                enabled=cudnn.enabled and not has_rnn, deterministic=cudnn.deterministic, allow_tf32=False
            )
        )
        stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        if "torch._dynamo" in sys.modules:  # importing it takes seconds, and nothing is compiled without it
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def load_products() -> None:
    """Make PyTorch import what its first product needs: seconds that are not the model's."""
    one = torch.ones(1, requires_grad=True)
    torch.autograd.grad(2 * one, one, grad_outputs=torch.ones(1))


def choose_method(hessian: Hessian, batches: Sequence[Any]) -> tuple[Method, str | None]:
    """Exact products where double backward works and is right.

    PyTorch's own operations either have a second derivative or raise. A custom function may be taken
    for a constant in silence (`once_differentiable` too, since only the paths to the parameters are
    followed), so where there is one the product is compared with differences of gradients. On a few
    examples a short step hardly crosses a kink (ReLU, max), so the two agree at one of the steps.

    Args:
        batches: of a few examples each; a random vector is tried on each of them.

    Returns:
        The method, and why it is not the exact one.
    """
    exact = replace(hessian, method="exact")
    generator = torch.Generator().manual_seed(hessian.seed)
    custom: list[str] = []
    for number, batch in enumerate(batches):
        vector = torch.randn(hessian.num_parameters, generator=generator).to(hessian.like)
        try:
            product = exact.multiply(batch, number, [vector]).products[0]
        except Exception as error:  # a custom backward may raise anything when it is differentiated
            if is_out_of_memory(error):
                raise
            return "finite_differences", first_line(error)
        custom = exact.custom_functions(batch, number)
        if not custom or any(_agree(hessian, batch, number, vector, product, step) for step in CHECKED_STEPS):
            return "exact", None
    return "finite_differences", f"{', '.join(custom)} cannot be differentiated twice"


def first_line(error: Exception) -> str:
    """What an exception says, in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _agree(
    hessian: Hessian, batch: Any, number: int, vector: Tensor, exact: Tensor, relative_step: float
) -> bool:
    by_differences = replace(hessian, method="finite_differences", relative_step=relative_step)
    found = by_differences.multiply(batch, number, [vector])
    error = ROUNDING * torch.finfo(vector.dtype).eps * float(found.gradient.norm())
    rounding = error / by_differences.step(float(vector.norm()))
    size = max(float(exact.norm()), float(found.products[0].norm()))
    return float((found.products[0] - exact).norm()) <= AGREEMENT * size + rounding


def _custom_functions(loss: Tensor) -> list[str]:
    """Names of the functions in a graph whose derivatives are not PyTorch's own."""
    names: set[str] = set()
    seen: set[Any] = {None}
    waiting: list[Any] = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        name = node.name()
        if isinstance(node, BackwardCFunction) or "CppNode" in name:
            names.add(name.removesuffix("Backward"))
        waiting.extend(following for following, _ in node.next_functions)
    return sorted(names)
