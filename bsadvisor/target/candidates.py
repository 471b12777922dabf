"""What may have been meant, where the user's file has nothing by the expected name."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn
from torch.nn.modules.loss import _Loss
from torch.utils.data import DataLoader, Dataset

from bsadvisor.target.paths import PythonName, shown, typed

_BUILDS = re.compile("model|net|build|make|create|get", re.IGNORECASE)
"""In the names of functions that may return a model; any other could start a training run."""


def no_model(module: ModuleType, where: PythonName, name: str, found: Any) -> tuple[str, str]:
    """Message and remedy where a file has no model by a name."""
    file = shown(where.file)
    what = f"{file} defines no `{name}`" if found is None else f"`{name}` in {file} is a {kind_of(found)}"
    ready, unready = _models(module)
    inside = _found_inside(where.file, lambda node: _assigns(node, name))
    if inside and not ready:
        return (
            f"{what} at module level: it is assigned inside {inside}",
            f"add a function to {file} that builds it: def model(): ...; return {name}",
        )
    if not ready and not unready:
        return what, f"add one to {file}: def model(): return MyModel()   (a torch.nn.Module)"
    candidates = {**ready, **unready}
    listed = "; ".join(f"{other}, {kind}" for other, kind in candidates.items())
    likeliest = PythonName(file=where.file, name=next(iter(candidates)))
    return what, f"bsadvisor probe {typed(likeliest)}   ({where.file.name} has: {listed})"


def _models(module: ModuleType) -> tuple[dict[str, str], dict[str, str]]:
    """Names that may be meant, each with what it is, the likeliest first: ready, and wanting arguments."""
    own = {name: getattr(module, name) for name in own_names(module)}
    ready = {
        name: f"a {kind_of(value)} instance"
        for name, value in own.items()
        if isinstance(value, nn.Module) and not isinstance(value, _Loss)
    }
    unready: dict[str, str] = {}
    # The last class of a file is usually the whole model, those before it its parts.
    for name, value in reversed(own.items()):
        if isinstance(value, type) and issubclass(value, nn.Module):
            (unready if needed_arguments(value) else ready)[name] = "a class"
    for name, value in own.items():
        if inspect.isfunction(value) and _BUILDS.search(name) and not needed_arguments(value):
            ready[name] = "a function"
    return ready, unready


def no_data(module: ModuleType, where: PythonName) -> tuple[str, str]:
    """Message and remedy where a file has no data."""
    file = shown(where.file)
    found = getattr(module, "data", None)
    what = (
        f"{file} defines no `data`"
        if found is None or isinstance(found, ModuleType)
        else f"`data` in {file} is a {kind_of(found)}, not a Dataset, a DataLoader or an iterable of batches"
    )
    loaders = [name for name in own_names(module) if isinstance(getattr(module, name), (DataLoader, Dataset))]
    inside = _found_inside(where.file, _makes_a_loader)
    if inside and not loaders:
        return (
            f"{what} at module level: a DataLoader is made inside {inside}",
            f"add a function to {file} that makes it: def data(): ...; return DataLoader(...)",
        )
    if not loaders:
        return what, f"add the training data to {file}: data = TensorDataset(inputs, targets)"
    loaders.sort(key=lambda name: "train" not in name.lower())
    listed = "; ".join(f"{name}, a {kind_of(getattr(module, name))}" for name in loaders)
    likeliest = PythonName(file=where.file, name=loaders[0])
    command = f"bsadvisor probe {typed(where)} --data {typed(likeliest)}"
    return what, f"{command}   ({where.file.name} has: {listed})"


def own_names(module: ModuleType) -> list[str]:
    """Names a file defines, what it only imports left out."""

    def own(value: Any) -> bool:
        made_here = not (inspect.isclass(value) or inspect.isroutine(value))
        return made_here or getattr(value, "__module__", None) == module.__name__

    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and own(value)
    ]


def _found_inside(file: Path, wanted: Callable[[ast.expr], bool]) -> str | None:
    """The function or guard that holds a piece of code, where only running the file would reach it."""
    for block in ast.parse(file.read_bytes()).body:
        if not isinstance(block, (ast.FunctionDef, ast.If)):
            continue
        nodes = (node for node in ast.walk(block) if isinstance(node, ast.expr))
        line = next((node.lineno for node in nodes if wanted(node)), None)
        if line is not None:
            return f"{block.name if isinstance(block, ast.FunctionDef) else 'the main guard'} (line {line})"
    return None


def _assigns(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name


def _makes_a_loader(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "DataLoader"


def needed_arguments(function: Callable[..., Any]) -> list[str]:
    """Names of the arguments that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return []
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def kind_of(value: Any) -> str:
    """The class of a value, as a word."""
    return type(value).__name__
