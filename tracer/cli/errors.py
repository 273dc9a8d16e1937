"""The one place where errors end: cause and remedy on stderr, an exit code, and no traceback for what a user can mend."""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Final, NoReturn

import click

from tracer.errors import USAGE, TcptraceError
from tracer.text import printable

UNWRITTEN: Final = 1
INTERRUPTED: Final = 130

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_PLACE: Final = _FULL | {errno.EIO, errno.ENXIO, errno.EROFS}
"""What writing fails with for reasons of the place. Any other OSError that gets this far is a mistake of ours."""


def guarded(command: click.Command, name: str) -> NoReturn:
    """Runs the command line to its exit code."""
    _prepare_standard_streams()
    code: object
    try:
        code = _run(command, name)
        sys.stdout.flush()  # here, where a closed pipe can still be caught; at exit it would be a message on stderr
    except TcptraceError as error:
        _say(error.cause, error.remedy)
        code = error.exit_code
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        _say(error.format_message(), f"try `{context.command_path if context else name} --help`")
        code = USAGE
    except BrokenPipeError:
        _silence_stdout()
        code = 0
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        _silence_stdout()
        free = "free some space there, or write" if error.errno in _FULL else "write"
        _say(f"the output cannot be written: {error.strerror}", f"{free} to another place")
        code = UNWRITTEN
    except (KeyboardInterrupt, click.Abort):
        with suppress(OSError):
            click.echo(err=True)  # a terminal has just shown ^C
        code = INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


def _run(command: click.Command, name: str) -> object:
    """What the command returns. click's own main() takes EPIPE for itself, each release in another way, and ends with 1."""
    if f"_{name.upper()}_COMPLETE" in os.environ:
        command.main(prog_name=name)  # the shell asks what may come next
    try:
        with command.make_context(name, sys.argv[1:]) as context:
            return command.invoke(context)
    except click.exceptions.Exit as left:
        return left.exit_code


def _say(cause: str, remedy: str) -> None:
    """Two lines, whatever somebody gave as an argument, or a program that we ran had to say."""
    cause, remedy = (printable(" ".join(text.splitlines())) for text in (cause, remedy))
    with suppress(OSError):  # where there is no place to say it, the exit code tells
        click.echo(f"tcptrace: {cause}\n  {remedy}", err=True)


def _prepare_standard_streams() -> None:
    """Makes all three be there, and take any text.

    Started with one of them closed, the next file opened would be taken for it, and be written into by bcc's compiler. Where
    the locale has no UTF-8, a process's name may have letters that it lacks.
    """
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > 2:
            os.close(fd)
            break
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a table has no room for escapes: its text was laid out before
            stream.reconfigure(errors="replace" if stream.isatty() else "backslashreplace")


def _silence_stdout() -> None:
    """What is still buffered has no reader; without this the interpreter complains of it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
