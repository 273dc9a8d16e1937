"""tcptrace snapshot: one scan, the same columns, exit."""

from __future__ import annotations

import sys
import time
from ipaddress import IPv4Network, IPv6Network

import click
from rich.console import Console

from tracer.cli import options
from tracer.cli.output import Json, host_name, stream_facts
from tracer.cli.tracing import Tracing, attached, clock_offset_ns, progress
from tracer.events.wire import decode
from tracer.model.findings import Notice
from tracer.model.tracker import Tracker
from tracer.sources.scanner import Scanner
from tracer.view.table import Header, render

PIPE_WIDTH = 500
"""A pipe has no width; one line a connection is what grep wants."""


@click.command("snapshot")
@options.filters
@click.option("--json", "as_json", is_flag=True, help="One JSON object a connection.")
def command(
    ports: tuple[range, ...],
    pids: tuple[int, ...],
    peers: tuple[IPv4Network | IPv6Network, ...],
    everything: bool,
    as_json: bool,
) -> None:
    """Scan once, print the same columns as watch, exit.

    It is what netstat -anop was used for, with the process at both ends and the deadline.

    \b
    Examples:
      sudo tcptrace snapshot --port 443
      sudo tcptrace snapshot --all --pid 32278
      sudo tcptrace snapshot --json | jq .tcptrace.verdict.summary
    """
    filters = options.chosen(ports, pids, peers, everything)
    with attached(filters) as tracing:
        tracker = Tracker(filters.selection)
        with progress("looking at all connections"):
            take(tracing, tracker)
        now = time.monotonic_ns()
        screen = tracker.screen(now, everything=everything)
        programs = tracing.programs
        if as_json:
            output = Json(clock_offset_ns())
            missing = {name: found.why for name, found in programs.missing.items()}
            output.start(now, stream_facts(clock_offset_ns(), filters.words(), programs.attached, missing))
            output.take([Notice("connection-seen", now, connection) for connection in screen.connections])
            output.end(time.monotonic_ns(), {"connections": len(screen.connections)})
            return
        wanted = len(programs.attached) + len(programs.missing)
        header = Header(host_name(), 0.0, filters.words(), len(programs.attached), wanted, tuple(programs.missing))
        if sys.stdout.isatty():
            console = Console()
            console.print(render(screen, header, console.width))
        else:
            click.echo(render(screen, header, PIPE_WIDTH).plain)


def take(tracing: Tracing, tracker: Tracker) -> None:
    """One look at everything, into the model."""
    scanner = Scanner(tracing.programs, tracing.layout.reasons)
    try:
        records = scanner.scan()
    finally:
        scanner.close()
    for data in tracing.programs.consume():
        tracker.feed(decode(data, tracing.layout.reasons))  # the calibration first
    for record in records:
        tracker.feed(record)
