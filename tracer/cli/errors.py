"""The one place where errors end: cause and remedy on stderr, an exit code, and no traceback for what a user can mend."""

from __future__ import annotations

import os
import sys
from typing import Final, NoReturn

import click

from tracer.errors import USAGE, TcptraceError

INTERRUPTED: Final = 130


def guarded(command: click.Command, name: str) -> NoReturn:
    """Runs the command line to its exit code."""
    try:
        code = command.main(prog_name=name, standalone_mode=False)
        _flush()
    except TcptraceError as error:
        _say(error.cause, error.remedy)
        code = error.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "tcptrace"
        _say(error.format_message(), f"try `{where} --help`")
        code = USAGE
    except BrokenPipeError:
        _silence_stdout()
        code = 0
    except (KeyboardInterrupt, click.Abort):
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


def _say(cause: str, remedy: str) -> None:
    click.echo(f"tcptrace: {cause}\n  {remedy}", err=True)


def _flush() -> None:
    """Here, where a closed pipe can still be caught; at exit it would be a message on stderr."""
    sys.stdout.flush()


def _silence_stdout() -> None:
    """What is still buffered has no reader; without this the interpreter complains of it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
