"""The mean of several sets of weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from bsadvisor.measure.preserve import parameters_kept


class WeightMean:
    """Takes up one set of weights after the other; holds one copy, in the main memory and in float32 at least."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, parameters: Mapping[str, Tensor]) -> None:
        """Weights under the same names and of the same shapes every time."""
        self.count += 1
        for name, parameter in parameters.items():
            wide = torch.promote_types(parameter.dtype, torch.float32)
            value = parameter.detach().to("cpu", wide, copy=True)
            mean = self._mean.setdefault(name, value)
            mean += (value - mean) / self.count

    @contextmanager
    def in_place_of(self, parameters: Mapping[str, Tensor]) -> Iterator[None]:
        """The parameters are the mean while inside, and as before afterwards, bit for bit."""
        with parameters_kept(list(parameters.values())):
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(self._mean[name])
            yield
