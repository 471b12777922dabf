"""An optimizer that PyTorch does not have, as many people copy it into their code."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


class Lion(Optimizer):
    """As published (Chen et al. 2023)."""

    def __init__(self, params: Any, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            first, second = group["betas"]
            for weights in group["params"]:
                mean = self.state[weights].setdefault("exp_avg", torch.zeros_like(weights))
                weights.sub_((first * mean + (1 - first) * weights.grad).sign() * group["lr"])
                mean.lerp_(weights.grad, 1 - second)
