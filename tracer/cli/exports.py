"""What goes out beside the table, the lines or the JSON: log records by OTLP, metrics for Prometheus. Both are extras."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import click

from tracer.cli.options import HIGHEST_PORT
from tracer.errors import TcptraceError
from tracer.text import printable

if TYPE_CHECKING:
    from tracer.cli.output import Output
    from tracer.export.otlp import Otlp

_Function = TypeVar("_Function", bound=Callable[..., Any])

LOOPBACK: Final = "127.0.0.1"
_EXTRAS: Final = {
    "metrics": "prometheus-client",
    "otlp": "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http",
}
LOGS_PATH: Final = "/v1/logs"
"""Where a receiver takes logs, unless the URL says otherwise: OTLP/HTTP."""


class Address(NamedTuple):
    """Where metrics are served."""

    ip: str
    port: int


class Listen(click.ParamType):
    """PORT or ADDR:PORT, as an Address; loopback if no address is given."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        """Fails with what is wrong."""
        if isinstance(value, Address):
            return value
        host, _, port = str(value).rpartition(":")
        if not (port.isascii() and port.isdigit()):
            self.fail(f"{value!r} is neither a port nor an address and a port such as 127.0.0.1:9095", param, ctx)
        if not 1 <= int(port[:6]) <= HIGHEST_PORT:
            self.fail(f"{port} is out of range: ports go from 1 to {HIGHEST_PORT}", param, ctx)
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        try:
            # ipaddress takes any text as a zone
            ip = ip_address(LOOPBACK if bare in ("", "localhost") else bare.replace("%", " "))
        except ValueError:
            self.fail(f"{host!r} is not an address: give one of this host, or the port alone", param, ctx)
        if ip.version == 6 and bare == host:
            self.fail(f"{value!r} is not clear: an IPv6 address stands in brackets, such as [::1]:9095", param, ctx)
        return Address(str(ip), int(port))


class OtlpUrl(click.ParamType):
    """The URL of an OTLP/HTTP receiver, with the path for logs if it has none."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails with what is wrong."""
        text = str(value)
        try:
            url = urlsplit(text)
            whole = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            whole = False
        if not whole or not text.isprintable() or " " in text:
            self.fail(f"{printable(text)!r} is not the URL of a receiver such as http://127.0.0.1:4318", param, ctx)
        return url.geturl() if url.path not in ("", "/") else url._replace(path=LOGS_PATH).geturl()


def options(function: _Function) -> _Function:
    """Adds --otlp and --metrics to a command."""
    for option in (
        click.option(
            "--metrics",
            type=Listen(),
            metavar="[ADDR:]PORT",
            help="Serve metrics for Prometheus there; on the loopback address unless told.",
        ),
        click.option(
            "--otlp", type=OtlpUrl(), metavar="URL", help="Send the events to this OTLP/HTTP receiver as log records."
        ),
    ):
        function = option(function)
    return function


@contextmanager
def opened(otlp: str | None, metrics: Address | None, *, quiet: bool = False) -> Iterator[list[Output]]:
    """The outputs that were asked for, ready before anything is traced. Raises TcptraceError.

    `quiet`: a table has the terminal, so what an export has to say is said when the block is over.
    """
    outputs: list[Output] = []
    held: list[str] = []
    with ExitStack() as stack:
        stack.callback(_say_all, held)
        lost_by = {}
        if otlp is not None:
            sender = _sender(otlp, held.append if quiet else _say)
            lost_by["otlp"] = sender.lost
            outputs.append(sender)
        if metrics is not None:
            outputs.insert(0, _served(metrics, lost_by, stack))
        yield outputs


def _sender(url: str, report: Callable[[str], None]) -> Otlp:
    from tracer.cli.output import host_name
    from tracer.cli.tracing import clock_offset_ns

    try:
        from tracer.export.otlp import Otlp
    except ImportError as error:
        raise _missing("--otlp", "otlp", error) from error
    return Otlp(url, host_name(), clock_offset_ns(), report)


def _served(address: Address, lost_by: dict[str, Callable[[], int]], stack: ExitStack) -> Output:
    try:
        from tracer.export.metrics import Metrics
        from tracer.export.scrape import Scrapes
    except ImportError as error:
        raise _missing("--metrics", "metrics", error) from error
    metrics = Metrics(lost_by)
    stack.enter_context(Scrapes(*address, metrics))
    return metrics


def _missing(option: str, extra: str, error: ImportError) -> TcptraceError:
    return TcptraceError(
        f"{option} needs a library that is not here, or is too old: {error}",
        f"`sudo scripts/install --with {extra}` in a checkout, or `{sys.executable} -m pip install {_EXTRAS[extra]}`",
    )


def _say_all(texts: list[str]) -> None:
    for text in texts:
        _say(text)


def _say(text: str) -> None:
    click.echo(f"tcptrace: {text}", err=True)
