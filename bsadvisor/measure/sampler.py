"""One place decides which examples serve which purpose, so that no estimate judges itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from bsadvisor.errors import DataError
from bsadvisor.measure.problem import Source
from bsadvisor.theory.noise_scale import MIN_MICRO_BATCHES

MAX_LINE_SEARCH = 512
"""Examples on which steps are tried."""

LINE_SEARCH_SHARE = 8
"""At most one example in this many goes to the line search."""

MAX_GEOMETRY, GEOMETRY_SHARE = 512, 4
"""Examples that an optimizer's second moments are estimated from: so many, and one in so many, at most."""

FIRST_ARRIVALS = 1024
"""Examples of a stream that are waited for, to see whether it holds as many."""


class Sampler:
    """Disjoint random splits of the data: `line_search`, `geometry`, `gradient`; `curvature` reuses the last.

    What is measured of the curvature must be independent of how its directions were found, not of the
    gradient's sums: its examples are those of the gradient again, or the next ones of a stream.

    Numbered data is shuffled with the seed; a stream is taken in the order of arrival. A stream that
    ends early counts as data of the power of two that it reached.

    Args:
        source: of the examples.
        seed: of the order.
        min_gradient: examples that the gradient needs before any other use gets some.
        geometry: whether an optimizer's geometry must be estimated.
    """

    def __init__(
        self, source: Source, *, seed: int, min_gradient: int = MIN_MICRO_BATCHES, geometry: bool = False
    ) -> None:
        self._source = source
        if source.size is None:
            self._order: Any = range(2**62)
            certain = _first_arrivals(source)
            ends = certain < FIRST_ARRIVALS
        else:
            generator = torch.Generator().manual_seed(seed)
            self._order = torch.randperm(source.size, generator=generator).numpy()
            certain = source.size
            ends = True
        held = min(MAX_LINE_SEARCH, certain // LINE_SEARCH_SHARE, certain - min_gradient)
        self.num_line_search = max(held, 0)
        left = certain - self.num_line_search - min_gradient
        self.num_geometry = max(min(MAX_GEOMETRY, certain // GEOMETRY_SHARE, left), 0) if geometry else 0
        self._first = self.num_line_search + self.num_geometry
        """Number of the first example of the gradient."""
        self.num_certain = certain - self._first
        """Examples that the gradient is sure to have."""
        self.num_gradient = self.num_certain if ends else None
        """Examples that it may use; None for a stream without a known end."""
        self._arrived = 0

    def gradient(self, start: int, micro_batches: int, size: int) -> Iterator[Any]:
        """Micro-batches of `size` fresh examples, from the `start`-th on; a stream never goes back."""
        if self._source.size is None:
            start = max(start, self._arrived)
            self._arrived = start + micro_batches * size
        return self._fetch(self._first + start, micro_batches, size)

    def geometry(self, size: int) -> Iterator[Any]:
        """Micro-batches of the examples that second moments are estimated from."""
        return self._fetch(self.num_line_search, self.num_geometry // size, size)

    def line_search(self, micro_batches: int, size: int) -> Iterator[Any]:
        """Micro-batches of the held-back examples, the same at every call."""
        return self._fetch(0, min(micro_batches, self.num_line_search // size), size)

    def curvature(self, start: int, micro_batches: int, size: int) -> list[Any]:
        """Micro-batches from the `start`-th example of the gradient on; fewer where the data ends."""
        if self._source.size is None:
            start = self._arrived
            self._arrived += micro_batches * size
        else:
            micro_batches = min(micro_batches, (self.num_certain - start) // size)
        return list(self._fetch(self._first + start, micro_batches, size))

    def whole(self, size: int, most: int) -> list[Any]:
        """Micro-batches of all examples, but for a rest; none of a stream, and none of more than `most`."""
        total = self._source.size
        return [] if total is None or total > most else list(self._fetch(0, total // size, size))

    def random(self, micro_batches: int, size: int, seed: int) -> Iterator[Any]:
        """Micro-batches of random examples of the gradient's, as training draws them; a stream's next ones."""
        if self._source.size is None:
            start, self._arrived = self._arrived, self._arrived + micro_batches * size
            return self._fetch(self._first + start, micro_batches, size)
        generator = torch.Generator().manual_seed(seed)
        shape = micro_batches, size
        picks = torch.randint(self.num_line_search, len(self._order), shape, generator=generator).numpy()
        return self._source.fetch([self._order[group] for group in picks])

    def first(self, micro_batches: int, size: int) -> Iterator[Any]:
        """Micro-batches of the first examples of the shuffled data, whatever else these serve for."""
        return self._fetch(0, micro_batches, size)

    def copies(self, examples: int, size: int) -> Iterator[Any]:
        """Batches of `size` copies of one example each, of the first ones."""
        return self._source.fetch([[int(number)] * size for number in self._order[:examples]])

    def check(self, groups: Sequence[Sequence[int]]) -> list[Any]:
        """Batches of the first few examples in given arrangements: for checks, not for estimates."""
        batches = list(self._source.fetch([[int(self._order[index]) for index in group] for group in groups]))
        if len(batches) < len(groups):
            raise DataError(
                f"the data ended before its first {max(map(max, groups)) + 1} examples",
                "give at least a few hundred training examples",
            )
        return batches

    def _fetch(self, start: int, micro_batches: int, size: int) -> Iterator[Any]:
        stop = start + micro_batches * size
        return self._source.fetch([self._order[at : at + size] for at in range(start, stop, size)])


def _first_arrivals(source: Source) -> int:
    """The largest power of two, up to `FIRST_ARRIVALS`, of examples that a stream holds; 0 below 16."""
    number = FIRST_ARRIVALS
    while number >= 16:
        if next(source.fetch([[number - 1]]), None) is not None:
            return number
        number //= 2
    return 0
