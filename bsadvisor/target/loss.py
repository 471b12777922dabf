"""The training loss: the user's own, or the one that the model's output and the batch call for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsadvisor.errors import TargetError
from bsadvisor.target.user_code import UserCode

LossFunction = Callable[[nn.Module, Any], Any]

LABEL_KEYS = ("labels", "label", "targets", "target")

IGNORED_LABEL = -100
"""What torch's cross entropy leaves out of its mean."""

_IGNORING = (nn.CrossEntropyLoss, nn.NLLLoss)

_ELEMENTWISE = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A mean loss of a batch, and where it was found."""

    function: LossFunction
    found: str
    ignored: int = IGNORED_LABEL
    """The label that it leaves out of its mean."""


def choose_loss(
    chosen: Any, chosen_by: str, model: nn.Module, batch: Any, code: UserCode, *, criterion: Any = None
) -> Loss:
    """The loss that was given, or else the one that a first batch shows.

    Args:
        chosen: a function (model, batch), a loss module, a name in `spec.CRITERIA`, or None.
        chosen_by: says in the report who gave it.
        criterion: the only loss module beside a chosen function, which probably calls it; or None.
    """
    given = () if isinstance(chosen, str) else (chosen, criterion, *model.modules())
    ignored = next((part.ignore_index for part in given if isinstance(part, _IGNORING)), IGNORED_LABEL)
    return replace(_choose(chosen, chosen_by, model, batch, code), ignored=ignored)


def _choose(chosen: Any, chosen_by: str, model: nn.Module, batch: Any, code: UserCode) -> Loss:
    if chosen is None:
        return _infer(model, batch, code)
    if isinstance(chosen, nn.Module):  # weights of classes go where the model is
        chosen = chosen.to(next(model.parameters()).device)
    criterion = _criterion(chosen)
    return Loss(function=on_pairs(criterion) if criterion else chosen, found=chosen_by)


def label_counts(batch: Any, ignored: int = IGNORED_LABEL) -> int | None:
    """Labels that a mean over them counts: of tokens, or one per example; None without integer labels."""
    labels = integer_targets(batch)
    if labels is None:
        return None
    counted = labels != ignored
    if class_labels(batch) is None and _repeat_the_inputs(batch, labels, counted):
        counted = counted[:, 1:]
    return int(counted.sum())


def token_counts(batch: Any, ignored: int = IGNORED_LABEL) -> int | None:
    """Labels that a mean over tokens counts; None where examples do not carry several labels each."""
    return label_counts(batch, ignored) if class_labels(batch) is None else None


def _repeat_the_inputs(batch: Any, labels: Tensor, counted: Tensor) -> bool:
    """Labels that are the inputs again are shifted by the model itself, which never predicts the first."""
    inputs = batch.get("input_ids") if isinstance(batch, Mapping) else batch[0]
    if not isinstance(inputs, Tensor) or inputs.shape != labels.shape:
        return False
    return torch.equal(inputs[counted], labels[counted].to(inputs.dtype))


def class_labels(batch: Any) -> Tensor | None:
    """One integer class per example, if that is what the targets are."""
    labels = integer_targets(batch)
    return labels if labels is not None and labels.numel() == labels.shape[0] else None


def counted_classes(batch: Any, ignored: int) -> Tensor | None:
    """`class_labels` with the largest class in place of ignored ones; no waiting for the device."""
    labels = class_labels(batch)
    if labels is None or not labels.numel():
        return labels
    counted = labels != ignored
    return torch.where(counted, labels, (labels * counted).max())


def integer_targets(batch: Any) -> Tensor | None:
    """The last part of a pair, or the entry of a dict under a usual name, if it holds integers."""
    targets: Any = None
    if isinstance(batch, Mapping):
        targets = next((batch[key] for key in LABEL_KEYS if key in batch), None)
    elif isinstance(batch, (list, tuple)) and len(batch) == 2:
        targets = batch[1]
    return targets if isinstance(targets, Tensor) and targets.ndim and _are_integers(targets) else None


# --- losses -------------------------------------------------------------------------------------


def on_pairs(criterion: Callable[[Tensor, Tensor], Any]) -> LossFunction:
    """The loss of batches that are (inputs, targets)."""

    def loss(model: nn.Module, batch: Any) -> Any:
        if not (isinstance(batch, (list, tuple)) and len(batch) == 2):
            raise TargetError(
                f"the loss compares outputs with targets, but a batch is {_shape_of(batch)}",
                _write_a_loss(batch),
            )
        inputs, targets = batch
        return criterion(model(inputs), targets)

    return loss


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy of (B, C), (B, T, C) or (B, C, ...) logits."""
    return F.cross_entropy(*_align_classes(logits, targets))


def mean_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error, where (B, 1) and (B,) are the same."""
    return F.mse_loss(*_align_values(outputs, targets))


def _align_classes(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if targets.is_floating_point():  # probabilities of the classes
        return logits, targets
    targets = targets.long()
    if logits.ndim == 2 and targets.shape == (len(logits), 1):
        targets = targets.squeeze(1)
    classes_last = logits.shape[:-1] == targets.shape
    classes_second = logits.ndim > 2 and logits.shape[:1] + logits.shape[2:] == targets.shape
    # Where both could be meant: sequences carry their classes last, images second.
    if classes_last and not (classes_second and logits.ndim > 3):
        return logits.flatten(0, -2), targets.flatten()
    if classes_second:
        return logits, targets
    raise _shapes_differ("cross entropy", logits, targets)


def _align_values(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if _without_last_one(outputs.shape) != _without_last_one(targets.shape):
        raise _shapes_differ("mean squared error", outputs, targets)
    return outputs.reshape(targets.shape), targets.to(outputs.dtype)


def _without_last_one(shape: torch.Size) -> torch.Size:
    """(B, 1) is (B,), but (1,) stays: a batch may hold one example."""
    return shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape


def _shapes_differ(loss: str, outputs: Tensor, targets: Tensor) -> TargetError:
    return TargetError(
        f"{loss} of outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)}: they do not fit",
        _write_a_loss((outputs, targets)),
    )


def _criterion(chosen: Any) -> Callable[[Tensor, Tensor], Any] | None:
    """What compares outputs with targets; None for a function of (model, batch)."""
    if chosen == "cross_entropy" or chosen is F.cross_entropy:
        return cross_entropy
    if chosen == "mse" or chosen is F.mse_loss:
        return mean_squared_error
    if isinstance(chosen, _IGNORING):
        return lambda logits, targets: chosen(*_align_classes(logits, targets))
    if isinstance(chosen, _ELEMENTWISE):
        return lambda outputs, targets: chosen(*_align_values(outputs, targets))
    return chosen if isinstance(chosen, nn.Module) else None


# --- inference ----------------------------------------------------------------------------------


def _infer(model: nn.Module, batch: Any, code: UserCode) -> Loss:
    """Decide by one forward pass that leaves no trace."""
    if callable(getattr(model, "training_step", None)):
        return Loss(function=_training_step, found="the model's training_step")
    if isinstance(batch, (list, tuple)) and len(batch) == 2:
        found = _infer_from_pair(model, batch, code)
    else:
        found = _infer_from_output(model, batch, code)
    if found is None:
        raise TargetError(
            f"no loss can be inferred from a batch that is {_shape_of(batch)}", _write_a_loss(batch)
        )
    return found


def _infer_from_pair(model: nn.Module, batch: Any, code: UserCode) -> Loss | None:
    inputs, targets = batch
    if _takes(model, inputs):
        output = _try_forward(model, lambda: model(inputs), batch, code)
        if isinstance(output, Tensor):
            return _infer_from_targets(output, targets)
    return _infer_from_output(model, batch, code) if _takes(model, inputs, targets) else None


def _infer_from_targets(output: Tensor, targets: Any) -> Loss | None:
    if not isinstance(targets, Tensor):
        return None
    if _are_integers(targets):
        logits, _ = _align_classes(output, targets)
        found = Loss(function=on_pairs(cross_entropy), found="cross entropy, for the targets are integers")
        return found if logits.shape[1] > 1 else None
    if targets.is_floating_point():
        _align_values(output, targets)
        return Loss(
            function=on_pairs(mean_squared_error), found="mean squared error, for the targets are floats"
        )
    return None


def _infer_from_output(model: nn.Module, batch: Any, code: UserCode) -> Loss | None:
    output = _try_forward(model, lambda: _forward(model, batch), batch, code)
    return None if _loss_in(output) is None else Loss(function=_loss_of_output, found="the output's loss")


def _try_forward(model: nn.Module, forward: Callable[[], Any], batch: Any, code: UserCode) -> Any:
    remedy = f"let the model take a batch as the data yields it, or its loss: {_write_a_loss(batch)}"
    with _leaving_no_trace(model), code.run("the forward pass of the first batch", remedy=remedy):
        return forward()


def _training_step(model: Any, batch: Any) -> Any:
    result = model.training_step(batch, 0)
    return result["loss"] if isinstance(result, Mapping) else result


def _loss_of_output(model: nn.Module, batch: Any) -> Any:
    return _loss_in(_forward(model, batch))


def _forward(model: nn.Module, batch: Any) -> Any:
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, (list, tuple)) else model(batch)


def _loss_in(output: Any) -> Any:
    """The loss that a model computed itself: under its name, or as the only scalar of a tuple."""
    if isinstance(output, Mapping):
        return output.get("loss")
    if isinstance(output, tuple) and not hasattr(output, "loss"):
        scalars = [part for part in output if isinstance(part, Tensor) and part.ndim == 0]
        return scalars[0] if len(scalars) == 1 else None
    return getattr(output, "loss", None)


def _takes(model: nn.Module, *parts: Any) -> bool:
    """Whether forward can be called with these parts of a batch."""
    try:
        inspect.signature(model.forward).bind(*parts)
    except TypeError:
        return False
    return True


@contextmanager
def _leaving_no_trace(model: nn.Module) -> Iterator[None]:
    """Without gradients; buffers such as BatchNorm's running statistics are as before."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        try:
            yield
        finally:
            for name, buffer in model.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])


def _are_integers(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool


def _write_a_loss(batch: Any) -> str:
    """The function to add to the file, with the parts of this batch by their names."""
    parts = "inputs, targets = batch"
    if isinstance(batch, Mapping) and len(batch) > 1:
        first, *_, last = batch
        last = next((key for key in LABEL_KEYS if key in batch), last)
        parts = f"inputs, targets = batch[{first!r}], batch[{last!r}]"
    elif isinstance(batch, (list, tuple)) and len(batch) > 2:
        parts = "inputs, *_, targets = batch"
    return (
        f"write it in the target's file: def loss(model, batch): {parts}; "
        "return cross_entropy(model(inputs), targets)   (any scalar: the mean over the batch's examples)"
    )


def _shape_of(batch: Any) -> str:
    """A batch in words: `a list of 3`, `a dict of image, label`, `a Tensor`."""
    if isinstance(batch, Mapping):
        return f"a {type(batch).__name__} of {', '.join(map(str, batch))}"
    size = f" of {len(batch)}" if isinstance(batch, (list, tuple)) else ""
    return f"a {type(batch).__name__}{size}"
