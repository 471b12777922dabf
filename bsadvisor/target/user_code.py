"""The user's code runs in here, with its own `sys.path` and `sys.argv`, and fails in plain words."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from bsadvisor.errors import BsadvisorError, TargetError, is_out_of_memory
from bsadvisor.target.paths import shown, typed

SLOW_IMPORT_SECONDS = 20.0

_NOT_THE_USERS = tuple(
    f"{folder}{os.sep}"
    for folder in (
        Path(__file__).parents[1],
        *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
    )
)

_PRINTED_FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.+)')


class UserCode:
    """Imports the user's files, each once, and guards every later call into them."""

    def __init__(self, *, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._modules: dict[Path, ModuleType] = {}
        self._path = list(sys.path)
        self._argv = list(sys.argv)

    def load(self, file: Path) -> ModuleType:
        """The module of a file, imported at the first call."""
        file = file.resolve()
        if file not in self._modules:
            self._modules[file] = self._import(file)
        return self._modules[file]

    @contextmanager
    def run(self, doing: str, *, remedy: str) -> Iterator[None]:
        """Whatever the code inside raises becomes a `TargetError` that names the user's line."""
        outside = list(sys.path), list(sys.argv)
        sys.path[:], sys.argv[:] = self._path, self._argv
        try:
            yield
        except (BsadvisorError, KeyboardInterrupt):
            raise
        except BaseException as error:  # SystemExit too, and whatever else the user's code may raise
            if is_out_of_memory(error):
                raise
            raise TargetError(f"{doing} failed{_where(error)}: {_what(error)}", remedy) from error
        finally:
            # What the user's code added to the path is there again for its next call.
            self._path, self._argv = list(sys.path), list(sys.argv)
            sys.path[:], sys.argv[:] = outside

    def _import(self, file: Path) -> ModuleType:
        # A name that no import statement can collide with; not `__main__`, so that guards hold.
        name = f"bsadvisor_target_{file.stem}_{len(self._modules)}_{id(self)}"
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise TargetError(f"{shown(file)} is not a Python file", "give FILE.py or FILE.py:NAME")
        module = importlib.util.module_from_spec(spec)
        # In place before the code runs: dataclasses and pickle look their module up.
        sys.modules[name] = module
        self._path = [str(file.parent), *(entry for entry in self._path if entry != str(file.parent))]
        self._argv = [str(file)]
        with (
            _patience(file, self._notify),
            self.run(
                f"importing {shown(file)}",
                remedy=f"run `python {typed(file)}` for the whole traceback; "
                "a training loop belongs under `if __name__ == '__main__':`",
            ),
        ):
            spec.loader.exec_module(module)
        return module


@contextmanager
def _patience(file: Path, notify: Callable[[str], None]) -> Iterator[None]:
    """Say what is probably going on when an import takes long."""
    advice = (
        f"{shown(file)} is still being imported after {SLOW_IMPORT_SECONDS:.0f} s: if it trains, "
        "guard the training loop with `if __name__ == '__main__':`"
    )
    timer = threading.Timer(SLOW_IMPORT_SECONDS, notify, [advice])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _where(error: BaseException) -> str:
    """` at FILE:LINE in FUNCTION`, the last frame in the user's code, if any is."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {shown(Path(error.filename))}:{error.lineno}"
    frames = [
        *((frame.filename, frame.lineno, frame.name) for frame in traceback.extract_tb(error.__traceback__)),
        # A loader's worker process sends its traceback as the text of the message.
        *((hit["file"], hit["line"], hit["function"]) for hit in _PRINTED_FRAME.finditer(str(error))),
    ]
    mine = [frame for frame in frames if _is_the_users(frame[0])]
    if not mine:
        return ""
    file, line, function = mine[-1]
    return f" at {shown(Path(file))}:{line}" + ("" if function == "<module>" else f" in {function}")


def _what(error: BaseException) -> str:
    """`Type: message` in one line."""
    lines = str(error).strip().splitlines()
    if lines and _PRINTED_FRAME.search(str(error)):
        return lines[-1]
    return type(error).__name__ + (f": {lines[0]}" if lines else "")


def _is_the_users(filename: str) -> bool:
    return not filename.startswith("<") and not filename.startswith(_NOT_THE_USERS)
