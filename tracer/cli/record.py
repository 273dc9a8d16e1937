"""tcptrace record: the event stream into files, sockets and syslog, for unattended use."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network
from types import FrameType
from typing import Any, Final

import click

from tracer.cli import exports, options
from tracer.cli.tracing import attached, clock_offset_ns
from tracer.errors import USAGE, TcptraceError
from tracer.export.ecs import Documents
from tracer.export.sinks import address
from tracer.export.sinks.fanout import Fanout
from tracer.export.sinks.file import Rotation
from tracer.export.sinks.sink import Sink
from tracer.export.sinks.target import Target
from tracer.model.findings import Notice, Screen
from tracer.text import printable

FLUSH_S: Final = 1.5
"""What the sinks have, once it ends, for what still waits: systemd and people expect an end within two seconds."""

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_TIMES: Final = {"": 1, "S": 1, "M": 60, "H": 3600, "D": 86400}


class Quantity(click.ParamType):
    """A whole number with a unit behind it, as a number of the smallest."""

    def __init__(self, name: str, units: dict[str, int], example: str, least: int) -> None:
        self.name = name
        self._units = units
        self._example = example
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Fails with what is wrong."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([0-9]{1,12})([A-Z]?)", str(value).upper())
        if found is None or found[2] not in self._units:
            self.fail(f"{value!r} is no {self.name} such as {self._example}", param, ctx)
        number = int(found[1]) * self._units[found[2]]
        if 0 < number < self._least:
            self.fail(f"{value} is less than {self._least}", param, ctx)
        return number


SIZE: Final = Quantity("size", _UNITS, "100M", 4096)
AGE: Final = Quantity("time", _TIMES, "24h", 1)


@click.command("record")
@click.option(
    "--output",
    "outputs",
    multiple=True,
    required=True,
    metavar="TO",
    help=f"Where the stream goes (repeatable): {address.FORMS}.",
)
@options.filters
@options.pace
@click.option("--rotate-size", type=SIZE, default="100M", show_default=True, help="A file grows no larger; 0: without end.")
@click.option("--rotate-age", type=AGE, default="0", help="A file grows no older, such as 24h.")
@click.option("--keep", type=click.IntRange(0, 1000), default=5, show_default=True, help="Old files that are kept.")
@click.option("--buffer", type=SIZE, default="64M", show_default=True, help="What waits for a slow output at most.")
@exports.options
def command(
    outputs: tuple[str, ...],
    ports: tuple[range, ...],
    pids: tuple[int, ...],
    peers: tuple[IPv4Network | IPv6Network, ...],
    everything: bool,
    interval: float,
    duration: float | None,
    rotate_size: int,
    rotate_age: int,
    keep: int,
    buffer: int,
    otlp: str | None,
    metrics: exports.Address | None,
) -> None:
    """Write the event stream to files, sockets or syslog, without a table, until told to stop.

    An output that is slow or gone holds up nothing: lines wait for it in a bounded buffer, and those that find no room are
    counted in the stream. SIGTERM and Ctrl-C write what waits and end it; SIGHUP opens files and connections anew.

    \b
    Examples:
      sudo tcptrace record --output /var/log/tcptrace.ndjson --port 443
      sudo tcptrace record --output events.ndjson --rotate-size 10M --rotate-age 24h --keep 7
      sudo tcptrace record --output tcp:logs.example.com:5170 --output syslog
      sudo tcptrace record --output syslog --metrics 9095
      sudo tcptrace record --output - --duration 60 | jq .tcptrace.verdict.summary
    """
    filters = options.chosen(ports, pids, peers, everything)
    rotation = Rotation(rotate_size or None, rotate_age or None, keep)
    targets = _targets(outputs, rotation)
    with (
        exports.opened(otlp, metrics) as beside,
        attached(filters, ["tracer.cli.session"]) as tracing,
        _fanout(targets, buffer) as fanout,
    ):
        from tracer.cli.output import Several
        from tracer.cli.session import watch

        output, alone = Several(Recorder(fanout), *beside), outputs == ("-",)
        watch(tracing, output, filters, interval, duration, lambda: fanout.over, for_reader=alone)


class Recorder:
    """The output that is a fan-out; SIGHUP opens its sinks anew."""

    draws = False

    def __init__(self, fanout: Fanout) -> None:
        self._fanout = fanout
        self._hung_up = False
        self._before: signal._HANDLER = signal.SIG_DFL

    def start(self, ns: int, facts: dict[str, Any]) -> None:
        """stream-started"""
        self._before = signal.signal(signal.SIGHUP, self._hang_up)
        self._fanout.start(ns, facts)

    def take(self, notices: Sequence[Notice]) -> None:
        """A line each."""
        if self._hung_up:
            self._hung_up = False
            self._fanout.reopen()
        self._fanout.take(notices)

    def draw(self, screen: Screen) -> None:
        """Nothing: the stream has the events that a screen is made of."""

    def end(self, ns: int, totals: dict[str, Any]) -> None:
        """stream-ended"""
        self._fanout.end(ns, totals)
        signal.signal(signal.SIGHUP, self._before)

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        self._hung_up = True


def _targets(outputs: Sequence[str], rotation: Rotation) -> list[Target]:
    for output in outputs:
        if outputs.count(output) > 1:
            raise TcptraceError(f"the output {output} is named twice", "name each output once", USAGE)
    return [address.target(output, rotation) for output in outputs]


@contextmanager
def _fanout(targets: Sequence[Target], buffer: int) -> Iterator[Fanout]:
    from tracer.cli.output import host_name

    sinks = [Sink(target, buffer, _say) for target in targets]
    fanout = Fanout(Documents(host_name(), clock_offset_ns(), samples=True), sinks, _say)
    for sink in sinks:
        sink.start()
    try:
        yield fanout
    finally:
        fanout.close(FLUSH_S)


def _say(text: str) -> None:
    click.echo(f"tcptrace: {printable(text)}", err=True)
