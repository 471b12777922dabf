"""What the user's file calls its model, data, held-out data, loss and optimizer."""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Callable, Collection, Iterable
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.loss import _Loss
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from bsadvisor.errors import DataError, TargetError
from bsadvisor.settings import LARGEST_BATCH
from bsadvisor.target.candidates import needed_arguments, no_data, no_model, own_names
from bsadvisor.target.paths import PythonName, shown, typed
from bsadvisor.target.user_code import UserCode


def find_model(code: UserCode, where: PythonName) -> nn.Module:
    """The model a file defines, built if the file has a function or class for it."""
    module, name = code.load(where.file), where.name or "model"
    found = getattr(module, name, None)
    if not (isinstance(found, nn.Module) or callable(found)):
        raise TargetError(*no_model(module, where, name, found))
    model = found
    if not isinstance(found, nn.Module):
        model = _call(code, found, name, where)
    if not isinstance(model, nn.Module):
        raise TargetError(
            f"`{name}` in {shown(where.file)} returned a {type(model).__name__}, not a torch.nn.Module",
            f"let {name}() return the model alone",
        )
    return model


def find_data(code: UserCode, file: PythonName, *, named: PythonName | None) -> Any:
    """The training data under a given name, or `data` in the file, or its only DataLoader."""
    found = find_named(code, named) if named else _unnamed_data(code, file)
    if _is_function(found):
        return _call(
            code, found, named.name if named and named.name else "data", named or file, flag="--data "
        )
    return found


def _unnamed_data(code: UserCode, file: PythonName) -> Any:
    module = code.load(file.file)
    found = getattr(module, "data", None)
    if not _can_be_data(found):
        found = _only(module, DataLoader)
    if found is None:
        raise DataError(*no_data(module, file))
    return found


def find_heldout(code: UserCode, file: PythonName, *, named: PythonName | None) -> Any:
    """The held-out data under a given name, or `heldout` in the file; None where the file has none."""
    found: Any = find_named(code, named) if named else getattr(code.load(file.file), "heldout", None)
    if _is_function(found):
        name = named.name if named and named.name else "heldout"
        return _call(code, found, name, named or file, flag="heldout.loader in the YAML, ")
    return None if isinstance(found, ModuleType) else found


def find_loss(code: UserCode, file: PythonName) -> Any:
    """`loss` in the file, or its only loss module under any name; None where the file has neither."""
    module = code.load(file.file)
    found = getattr(module, "loss", None)
    # A tensor called `loss`, left over from a training loop at module level, cannot be called.
    return found if callable(found) else find_criterion(code, file)


def find_criterion(code: UserCode, file: PythonName) -> Any:
    """The only loss module in the file, or None."""
    return _only(code.load(file.file), _Loss)


def find_optimizer(code: UserCode, file: PythonName) -> Any:
    """`optimizer` in the file, or its only torch optimizer; None where the file has neither."""
    module = code.load(file.file)
    found = getattr(module, "optimizer", None)
    return found if callable(found) or isinstance(found, Optimizer) else _only(module, Optimizer)


def find_number(code: UserCode, file: PythonName, name: str, kinds: tuple[type, ...]) -> float | None:
    """A constant above zero, such as BATCH_SIZE; None where the file has none."""
    found: Any = getattr(code.load(file.file), name, None)
    if found is None:
        return None
    if not _is_positive(found, kinds):
        finite = float in kinds
        kind = "finite number" if finite else "whole number"
        most = "" if finite else f", at most {LARGEST_BATCH:,}"
        raise TargetError(
            f"{name} in {shown(file.file)} is {reprlib.repr(found)}", f"make it a {kind} above 0{most}"
        )
    return float(found)


def find_numbers_like(
    code: UserCode, file: PythonName, spellings: Collection[str], kinds: tuple[type, ...]
) -> dict[str, float]:
    """Numbers above zero under names that are one of the spellings in any case, each by its name."""
    return {
        name: float(value)
        for name, value in vars(code.load(file.file)).items()
        if name.lower() in spellings and _is_positive(value, kinds)
    }


def _is_positive(value: Any, kinds: tuple[type, ...]) -> bool:
    number = isinstance(value, kinds) and not isinstance(value, bool)
    return number and 0 < value <= (LARGEST_BATCH if isinstance(value, int) else sys.float_info.max)


def find_named(code: UserCode, where: PythonName) -> Any:
    """Whatever a file has under a name."""
    module = code.load(where.file)
    if not hasattr(module, str(where.name)):
        raise TargetError(
            f"{shown(where.file)} defines no `{where.name}`",
            f"names there: {', '.join(own_names(module)) or 'none'}",
        )
    return getattr(module, str(where.name))


def _call(
    code: UserCode, function: Callable[..., Any], name: str, where: PythonName, *, flag: str = ""
) -> Any:
    """Call a function or class of the user's that must need no arguments; `flag` names another one."""
    needed = needed_arguments(function)
    if needed:
        raise TargetError(
            f"`{name}` in {shown(where.file)} wants arguments: {', '.join(needed)}",
            f"give them defaults, or add a function without: def build(): return {name}(...)"
            f"   and name it: {flag}{typed(PythonName(file=where.file, name='build'))}",
        )
    with code.run(
        f"`{name}`", remedy=f"mend `{name}` in {shown(where.file)}; it is called without arguments"
    ):
        return function()


def _only(module: ModuleType, kind: type) -> Any:
    """The one object of a kind that a file defines, or None."""
    found = list({id(value): value for value in vars(module).values() if isinstance(value, kind)}.values())
    return found[0] if len(found) == 1 else None


def _can_be_data(value: Any) -> bool:
    # `data` may also be the module torch.utils.data, or left over from a loop over a loader.
    unusable = (ModuleType, Tensor, str, bytes, dict)
    usable = isinstance(value, (Dataset, Iterable)) or callable(value) or hasattr(value, "__getitem__")
    return usable and not isinstance(value, unusable) and not _is_array(value)


def _is_array(value: Any) -> bool:
    return hasattr(value, "__array__")


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, (Dataset, DataLoader, Iterable))
