"""Collects micro-batch gradients into sufficient statistics, one push at a time.

    accumulator.add(gradients, weight, examples)   as often as you like, nothing is synchronised
    accumulator.reduce(group)                      over the ranks of torch.distributed
    accumulator.sums()                             inner products, ready for theory.noise_scale

The probe, a training callback and a rank all feed the same one. Memory: one float32 copy of the
parameters (the running sum), a second one with a preconditioner, and the sketches.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from bsadvisor.measure import norms
from bsadvisor.measure.sketch import Sketch
from bsadvisor.theory.noise_scale import Array, BlockSums

MAX_BLOCKS = 64
"""Blocks are merged in pairs when there are more: the jackknife gains nothing from them."""


class InnerProducts:
    """Norms and sketches of the pushed gradients in one geometry."""

    def __init__(self, sizes: Sequence[int], *, seed: int, device: torch.device) -> None:
        self.sketch = Sketch(sizes, seed=seed, device=device)
        self.rows = torch.zeros(MAX_BLOCKS, self.sketch.num_buckets, device=device)
        self.norms: list[Tensor] = []
        """Per micro-batch, in the sketch's order of tensors; on the device until they are asked for."""

    def add(self, flat: Sequence[Tensor], weight: float, block: int) -> None:
        """Push one micro-batch's gradient, as flat tensors, into a block."""
        row, lengths = self.sketch(flat)
        self.rows[block].add_(row, alpha=weight)
        self.norms.append(lengths)

    def merge_pairs(self) -> None:
        """Blocks 2j and 2j + 1 become block j."""
        half = MAX_BLOCKS // 2
        self.rows[:half] = self.rows[0::2] + self.rows[1::2]
        self.rows[half:] = 0

    def squared_norms(self) -> Array:
        """|h_k|^2 per tensor: shape (K, tensors), float64."""
        found = torch.stack(self.norms).cpu().double().square().numpy()
        order = np.argsort(self.sketch.short + self.sketch.long)
        return np.asarray(found[:, order])

    def gram(self, blocks: int, tensor: int) -> Array:
        """Inner products of the blocks' sums restricted to one tensor: (J, J), float64."""
        start = sum(self.sketch.widths[:tensor])
        rows = self.rows[:blocks, start : start + self.sketch.widths[tensor]].cpu().double()
        return np.asarray((rows @ rows.T).numpy())


class GradientAccumulator:
    """Running sums over micro-batch gradients of named parameters.

    Args:
        parameters: name -> tensor; only shapes and devices are used.
        preconditioner: name -> positive diagonal D of an optimizer's update, for a second set of
            statistics in which inner products are a' D b; or None.
        seed: of the sketch.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        *,
        preconditioner: Mapping[str, Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        self.names = list(parameters)
        self._shapes = [parameter.shape for parameter in parameters.values()]
        device = next(iter(parameters.values())).device
        sizes = [parameter.numel() for parameter in parameters.values()]
        self._total = [torch.zeros(size, device=device) for size in sizes]
        self._plain = InnerProducts(sizes, seed=seed, device=device)
        self._scale: list[Tensor] | None = None
        self._scaled: InnerProducts | None = None
        if preconditioner is not None:
            self._scale = [preconditioner[name].detach().float().sqrt().reshape(-1) for name in self.names]
            self._scaled = InnerProducts(sizes, seed=seed, device=device)
        self._weights: list[float] = []
        self._examples: list[int] = []
        self._block_of: list[int] = []
        self._per_block = 1

    @property
    def num_micro_batches(self) -> int:
        return len(self._weights)

    @property
    def num_examples(self) -> int:
        return sum(self._examples)

    @property
    def sketch_bytes(self) -> int:
        """Memory of the sketches, which does not grow with the model."""
        return sum(part.rows.nbytes for part in (self._plain, self._scaled) if part is not None)

    def add(self, gradients: Mapping[str, Tensor | None], weight: float, examples: int) -> None:
        """Push the gradient of a micro-batch's mean loss; None counts as zero.

        Args:
            weight: what the mean was taken over: examples, or counted tokens.
            examples: in the micro-batch.
        """
        block = self._next_block()
        flat = [
            self._flat(gradients[name], total) for name, total in zip(self.names, self._total, strict=True)
        ]
        torch._foreach_add_(self._total, flat, alpha=weight)
        self._plain.add(flat, weight, block)
        if self._scale is not None and self._scaled is not None:
            self._scaled.add(torch._foreach_mul(flat, self._scale), weight, block)
        self._weights.append(weight)
        self._examples.append(examples)
        self._block_of.append(block)

    def sums(self, *, preconditioned: bool = False) -> BlockSums:
        """The sums over all tensors."""
        return self._assemble(self._per_tensor(preconditioned), range(len(self.names)))

    def sums_per_group(self, groups: Mapping[str, Sequence[int]]) -> dict[str, BlockSums]:
        """The sums over each group of tensor numbers."""
        per_tensor = self._per_tensor(preconditioned=False)
        return {name: self._assemble(per_tensor, members) for name, members in groups.items()}

    @property
    def total_weight(self) -> float:
        return sum(self._weights)

    def total_gradient(self) -> dict[str, Tensor]:
        """`total_weight` times the mean gradient, shaped as the parameters: the running sum itself."""
        return {
            name: total.view(shape)
            for name, total, shape in zip(self.names, self._total, self._shapes, strict=True)
        }

    def squared_norms(self) -> list[float]:
        """|h_k|^2 of every micro-batch."""
        return [float(norm) for norm in self._plain.squared_norms().sum(1)]

    def reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Make every rank hold the statistics of all ranks of `group`.

        Blocks of different ranks stay apart, so the jackknife sees more of them: they are merged in
        pairs until all fit. Every rank must have pushed the same number of micro-batches.
        """
        ranks = dist.get_world_size(group)
        for total in self._total:
            dist.all_reduce(total, group=group)
        while self._num_blocks() * ranks > MAX_BLOCKS:
            self._merge_pairs()
        for products in filter(None, (self._plain, self._scaled)):
            products.rows = _gather_rows(products.rows[: self._num_blocks()], ranks, group)
            products.norms = list(_gather(torch.stack(products.norms), ranks, group))
        gathered: list[Any] = [None] * ranks
        dist.all_gather_object(gathered, (self._weights, self._examples, self._block_of), group=group)
        blocks = self._num_blocks()
        self._weights = [weight for weights, _, _ in gathered for weight in weights]
        self._examples = [count for _, examples, _ in gathered for count in examples]
        self._block_of = [
            rank * blocks + block for rank, (_, _, block_of) in enumerate(gathered) for block in block_of
        ]

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on later, as tensors."""
        state = {f"total.{index}": total for index, total in enumerate(self._total)}
        for name, products in (("plain", self._plain), ("scaled", self._scaled)):
            if products is not None:
                state |= {f"{name}.rows": products.rows, f"{name}.norms": torch.stack(products.norms)}
        state["weights"] = torch.tensor(self._weights, dtype=torch.float64)
        state["examples"] = torch.tensor(self._examples)
        state["block_of"] = torch.tensor(self._block_of)
        state["per_block"] = torch.tensor(self._per_block)
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: it belongs to other parameters.
        """
        shapes = {name: tensor.shape for name, tensor in self._fixed_tensors().items()}
        if any(name not in state or state[name].shape != shape for name, shape in shapes.items()):
            raise ValueError("the saved statistics belong to other parameters")
        for name, tensor in self._fixed_tensors().items():
            tensor.copy_(state[name])
        for name, products in (("plain", self._plain), ("scaled", self._scaled)):
            if products is not None:
                products.norms = list(state[f"{name}.norms"].to(products.rows.device))
        self._weights = state["weights"].tolist()
        self._examples = state["examples"].tolist()
        self._block_of = state["block_of"].tolist()
        self._per_block = int(state["per_block"])

    def _fixed_tensors(self) -> dict[str, Tensor]:
        tensors = {f"total.{index}": total for index, total in enumerate(self._total)}
        tensors["plain.rows"] = self._plain.rows
        if self._scaled is not None:
            tensors["scaled.rows"] = self._scaled.rows
        return tensors

    def _flat(self, gradient: Tensor | None, total: Tensor) -> Tensor:
        if gradient is None:
            return torch.zeros_like(total)
        dense = gradient.to_dense() if gradient.is_sparse else gradient
        return dense.reshape(-1).to(total.dtype)

    def _num_blocks(self) -> int:
        return self._block_of[-1] + 1 if self._block_of else 0

    def _next_block(self) -> int:
        if not self._block_of:
            return 0
        last = self._block_of[-1]
        if len(self._block_of) - bisect_left(self._block_of, last) < self._per_block:
            return last
        if last + 1 == MAX_BLOCKS:
            self._merge_pairs()
            return MAX_BLOCKS // 2
        return last + 1

    def _merge_pairs(self) -> None:
        for products in filter(None, (self._plain, self._scaled)):
            products.merge_pairs()
        self._block_of = [block // 2 for block in self._block_of]
        self._per_block *= 2

    def _per_tensor(self, preconditioned: bool) -> tuple[Array, Array, Array]:
        """Squared norms (K, tensors), Gram matrices (tensors, J, J), squared norms of the total."""
        products, scale = self._plain, None
        if preconditioned:
            if self._scaled is None or self._scale is None:
                raise ValueError("no preconditioner was given")
            products, scale = self._scaled, self._scale
        tensors = range(len(self.names))
        totals = [
            norms.squared_norm(total, scale[i] if scale else None) for i, total in enumerate(self._total)
        ]
        gram = np.stack([products.gram(self._num_blocks(), tensor) for tensor in tensors])
        return products.squared_norms(), gram, np.array(totals)

    def _assemble(self, per_tensor: tuple[Array, Array, Array], members: Sequence[int]) -> BlockSums:
        squares, gram, totals = (
            part.take(members, axis) for part, axis in zip(per_tensor, (1, 0, 0), strict=True)
        )
        weights, squared_norms = np.array(self._weights), squares.sum(1)
        counts = np.bincount(self._block_of).astype(float)
        block_gram = gram.sum(0)
        weight_squared_norm = self._per_block_sum(weights**2 * squared_norms)
        single = counts == 1
        block_gram[single, single] = weight_squared_norm[single]
        return BlockSums(
            micro_batches=counts,
            examples=self._per_block_sum(np.array(self._examples, dtype=float)),
            weight=self._per_block_sum(weights),
            weight_squared=self._per_block_sum(weights**2),
            weighted_squared_norm=self._per_block_sum(weights * squared_norms),
            weight_squared_squared_norm=weight_squared_norm,
            total_squared_norm=totals.sum(),
            gram=block_gram,
        )

    def _per_block_sum(self, per_micro_batch: Array) -> Array:
        return np.bincount(self._block_of, weights=per_micro_batch).astype(np.float64)


def _gather(tensor: Tensor, ranks: int, group: dist.ProcessGroup | None) -> Tensor:
    parts = [torch.empty_like(tensor) for _ in range(ranks)]
    dist.all_gather(parts, tensor.contiguous(), group=group)
    return torch.cat(parts)


def _gather_rows(rows: Tensor, ranks: int, group: dist.ProcessGroup | None) -> Tensor:
    gathered = _gather(rows, ranks, group)
    return torch.cat([gathered, rows.new_zeros(MAX_BLOCKS - len(gathered), rows.shape[1])])
