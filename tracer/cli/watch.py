"""tcptrace watch: what heads toward a reset now, until told to stop."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import click

from tracer.cli import options
from tracer.cli.tracing import attached
from tracer.errors import USAGE, TcptraceError


@click.command("watch")
@options.filters
@click.option(
    "--interval",
    type=options.Seconds(0.1, 60),
    default=1.0,
    metavar="SECONDS",
    show_default=True,
    help="Time between looks.",
)
@click.option(
    "--duration",
    type=options.Seconds(0, options.LONGEST_S, min_open=True),
    metavar="SECONDS",
    help="Time until it stops by itself.",
)
@click.option("--json", "as_json", is_flag=True, help="The event stream: one JSON object a line.")
@click.option("--samples", is_flag=True, help="With --json: also what each verdict was made from, for replay.")
def command(
    ports: tuple[range, ...],
    pids: tuple[int, ...],
    peers: tuple[IPv4Network | IPv6Network, ...],
    everything: bool,
    interval: float,
    duration: float | None,
    as_json: bool,
    samples: bool,
) -> None:
    """Show live which connections head toward a reset, why, when, and who is the slow reader.

    On a terminal a table, worst first; in a pipe a line per change. Ctrl-C ends it with a summary.

    \b
    Examples:
      sudo tcptrace watch --port 443
      sudo tcptrace watch --port 8000-8100 --peer 10.0.0.0/8
      sudo tcptrace watch --pid 32278 --all
      sudo tcptrace watch --json --duration 60 > events.ndjson
    """
    if samples and not as_json:
        raise TcptraceError("--samples is a part of the event stream", "add --json", USAGE)
    filters = options.chosen(ports, pids, peers, everything)
    modules = ["tracer.cli.session", "tracer.cli.live"] if options.table_is_wanted(as_json) else ["tracer.cli.session"]
    with attached(filters, modules) as tracing:
        from tracer.cli.session import output_for, watch

        output = output_for(as_json, filters.words(), tracing, samples=samples)
        watch(tracing, output, filters, interval, duration)
