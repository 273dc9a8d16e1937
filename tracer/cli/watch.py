"""tcptrace watch: what heads toward a reset now, until told to stop."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import click

from tracer.cli import exports, options
from tracer.cli.tracing import attached
from tracer.errors import USAGE, TcptraceError


@click.command("watch")
@options.filters
@options.pace
@click.option("--json", "as_json", is_flag=True, help="The event stream: one JSON object a line.")
@click.option("--samples", is_flag=True, help="With --json: also what each verdict was made from, for replay.")
@exports.options
def command(
    ports: tuple[range, ...],
    pids: tuple[int, ...],
    peers: tuple[IPv4Network | IPv6Network, ...],
    everything: bool,
    interval: float,
    duration: float | None,
    as_json: bool,
    samples: bool,
    otlp: str | None,
    metrics: exports.Address | None,
) -> None:
    """Show live which connections head toward a reset, why, when, and who is the slow reader.

    On a terminal a table, worst first; in a pipe a line per change. Ctrl-C ends it with a summary.

    \b
    Examples:
      sudo tcptrace watch --port 443
      sudo tcptrace watch --port 8000-8100 --peer 10.0.0.0/8
      sudo tcptrace watch --pid 32278 --all
      sudo tcptrace watch --json --duration 60 > events.ndjson
      sudo tcptrace watch --metrics 9095 --otlp http://collector:4318
    """
    if samples and not as_json:
        raise TcptraceError("--samples is a part of the event stream", "add --json", USAGE)
    filters = options.chosen(ports, pids, peers, everything)
    table = options.table_is_wanted(as_json)
    modules = ["tracer.cli.session", "tracer.cli.live"] if table else ["tracer.cli.session"]
    with exports.opened(otlp, metrics, quiet=table) as beside, attached(filters, modules) as tracing:
        from tracer.cli.output import Several
        from tracer.cli.session import output_for, watch

        output = Several(output_for(as_json, filters.words(), tracing, samples=samples), *beside)
        watch(tracing, output, filters, interval, duration)
