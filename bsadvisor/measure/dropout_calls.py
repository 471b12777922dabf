"""Which calls of a forward pass drop activations, and what they feed: watched, not guessed from the classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.overrides import TorchFunctionMode

from bsadvisor.values import KeepProbability

_BY_P = ("alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout")
"""Functions (and their in-place twins) of (input, p, training)."""

_TRAINING_BY_DEFAULT = ("dropout", "dropout1d", "dropout2d", "dropout3d")

_RECURRENT = ("gru", "lstm", "rnn_relu", "rnn_tanh")
"""Functions of (..., number of layers, dropout, training, ...)."""

_RESHAPING = ("contiguous", "flatten", "reshape", "squeeze", "unflatten", "unsqueeze", "view")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What dropout returned, and what it was given."""

    output: Tensor
    input: Tensor
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearCall:
    """A linear layer whose input comes straight from dropout."""

    name: str
    keep: float
    input: Tensor
    """(..., features): before dropout."""
    has_bias: bool


@dataclass(kw_only=True)
class DropoutCalls:
    """What was seen."""

    rates: dict[tuple[str, float], None] = field(default_factory=dict)
    """(module, rate), in the order of the calls."""
    linear: list[LinearCall] = field(default_factory=list)

    @property
    def keep_probabilities(self) -> tuple[KeepProbability, ...]:
        """Of every place that drops anything."""
        return tuple(KeepProbability(name=name, keep=1 - rate) for name, rate in self.rates)


@contextmanager
def dropout_watched(model: nn.Module, *, inputs: bool = False) -> Iterator[DropoutCalls]:
    """Hand out what is seen in the forward passes inside; nothing of a compiled model but its dropout modules.

    Args:
        inputs: whether to keep the inputs of linear layers after dropout, too.
    """
    seen = DropoutCalls()
    if any(hasattr(module, "_orig_mod") for module in model.modules()):  # watching would compile it anew
        seen.rates |= dict.fromkeys(_dropout_modules(model))
        yield seen
        return
    names = {module: name for name, module in model.named_modules()}
    stack: list[str] = []

    def enter(module: nn.Module, _: Any) -> None:
        stack.append(names.get(module, stack[-1] if stack else ""))

    def leave(_: nn.Module, __: Any, ___: Any) -> None:
        stack.pop()

    handles = [
        hooks.register_module_forward_pre_hook(enter),
        hooks.register_module_forward_hook(leave, always_call=True),
    ]
    try:
        with _Watch(seen, lambda: (stack[-1] if stack else "") or "model", inputs):
            yield seen
    finally:
        for handle in handles:
            handle.remove()


def _dropout_modules(model: nn.Module) -> Iterator[tuple[str, float]]:
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            yield name, module.p


class _Watch(TorchFunctionMode):
    """Sees every call of a torch function by Python code; not those that torch's own functions make."""

    def __init__(self, seen: DropoutCalls, place: Callable[[], str], inputs: bool) -> None:
        super().__init__()
        self._seen = seen
        self._place = place
        self._inputs = inputs
        self._dropped: dict[int, Dropped] = {}
        """By the identity of the output, which stays alive meanwhile."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "").rstrip("_")
        rate = _rate(name, func, args, kwargs)
        if rate:
            self._seen.rates[self._place(), rate] = None
        if self._inputs:
            self._follow(name, func, args, kwargs, result, rate)
        return result

    def _follow(self, name: str, func: Any, args: Any, kwargs: Any, result: Any, rate: float) -> None:
        """From dropout, through changes of shape, into a linear layer."""
        given = args[0] if args else kwargs.get("input")
        if name == "dropout" and 0 < rate < 1 and given is not result:
            self._dropped[id(result)] = Dropped(output=result, input=given.detach(), rate=rate)
            return
        before = self._dropped.get(id(given))
        if before is None:
            return
        if name in _RESHAPING:
            same = func(before.input, *args[1:], **kwargs)
            self._dropped[id(result)] = Dropped(output=result, input=same, rate=before.rate)
        elif func is F.linear:
            bias = args[2] if len(args) > 2 else kwargs.get("bias")
            self._seen.linear.append(
                LinearCall(
                    name=self._place(),
                    keep=1 - before.rate,
                    input=before.input,
                    has_bias=bias is not None,
                )
            )


def _rate(name: str, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> float:
    """Probability with which the call drops; 0 where it drops nothing, or is no dropout."""
    if name in _BY_P:
        rate = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
        default = kwargs.get("train", name in _TRAINING_BY_DEFAULT)
        training = kwargs.get("training", args[2] if len(args) > 2 else default)
        return float(rate) if training else 0.0
    if name == "scaled_dot_product_attention":
        return float(kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0))
    if name == "multi_head_attention_forward":
        given = inspect.signature(func).bind(*args, **kwargs)
        given.apply_defaults()
        return float(given.arguments["dropout_p"]) if given.arguments["training"] else 0.0
    if name in _RECURRENT:
        at = next((at for at, value in enumerate(args) if isinstance(value, float)), None)
        several = at is not None and args[at - 1] > 1 and args[at + 1]
        return float(args[at]) if at is not None and several else 0.0
    return 0.0
