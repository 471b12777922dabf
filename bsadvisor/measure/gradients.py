"""The gradient phase: micro-batch gradients of fresh examples into the accumulator."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bsadvisor.errors import DataError, TargetError, is_out_of_memory
from bsadvisor.measure.accumulator import GradientAccumulator
from bsadvisor.measure.preserve import preserved
from bsadvisor.measure.problem import Problem
from bsadvisor.measure.sampler import Sampler
from bsadvisor.random_state import seed_everything
from bsadvisor.theory.noise_scale import MIN_MICRO_BATCHES

FLOAT16_LOSS_SCALE = 1024.0
"""Keeps small float16 gradients from vanishing; taken off again in float32."""


class MicroBatchTooLargeError(Exception):
    """It does not fit in memory, or so few fit in the time that nothing could be estimated."""

    def __init__(self, *, out_of_memory: bool, fitting: int) -> None:
        super().__init__(fitting)
        self.out_of_memory = out_of_memory
        self.fitting = fitting
        """The micro-batch to try next."""


class GradientProbe:
    """Measures at one micro-batch size, in as many rounds as the caller asks for.

    Args:
        problem: model in the state to be measured.
        sampler: owner of the data's splits.
        micro_batch: examples per gradient.
        seed: of dropout masks and of the sketch.
        reduction: what the loss does over a batch; sums are divided, token means weighted.
        preconditioner: D, where it is not that of the problem: made of other examples.

    Cost: one forward and backward pass per example; one float32 copy of the parameters, two with a
        preconditioner.
    """

    def __init__(
        self,
        problem: Problem,
        sampler: Sampler,
        *,
        micro_batch: int,
        seed: int,
        reduction: str = "mean",
        preconditioner: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.problem = problem
        self.sampler = sampler
        self.micro_batch = micro_batch
        self.seed = seed
        self.reduction = reduction
        if preconditioner is None:
            preconditioner = problem.preconditioner
        self.has_geometry = preconditioner is not None
        self.accumulator = GradientAccumulator(problem.parameters, preconditioner=preconditioner, seed=seed)
        self.reached: set[str] = set()
        """Names of the parameters that received a gradient."""
        self.exhausted = False
        """A stream ended."""
        self._losses: list[Tensor] = []
        """Of the micro-batches that were not looked at yet, as all that follows."""
        self._label_ends: list[Tensor] = []
        self._classes = (math.inf, -math.inf)
        """The smallest and the largest."""

    def run(
        self,
        examples: int,
        *,
        time_left: Callable[[], float],
        stop: Callable[[], bool],
        progress: Callable[[int], None],
    ) -> None:
        """Measure until `examples` examples are in, time is up, or `stop` says so.

        The first `MIN_MICRO_BATCHES` are measured whatever the time, for nothing can be estimated
        from fewer.

        Raises:
            MicroBatchTooLargeError: try again with a smaller one.
            DataError: the loss or gradient is not finite.
        """
        start = self.accumulator.num_examples
        wanted = max(0, examples - start) // self.micro_batch
        with preserved(self.problem.model):
            seed_everything(self.seed + start)
            batches = self.sampler.gradient(start, wanted, self.micro_batch)
            began = time.perf_counter()
            done = 0
            while done < wanted and not stop():
                enough = self.accumulator.num_micro_batches >= MIN_MICRO_BATCHES
                if enough and time_left() <= 0:
                    break
                if not self._measure_next(batches):
                    self.exhausted = True
                    break
                done += 1
                if self.accumulator.num_micro_batches == 1:
                    self._refuse_if_slow(time.perf_counter() - began, time_left())
                progress(start + done * self.micro_batch)
        self._check_finite()

    @property
    def single_class(self) -> int | None:
        """The one class that every target so far has."""
        low, high = self._classes
        return int(low) if low == high else None

    def left_out(self) -> tuple[str, ...]:
        """Trainable parameters that the loss does not depend on."""
        return tuple(name for name in self.problem.parameters if name not in self.reached)

    def _measure_next(self, batches: Any) -> bool:
        try:
            batch = next(batches, None)
            if batch is None:
                return False
            self._push(batch)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or self.micro_batch == 1:
                raise
            raise MicroBatchTooLargeError(out_of_memory=True, fitting=self.micro_batch // 2) from None
        return True

    def _push(self, batch: Any) -> None:
        loss = self.problem.loss(batch)
        weight = float(self.micro_batch)
        if self.reduction == "sum":
            loss = loss / self.micro_batch
        elif self.reduction == "token_mean":
            weight = float(self.problem.weight(batch) or 0)
        gradients = gradients_of(loss, self.problem.parameters)
        self.reached.update(name for name, gradient in gradients.items() if gradient is not None)
        self.accumulator.add(gradients, weight, self.micro_batch)
        self._losses.append(loss.detach())
        labels = self.problem.labels(batch)
        if labels is not None and labels.numel():
            self._label_ends += torch.aminmax(labels)

    def _refuse_if_slow(self, seconds: float, left: float) -> None:
        if seconds * MIN_MICRO_BATCHES > left and self.micro_batch > 1:
            fitting = int(self.micro_batch * max(left, 0.0) / (seconds * MIN_MICRO_BATCHES))
            raise MicroBatchTooLargeError(out_of_memory=False, fitting=max(1, fitting))

    def _check_finite(self) -> None:
        """Look at the new losses, norms and labels once per round: one synchronisation for all of them."""
        if not self._losses:
            return
        losses = torch.stack([loss.float().reshape(()) for loss in self._losses])
        first = self.accumulator.num_micro_batches - len(losses)
        self._losses.clear()
        bad = (~torch.isfinite(losses)).nonzero().flatten().tolist()
        if bad:
            raise DataError(
                f"the loss is {losses[bad[0]].item()} on micro-batch {first + bad[0] + 1}",
                "look for NaN or infinity in the data and weights; train in a dtype that holds the loss",
            )
        if not np.isfinite(self.accumulator.squared_norms()[first:]).all():
            raise TargetError(
                "a gradient is not finite although every loss is",
                "look for sqrt, log, norm or division at zero in the model; or use a wider --dtype",
            )
        if self._label_ends:
            ends = torch.stack(self._label_ends).tolist()
            self._label_ends.clear()
            self._classes = min(self._classes[0], *ends), max(self._classes[1], *ends)


def gradients_of(loss: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """The gradient of `loss` for each parameter, None where it does not reach; `.grad` is left empty.

    `backward` and not `torch.autograd.grad`, which re-entrant checkpointing does not allow.
    """
    scale = FLOAT16_LOSS_SCALE if _has_float16(parameters) else 1.0
    (loss.float() * scale if scale != 1.0 else loss).backward()
    gradients = {name: parameter.grad for name, parameter in parameters.items()}
    for parameter in parameters.values():
        parameter.grad = None
    if scale == 1.0:
        return gradients
    return {name: None if grad is None else grad.float() / scale for name, grad in gradients.items()}


def _has_float16(parameters: Mapping[str, Tensor]) -> bool:
    return any(parameter.dtype == torch.float16 for parameter in parameters.values())
