"""The filters that watch and snapshot share, and how a user writes them."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, TypeVar

import click

from tracer.errors import USAGE, TcptraceError
from tracer.kernel import procfs
from tracer.model.selection import Selection

_Function = TypeVar("_Function", bound=Callable[..., Any])

HIGHEST_PORT: Final = 65535
LONGEST_S: Final = 366 * 86400

_MAPPED: Final = IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class Filters:
    """What the user asked to see."""

    ports: tuple[range, ...]
    selection: Selection

    def words(self) -> str:
        """The filters as a header says them."""
        parts = []
        if self.ports:
            parts.append("port " + ", ".join(_port_words(ports) for ports in self.ports))
        if self.selection.pids:
            parts.append("pid " + ", ".join(map(str, sorted(self.selection.pids))))
        if self.selection.peers:
            parts.append("peer " + ", ".join(map(str, self.selection.peers)))
        return ", ".join(parts) or "all ports"


class PortRange(click.ParamType):
    """P or A-B, as a range."""

    name = "port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> range:
        """Fails with what is wrong."""
        if isinstance(value, range):
            return value
        first, dash, last = str(value).partition("-")
        numbers = [first, last] if dash else [first, first]
        if not all(number.isascii() and number.isdigit() for number in numbers):
            self.fail(f"{value!r} is neither a port nor a range such as 8000-8100", param, ctx)
        # no more digits are read than can matter: int() refuses a few thousand of them
        low, high = (int(number.lstrip("0")[: len(str(HIGHEST_PORT)) + 1] or "0") for number in numbers)
        if not 1 <= low <= HIGHEST_PORT or not 1 <= high <= HIGHEST_PORT:
            self.fail(f"{value} is out of range: ports go from 1 to {HIGHEST_PORT}", param, ctx)
        if low > high:
            self.fail(f"{value} ends before it begins", param, ctx)
        return range(low, high + 1)


class Cidr(click.ParamType):
    """An address or a network. IPv4 mapped into IPv6, as Java prints it, is IPv4: so the model has the addresses of peers."""

    name = "cidr"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IPv4Network | IPv6Network:
        """Fails with what is wrong."""
        if isinstance(value, (IPv4Network, IPv6Network)):
            return value
        try:
            network = ip_network(str(value), strict=False)
        except ValueError:
            self.fail(f"{value!r} is neither an address nor a network such as 10.0.0.0/8", param, ctx)
        if "%" in str(value):
            self.fail(f"{value!r} has a zone, which no address in the kernel has: leave it out", param, ctx)
        if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
            return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - _MAPPED.prefixlen))
        return network


class Seconds(click.FloatRange):
    """A length of time; NaN, which is in no range and yet passes each of its comparisons, is refused."""

    name = "number of seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Fails with what is wrong."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a valid {self.name}", param, ctx)
        return seconds


class Pid(click.IntRange):
    """A process's number."""

    name = "process number"


def pace(function: _Function) -> _Function:
    """Adds --interval and --duration to a command."""
    for option in (
        click.option(
            "--duration", type=Seconds(0, LONGEST_S, min_open=True), metavar="SECONDS", help="Time until it stops by itself."
        ),
        click.option(
            "--interval",
            type=Seconds(0.1, 60),
            default=1.0,
            metavar="SECONDS",
            show_default=True,
            help="Time between looks.",
        ),
    ):
        function = option(function)
    return function


def filters(function: _Function) -> _Function:
    """Adds --port, --pid, --peer and --all to a command."""
    for option in (
        click.option("--all", "everything", is_flag=True, help="Healthy connections too."),
        click.option(
            "--peer",
            "peers",
            multiple=True,
            type=Cidr(),
            metavar="CIDR",
            help="Only peers in this network (repeatable).",
        ),
        click.option(
            "--pid",
            "pids",
            multiple=True,
            type=Pid(1),
            metavar="PID",
            help="Only this process at either end (repeatable).",
        ),
        click.option(
            "--port",
            "ports",
            multiple=True,
            type=PortRange(),
            metavar="P|A-B",
            help="Only this local or remote port, or range (repeatable).",
        ),
    ):
        function = option(function)
    return function


def chosen(
    ports: tuple[range, ...], pids: tuple[int, ...], peers: tuple[IPv4Network | IPv6Network, ...], everything: bool
) -> Filters:
    """The filters, once it is clear that they can match anything. Raises TcptraceError."""
    for pid in pids:
        process = procfs.process_of(pid)
        if process is None:
            raise TcptraceError(f"there is no process {pid}", "`pgrep -a NAME` finds the pid of a program", USAGE)
        if process != pid:
            cause = f"there is no process {pid}: that is a thread of process {process}"
            raise TcptraceError(cause, f"--pid {process} shows the connections of all its threads", USAGE)
    return Filters(ports, Selection(frozenset(pids), peers, everything))


def table_is_wanted(as_json: bool) -> bool:
    """Whether the user looks at a terminal that a table can be drawn on."""
    return not as_json and sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _port_words(ports: range) -> str:
    return str(ports.start) if len(ports) == 1 else f"{ports.start}-{ports.stop - 1}"
