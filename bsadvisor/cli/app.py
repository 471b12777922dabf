"""The program: its commands, and what becomes of what they raise."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bsadvisor import __version__
from bsadvisor.cli import explain, init, probe, schema, selftest, show
from bsadvisor.errors import BsadvisorError

app = typer.Typer(
    name="bsadvisor",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: drawing it would take longer than everything else together
    context_settings={"help_option_names": ["--help", "-h"]},
)

for command in (probe, show, explain, schema, init, selftest):
    name = command.__name__.rpartition(".")[2]
    app.command(name, epilog=command.EXAMPLES)(getattr(command, name))


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"bsadvisor {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Advises on batch size and learning rate for a PyTorch model, with the uncertainty of every number."""


def main() -> None:
    """Run a command; an error of the user's is two lines and its exit code, one of ours a traceback."""
    try:
        app(prog_name="bsadvisor")
    except BsadvisorError as error:
        print(f"error: {error.message}\n  try: {error.remedy}", file=sys.stderr)
        sys.exit(error.exit_code)
    except SystemExit as leaving:
        # What is printed by the command line itself, such as `--help`, may lose its reader too.
        if isinstance(leaving.__context__, BrokenPipeError):
            sys.exit(0)
        raise
