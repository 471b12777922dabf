"""Collects micro-batch gradients into sufficient statistics, one push at a time.

    accumulator.add(gradients, weight, examples)   as often as you like, nothing is synchronised
    accumulator.reduce(group)                      over the ranks of torch.distributed
    accumulator.sums()                             inner products, ready for theory.noise_scale

The probe, a training callback and a rank all feed the same one. Memory: one float32 copy of the
parameters (the running sum), a second one with a preconditioner, the sketches, and a megabyte in which
the gradients of small models wait: torch takes longer to call than to sum up ten thousand numbers.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from bsadvisor.measure import norms
from bsadvisor.measure.coordinates import Coordinates
from bsadvisor.measure.sketch import CHUNK, Sketch
from bsadvisor.theory.noise_scale import Array, BlockSums

MAX_BLOCKS = 64
"""Blocks are merged in pairs when there are more: the jackknife gains nothing from them."""

WAITING = 2**18
"""Elements of gradients that wait to be summed up, at most: a fixed memory that stays in the cache."""


class InnerProducts:
    """Norms and sketches of the pushed gradients in one geometry."""

    def __init__(self, sizes: Sequence[int], *, seed: int, device: torch.device) -> None:
        self.sketch = Sketch(sizes, seed=seed, device=device)
        self.rows = torch.zeros(MAX_BLOCKS, self.sketch.num_buckets, device=device)
        self._chunk_norms: list[list[Tensor]] = []
        """Per tensor, of the chunks that are in."""
        self._norms: list[Tensor] = []
        """Per gradient and tensor, on the device until they are asked for."""
        self._squared_norms = np.zeros((0, len(sizes)))

    def add(self, tensor: int, start: int, chunk: Tensor) -> None:
        """Take in a chunk (R, elements) of R gradients of a tensor; chunks come in order."""
        if start == 0:
            self._chunk_norms.append([])
        self._chunk_norms[tensor].append(norms.row_norms(chunk))
        self.sketch.add(tensor, start, chunk)

    def put(self, weights: Sequence[float], blocks: Sequence[int]) -> None:
        """Put each of the R gradients whose chunks are in into its block."""
        for row, weight, block in zip(self.sketch.take(), weights, blocks, strict=True):
            self.rows[block].add_(row, alpha=weight)
        self._norms.append(torch.cat([norms.joined(parts) for parts in self._chunk_norms], dim=1))
        self._chunk_norms.clear()

    def merge_pairs(self) -> None:
        """Blocks 2j and 2j + 1 become block j."""
        half = MAX_BLOCKS // 2
        self.rows[:half] = self.rows[0::2] + self.rows[1::2]
        self.rows[half:] = 0

    @property
    def squared_norms(self) -> Array:
        """|h_k|^2 per tensor: shape (K, tensors), float64."""
        if self._norms:
            new = torch.cat(self._norms).cpu().double().square().numpy()
            self._squared_norms = np.concatenate([self._squared_norms, new])
            self._norms.clear()
        return self._squared_norms

    @squared_norms.setter
    def squared_norms(self, found: Array) -> None:
        self._norms.clear()
        self._squared_norms = found

    def grams(self, blocks: int) -> Array:
        """Inner products of the blocks' sums restricted to each tensor: (tensors, J, J), float64."""
        rows = self.rows[:blocks].cpu().double().split(self.sketch.widths, dim=1)
        return np.stack([(part @ part.T).numpy() for part in rows])


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
        self._total = torch.zeros(sum(sizes), device=device)
        self._totals = self._total.split(sizes)
        """Its parts for each tensor."""
        self._places = [
            (tensor, at) for tensor, size in enumerate(sizes) for at in range(0, max(size, 1), CHUNK)
        ]
        """Tensor and first element of each chunk."""
        self._waiting = torch.empty(min(WAITING // max(sum(sizes), 1), MAX_BLOCKS), sum(sizes), device=device)
        """Gradients of small models, which are summed up many at a time."""
        self._num_waiting = 0
        self._coordinates = Coordinates(self._places, sizes, CHUNK, seed=seed, device=device)
        self._products = {"plain": InnerProducts(sizes, seed=seed, device=device)}
        self._scale: list[Tensor] | None = None
        if preconditioner is not None:
            self._scale = [preconditioner[name].detach().float().sqrt().reshape(-1) for name in self.names]
            self._products["scaled"] = InnerProducts(sizes, seed=seed, device=device)
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
        return sum(products.rows.nbytes for products in self._products.values())

    def add(self, gradients: Mapping[str, Tensor | None], weight: float, examples: int) -> None:
        """Push the gradient of a micro-batch's mean loss; None counts as zero.

        Args:
            weight: what the mean was taken over: examples, or counted tokens.
            examples: in the micro-batch.
        """
        block = self._next_block()
        self._block_of.append(block)
        self._weights.append(weight)
        self._examples.append(examples)
        flat = [
            self._flat(gradients[name], total) for name, total in zip(self.names, self._totals, strict=True)
        ]
        if len(self._waiting) < 2:
            self._sum_up(self._added(flat, weight), 1)
            return
        row = torch.cat(flat, out=self._waiting[self._num_waiting])
        self._total.add_(row, alpha=weight)
        self._num_waiting += 1
        if self._num_waiting == len(self._waiting):
            self._sum_up_waiting()

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
            for name, total, shape in zip(self.names, self._totals, self._shapes, strict=True)
        }

    def coordinate_means(self) -> tuple[Array, Array]:
        """Weighted means of some coordinates of the gradients and of their squares: (coordinates,), float64."""
        self._sum_up_waiting()
        means = self._coordinates.sums.cpu().double().numpy() / self.total_weight
        return means[0], means[1]

    def squared_norms(self) -> Array:
        """|h_k|^2 of every micro-batch: shape (K,), float64."""
        self._sum_up_waiting()
        return np.asarray(self._products["plain"].squared_norms.sum(1))

    def cross(self, other: GradientAccumulator) -> tuple[float, Array]:
        """Inner products with the gradients of another one over the same parameters, with the same seed.

        Returns:
            That of the two sums of all w_k h_k, exact, and those of the blocks' sums: (J, J of the other).
        """
        self._sum_up_waiting()
        other._sum_up_waiting()
        rows, others = (
            each._products["plain"].rows[: each._num_blocks()].cpu().double() for each in (self, other)
        )
        total = sum(
            float(torch.dot(one.double(), two.double()))
            for mine, theirs in zip(self._totals, other._totals, strict=True)
            for one, two in zip(mine.split(CHUNK), theirs.split(CHUNK), strict=True)
        )
        return total, (rows @ others.T).numpy()

    def reduce(self, group: dist.ProcessGroup | None = None) -> None:
        """Make every rank hold the statistics of all ranks of `group`.

        Blocks of different ranks stay apart, so the jackknife sees more of them: they are merged in
        pairs until all fit. Every rank must have pushed the same number of micro-batches.
        """
        self._sum_up_waiting()
        ranks = dist.get_world_size(group)
        dist.all_reduce(self._total, group=group)
        dist.all_reduce(self._coordinates.sums, group=group)
        while self._num_blocks() * ranks > MAX_BLOCKS:
            self._merge_pairs()
        for products in self._products.values():
            products.rows = _gather_rows(products.rows[: self._num_blocks()], ranks, group)
            squared = torch.from_numpy(products.squared_norms).to(products.rows.device)
            products.squared_norms = _gather(squared, ranks, group).cpu().numpy()
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
        self._sum_up_waiting()
        state = self._fixed_tensors()
        for name, products in self._products.items():
            state[f"{name}.squared_norms"] = torch.from_numpy(products.squared_norms)
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
        fixed = self._fixed_tensors()
        if any(name not in state or state[name].shape != tensor.shape for name, tensor in fixed.items()):
            raise ValueError("the saved statistics belong to other parameters")
        for name, tensor in fixed.items():
            tensor.copy_(state[name])
        for name, products in self._products.items():
            products.squared_norms = state[f"{name}.squared_norms"].numpy()
        self._weights = state["weights"].tolist()
        self._examples = state["examples"].tolist()
        self._block_of = state["block_of"].tolist()
        self._per_block = int(state["per_block"])

    def _fixed_tensors(self) -> dict[str, Tensor]:
        rows = {f"{name}.rows": products.rows for name, products in self._products.items()}
        return {"total": self._total, "coordinates": self._coordinates.sums, **rows}

    def _added(self, flat: Sequence[Tensor], weight: float) -> Iterator[Tensor]:
        """Add a gradient to the total, a chunk at a time."""
        for total, gradient in zip(self._totals, flat, strict=True):
            for part, chunk in zip(total.split(CHUNK), gradient.split(CHUNK), strict=True):
                part.add_(chunk, alpha=weight)
                yield chunk.unsqueeze(0)

    def _sum_up_waiting(self) -> None:
        """Chunks of the gradients that wait, which are in the total already."""
        count, self._num_waiting = self._num_waiting, 0
        if count:
            tensors = self._waiting[:count].split([len(total) for total in self._totals], dim=1)
            self._sum_up((chunk for tensor in tensors for chunk in tensor.split(CHUNK, dim=1)), count)

    def _sum_up(self, chunks: Iterable[Tensor], count: int) -> None:
        """Take in the chunks (R, elements) of the last R micro-batches, in order."""
        for place, ((tensor, start), chunk) in enumerate(zip(self._places, chunks, strict=True)):
            self._products["plain"].add(tensor, start, chunk)
            self._coordinates.add(place, chunk)
            if self._scale is not None:
                scaled = chunk * self._scale[tensor][start : start + CHUNK]
                self._products["scaled"].add(tensor, start, scaled)
        self._coordinates.put(self._weights[-count:])
        for products in self._products.values():
            products.put(self._weights[-count:], self._block_of[-count:])

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
        self._sum_up_waiting()
        for products in self._products.values():
            products.merge_pairs()
        self._block_of = [block // 2 for block in self._block_of]
        self._per_block *= 2

    def _per_tensor(self, preconditioned: bool) -> tuple[Array, Array, Array]:
        """Squared norms (K, tensors), Gram matrices (tensors, J, J), squared norms of the total."""
        self._sum_up_waiting()
        if preconditioned and self._scale is None:
            raise ValueError("no preconditioner was given")
        products = self._products["scaled" if preconditioned else "plain"]
        scales = self._scale if preconditioned and self._scale else [None] * len(self.names)
        totals = [norms.squared_norm(*parts) for parts in zip(self._totals, scales, strict=True)]
        return products.squared_norms, products.grams(self._num_blocks()), np.array(totals)

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
