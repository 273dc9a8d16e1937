"""The command line: one module a command, imported when it is asked for, for start-up time is somebody's outage."""

from __future__ import annotations

import importlib
from typing import Final

import click

from tracer import __version__
from tracer.cli.errors import guarded

_COMMANDS: Final = {
    "watch": "Show live which connections head toward a reset, why, when, and who is the slow reader.",
    "record": "Write the event stream to files, sockets or syslog, for unattended use.",
    "replay": "Show what a recording tells, as watch would have shown it.",
    "snapshot": "Scan once, print the same columns, exit.",
    "doctor": "Check every precondition and say how to mend what is missing.",
    "demo": "Reproduce an outage with a real nginx in namespaces of its own, and watch it.",
}


class _Commands(click.Group):
    """Loads a command's module only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"tracer.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="tcptrace")
@click.pass_context
def tcptrace(context: click.Context) -> None:
    """Which TCP connections of this host head toward a reset, why, when, and which process is the slow reader.

    \b
    sudo tcptrace watch --port 443           what happens now on port 443
    sudo tcptrace watch --json > events      the same, for a log pipeline
    sudo tcptrace snapshot                   one look, as netstat -anop gave
    sudo tcptrace demo                       see it at work on a real outage
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """The console script."""
    guarded(tcptrace, "tcptrace")
