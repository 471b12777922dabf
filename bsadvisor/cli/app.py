"""The program: its commands, and what becomes of what they raise."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer

from bsadvisor import __version__
from bsadvisor.cli.output import give_up, open_missing_streams, say_error, unwritable_stdout
from bsadvisor.errors import EXIT_DONE, EXIT_USAGE, BsadvisorError, UsageError

_WrongUsage: Any = typer.BadParameter.__base__
"""What every unreadable command line raises; typer has no name for it."""

COMMANDS = ("probe", "trial", "check", "scale", "track", "show", "explain", "schema", "init", "selftest")
"""Each is the function of that name in the module of that name."""


def make_app(words: Sequence[str]) -> typer.Typer:
    """The program for a command line: of its commands only the one that is named, for each takes its time to
    be made; all of them where none is, as for a TAB press."""
    app = typer.Typer(
        name="bsadvisor",
        invoke_without_command=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: drawing it would take longer than everything else together
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(program)
    for name in words[:1] if words and words[0] in COMMANDS else COMMANDS:
        command = import_module(f"bsadvisor.cli.{name}")
        app.command(name, epilog=command.EXAMPLES)(getattr(command, name))
    return app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"bsadvisor {__version__}")
        raise typer.Exit


def program(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Advises on batch size and learning rate for a PyTorch model, with the uncertainty of every number."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(EXIT_USAGE)


def main() -> None:
    """Run a command; an error of the user's is two lines and its exit code, one of ours a traceback."""
    open_missing_streams()
    try:
        app = make_app(sys.argv[1:])
        sys.exit(app(prog_name="bsadvisor", standalone_mode=False) or EXIT_DONE)
    except _WrongUsage as wrong:
        command = wrong.ctx.command_path if wrong.ctx else "bsadvisor"
        _fail(UsageError(wrong.format_message(), f"{command} --help"))
    except BsadvisorError as error:
        _fail(error)
    except OSError as error:
        if not _while_printing_help(error):
            raise
        give_up(sys.stdout)
        _fail(unwritable_stdout(error, "make room, or print it to the screen"))
    except SystemExit as leaving:
        # What is printed by the command line itself, such as `--help`, may lose its reader too.
        if isinstance(leaving.__context__, BrokenPipeError):
            sys.exit(0)
        raise


def _while_printing_help(error: OSError) -> bool:
    """Help and version are printed by the command line itself; whatever we print minds its own errors."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_code.co_name == "echo"


def _fail(error: BsadvisorError) -> NoReturn:
    say_error(error)
    sys.exit(error.exit_code)
