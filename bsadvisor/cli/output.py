"""Where a report goes: to a stdout that holds nothing else, or to a file that is replaced in one step."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

from bsadvisor.errors import BsadvisorError, OutputError

if TYPE_CHECKING:
    from bsadvisor.values import Report, ScaleAdvice, TrackReport

Format = Literal["text", "json", "yaml", "markdown"]
CheckFormat = Literal["text", "json", "yaml", "markdown", "github", "junit"]

_FORMAT_OF_ENDING: dict[str, Format] = {
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".md": "markdown",
}


_MARK_OF_A_REPORT = re.compile(rb'bsadvisor(_version"?:)? "?\d')
"""Near the beginning of every format: the program and its version."""


def choose_format(asked: Format | None, output: Path | None) -> Format:
    """The format asked for, else the one that the file's ending means, else text."""
    ending = output.suffix.lower() if output else ""
    return asked or _FORMAT_OF_ENDING.get(ending, "text")


def choose_check_format(asked: CheckFormat | None, output: Path | None) -> CheckFormat:
    """The same for a check, which is written as JUnit XML, too."""
    is_xml = output is not None and output.suffix.lower() == ".xml"
    return asked or ("junit" if is_xml else choose_format(None, output))


# --- streams ------------------------------------------------------------------------------------


def open_missing_streams() -> None:
    """Put something in place of the standard streams that the shell closed, as in `>&-`.

    Else the next file that is opened takes their place. What stands in for stdout is open for reading
    only: a report that nobody can read must fail, and not vanish.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY), number)
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115, PTH123


def take_stdout() -> TextIO:
    """Keep stdout for the report: from here on, whatever else is printed goes to stderr.

    It is the file descriptor that is redirected, so that C libraries and worker processes follow; and
    it stays so, because the user's code may print when the program exits.
    """
    sys.stdout.flush()
    real = open(os.dup(1), "w", encoding=sys.stdout.encoding, errors="backslashreplace")  # noqa: SIM115, PTH123
    os.dup2(2, 1)
    return real


def publish(text: str, stream: TextIO) -> None:
    """Write all of it; a reader that has seen enough is no error."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        give_up(stream)
        if not isinstance(error, BrokenPipeError):
            raise unwritable_stdout(error, "write to a file with --output FILE") from error


def give_up(stream: TextIO) -> None:
    """What is still buffered must not fail a second time when the stream is closed."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - not a path of ours
        os.dup2(nowhere.fileno(), stream.fileno())


def unwritable_stdout(error: OSError, remedy: str) -> OutputError:
    """The report or the help did not get through."""
    return OutputError(f"stdout cannot be written: {error.strerror}", remedy)


def publish_report(report: Report | ScaleAdvice | TrackReport, format: Format, stream: TextIO) -> None:
    """Render for the screen or the pipe that the stream is."""
    from bsadvisor import report as reports

    publish_rendered(partial(reports.render, report, format), stream)


def publish_rendered(render: Callable[..., str], stream: TextIO) -> None:
    """The same of anything that is rendered by width, colour and characters."""
    on_screen = stream.isatty()
    text = render(
        width=shutil.get_terminal_size().columns if on_screen else None,
        color=on_screen and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb",
        unicode=stream.encoding.lower().startswith("utf"),
    )
    publish(text, stream)


def say_error(error: BsadvisorError) -> None:
    """Two lines on stderr: what is wrong, and what to do."""
    message, remedy = (" ".join(text.splitlines()) for text in (error.message, error.remedy))
    print(f"error: {message}\n  try: {remedy}", file=sys.stderr)


# --- files --------------------------------------------------------------------------------------


def check_writable(path: Path) -> None:
    """Refuse now what could not be written after a minute of measuring."""
    temporary = _beside(path)
    try:
        if path.exists():
            _refuse_unless_a_report(path)
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _refuse_unless_a_report(path: Path) -> None:
    """A slip of the keyboard must not replace a model or a checkpoint; an empty file is nobody's work."""
    # /dev/stdout may lead to a file; but stdout was taken to keep the user's own prints out of the report.
    if path.is_relative_to("/dev") or not path.is_file():
        raise OutputError(f"{path} is not a file", "give --output FILE, or leave it out to print the report")
    with path.open("rb") as file:
        head = file.read(1000)
    if head and not _MARK_OF_A_REPORT.search(head):
        raise OutputError(
            f"{path} is there already and is no report", "choose another --output, or remove it"
        )


def write_file(path: Path, text: str) -> None:
    """Replace the file in one step, so that nobody reads half a report."""
    temporary = _beside(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(os.path.realpath(path))
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _beside(path: Path) -> Path:
    """A name in the same folder, because a file cannot be replaced from another disk."""
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.{os.getpid()}.part")


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written: {error.strerror}", "choose another --output")
