"""tcptrace demo: the outage of our users on a real nginx, watched live, and its story."""

from __future__ import annotations

import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Final, TextIO

import click

from tracer.cli import options
from tracer.cli.output import host_name
from tracer.cli.session import output_for, watch
from tracer.cli.tracing import attached, clock_offset_ns
from tracer.demo import leftovers, story
from tracer.demo.incident import PORT, UPSTREAM_PORT, Incident, require_root
from tracer.errors import USAGE, TcptraceError
from tracer.kernel import checks
from tracer.model.findings import Notice, Phase, Screen
from tracer.model.selection import Selection
from tracer.view import picture
from tracer.view.table import Header

CALM_S: Final = 4.0
STALL_S: Final = 15.0
AFTERMATH_S: Final = 5.0


@click.command("demo")
@click.option("--json", "as_json", is_flag=True, help="The event stream on stdout; the story goes to stderr.")
@click.option("--clean", is_flag=True, help="Only remove what a demo left behind that was killed.")
@click.option(
    "--svg",
    metavar="FILE",
    help="Write a picture of the screen as the stall was at its end.",
)
def command(as_json: bool, clean: bool, svg: str | None) -> int:
    """Reproduce an outage with a real nginx in network namespaces of its own, watch it live, and tell the story.

    A server pushes tasks through nginx to two WebSocket clients. One handles them in the thread that reads, and gets stuck;
    half a minute later nginx logs "Connection reset by peer". Nothing outside the namespaces is touched, nothing stays.

    \b
    Examples:
      sudo tcptrace demo
      sudo tcptrace demo --json > outage.ndjson
      sudo tcptrace demo --svg outage.svg
    """
    require_root()
    _end_in_order()
    for line in leftovers.clean():
        click.echo(line, err=True)
    if clean:
        return 0
    checks.require()  # before anything is built
    with nullcontext() if svg is None else _opened(svg) as file:
        return _play(as_json, file)


def _opened(path: str) -> TextIO:
    """The file for the picture: when the demo is over would be late to hear that there is none."""
    try:
        return open(path, "w", encoding="utf-8")
    except OSError as error:
        raise TcptraceError(f"{path} cannot be written: {error.strerror}", "give --svg another place", USAGE) from error


def _play(as_json: bool, svg: TextIO | None) -> int:
    filters = options.Filters((range(PORT, PORT + 1), range(UPSTREAM_PORT, UPSTREAM_PORT + 1)), Selection())
    click.echo("tcptrace: building three hosts, nginx, a server, two clients; about 30 s in all", err=True)
    with Incident() as incident, attached(filters) as tracing:
        plot = story.Plot(incident.cast)
        output = _Recorded(output_for(as_json, filters.words(), tracing), plot)
        programs = tracing.programs
        if watch(tracing, output, filters, 1.0, None, _directions(incident)):
            raise KeyboardInterrupt  # half a story would be told as one that went wrong
        errors, offset = incident.nginx_errors(), clock_offset_ns()
        lines = story.tell(plot, errors, incident.cast, offset)
        claims = story.verify(plot, errors, incident.cast, offset)
    if svg is not None and output.stalled is not None:
        wanted = len(programs.attached) + len(programs.missing)
        header = Header(host_name(), CALM_S + STALL_S, filters.words(), len(programs.attached), wanted, tuple(programs.missing))
        svg.write(picture.svg(output.stalled, header, "sudo tcptrace demo"))
    click.echo("", err=as_json)
    for line in lines:
        click.echo(_wrapped(line, sys.stderr if as_json else sys.stdout), err=as_json)
    return _report(claims, to_stderr=as_json)


def _end_in_order() -> None:
    """Whatever asks for an end gets the same as Ctrl-C: all that was made is removed first."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _wrapped(line: str, stream: TextIO) -> str:
    """The line broken between words where it goes to a terminal; in a pipe it stays whole."""
    if not stream.isatty():
        return line
    width = shutil.get_terminal_size().columns
    return textwrap.fill(line, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _report(checks: Sequence[story.Check], *, to_stderr: bool) -> int:
    """Each claim against what was arranged; the exit code."""
    click.echo("", err=to_stderr)
    for check in checks:
        verdict = "as arranged" if check.ok else f"NOT as arranged: {check.expected}"
        click.echo(f"  {check.name}: {check.got} ({verdict})", err=to_stderr)
    return 0 if all(check.ok for check in checks) else 1


def _directions(incident: Incident) -> Callable[[], bool]:
    """What happens when; true when the play is over."""
    start = time.monotonic()
    acts = [(CALM_S, incident.stall), (CALM_S + STALL_S, incident.finish)]

    def play() -> bool:
        elapsed = time.monotonic() - start
        while acts and elapsed >= acts[0][0]:
            acts.pop(0)[1]()
        return elapsed >= CALM_S + STALL_S + AFTERMATH_S

    return play


class _Recorded:
    """An output that also keeps what the story needs."""

    draws = True

    def __init__(self, output: Any, plot: story.Plot) -> None:
        self._output = output
        self._plot = plot
        self.stalled: Screen | None = None
        """The last screen with a stall on it."""

    def start(self, ns: int, facts: dict[str, Any]) -> None:
        """Passed on."""
        self._output.start(ns, facts)

    def take(self, notices: Sequence[Notice]) -> None:
        """Kept and passed on."""
        self._plot.take(notices)
        self._output.take(notices)

    def draw(self, screen: Screen) -> None:
        """Passed on; the last that shows a stall is kept."""
        if screen.by_phase.get(Phase.STALLED):
            self.stalled = screen
        if self._output.draws:
            self._output.draw(screen)

    def end(self, ns: int, totals: dict[str, Any]) -> None:
        """Passed on."""
        self._output.end(ns, totals)
