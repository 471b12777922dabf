"""What measuring needs to know of a target, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Source(Protocol):
    """Numbered training examples."""

    @property
    def size(self) -> int | None:
        """Number of examples; None for a stream, whose numbers count arrivals."""

    @property
    def dropped(self) -> int:
        """Examples of ragged batches that were left out so far."""

    def fetch(self, groups: Sequence[Sequence[int]]) -> Iterator[Any]:
        """One collated batch per group of example numbers; ends early where a stream ends."""


class Problem(Protocol):
    """A differentiable mean loss over numbered examples."""

    @property
    def model(self) -> nn.Module: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def data(self) -> Source: ...

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The trainable ones by name, each once."""

    @property
    def preconditioner(self) -> Mapping[str, Tensor] | None:
        """The positive diagonal D of an adaptive optimizer's update D m, shaped as the parameters."""

    def loss(self, batch: Any, *, full_precision: bool = False) -> Tensor:
        """The scalar training loss of a batch, with its graph.

        With `full_precision` the weights are in float32 at least, and so is everything else.
        """

    def weight(self, batch: Any) -> int | None:
        """Counted (unmasked) labels, where the loss may average over them."""

    def labels(self, batch: Any) -> Tensor | None:
        """Integer class targets, if there are any."""
