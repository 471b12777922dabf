"""The order in which training runs read the data: shuffled epochs, the same for every learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

Numbers = Sequence[int]


class Epochs:
    """Shuffled epochs one after the other, cut into batches across their borders.

    Args:
        examples: numbers of the examples that are trained on.
        seed: of the shuffles: runs of one seed read the same examples, whatever their batch size.
    """

    def __init__(self, examples: Sequence[int], seed: int) -> None:
        self._examples = np.asarray(examples)
        self._generator = torch.Generator().manual_seed(seed)
        self._shuffled: Any = np.empty(0, dtype=np.int64)
        self._before = 0
        """Examples of the epochs that are forgotten already."""

    def batch(self, step: int, size: int) -> Numbers:
        """Numbers of the examples of the `step`-th batch, counted from 0; steps never go back."""
        first = step * size - self._before
        while len(self._shuffled) < first + size:
            order = torch.randperm(len(self._examples), generator=self._generator).numpy()
            kept = self._shuffled[first:] if first < len(self._shuffled) else self._shuffled[:0]
            self._before += len(self._shuffled) - len(kept)
            first = step * size - self._before
            self._shuffled = np.concatenate([kept, self._examples[order]])
        numbers: Numbers = self._shuffled[first : first + size]
        return numbers
