"""The story of the outage, told from the trace alone, and each of its claims compared with what was arranged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from tracer.demo.incident import PORT, UPSTREAM_PORT, Cast
from tracer.demo.nginx import NginxError
from tracer.model.findings import ConnectionView, Notice, Phase
from tracer.text import count, duration, hostport, utc
from tracer.view.rows import process, slow_reader

MOST: Final = 20_000
NEAR_S: Final = 2.0
"""nginx writes whole seconds, and logs when it next looks."""
CONNECTION_RESET: Final = 104


@dataclass(frozen=True, slots=True)
class Check:
    """One claim of the story and what was arranged."""

    name: str
    expected: str
    got: str

    @property
    def ok(self) -> bool:
        """As arranged."""
        return self.expected == self.got


class Plot:
    """Keeps what the trace said of the connections that matter. Bounded."""

    def __init__(self, cast: Cast) -> None:
        self._cast = cast
        self._notices: list[Notice] = []

    def take(self, notices: Iterable[Notice]) -> None:
        """Notices as they come."""
        for notice in notices:
            if len(self._notices) < MOST and notice.connection is not None:
                self._notices.append(notice)

    def client_end(self) -> ConnectionView | None:
        """The slow client's end, as last judged before its end."""
        return self._last_stalled(lambda one: one.local == self._cast.slow_end)

    def proxy_end(self) -> ConnectionView | None:
        """nginx's end of the same connection."""
        return self._last_stalled(lambda one: one.peer == self._cast.slow_end)

    def upstream_end(self) -> ConnectionView | None:
        """The server's end of the connection behind it."""
        return self._last_stalled(lambda one: one.local.port == UPSTREAM_PORT)

    def quick_was_blamed(self) -> bool:
        """Whether the client that keeps up was ever called slow."""
        return any(
            one.connection.verdict.slow_reader.pid == self._cast.quick_client
            for one in self._notices
            if one.connection is not None
        )

    def reset(self, direction: str) -> Notice | None:
        """The RST between the slow client and nginx, as sent or as received."""
        action = "reset-sent" if direction == "sent" else "reset-received"
        for notice in self._notices:
            connection = notice.connection
            if notice.action == action and connection and self._cast.slow_end in (connection.local, connection.peer):
                return notice
        return None

    def _last_stalled(self, wanted: object) -> ConnectionView | None:
        assert callable(wanted)
        found = None
        for notice in self._notices:
            one = notice.connection
            if one and wanted(one) and one.verdict.phase is Phase.STALLED and one.verdict.slow_reader.side != "none":
                found = one
        return found


def explained(plot: Plot, errors: Sequence[NginxError], cast: Cast, clock_offset_ns: int) -> NginxError | None:
    """The line of nginx's log that the reset explains: the same client, within the time that nginx takes to notice."""
    received = plot.reset("received")
    if received is None:
        return None
    at = (received.ns + clock_offset_ns) / 1e9
    for error in errors:
        if error.client == cast.slow_end.ip and error.errno == CONNECTION_RESET and -1 <= error.epoch_s - at <= NEAR_S:
            return error
    return None


def verify(plot: Plot, errors: Sequence[NginxError], cast: Cast, clock_offset_ns: int) -> list[Check]:
    """Every claim against what was arranged."""
    client, proxy, server = plot.client_end(), plot.proxy_end(), plot.upstream_end()
    sent, received = plot.reset("sent"), plot.reset("received")
    line = explained(plot, errors, cast, clock_offset_ns)
    who = f"pid {cast.slow_client}"
    return [
        Check("slow reader, seen from the client", f"{who} thread {cast.slow_thread}", _blamed(client, thread=True)),
        Check("slow reader, seen from nginx", who, _blamed(proxy)),
        Check("slow reader, seen from the server", who, _blamed(server)),
        Check("nginx is a victim", "yes", "yes" if _through(server, cast.nginx_worker) else "no"),
        Check("the quick client is not blamed", "yes", "no" if plot.quick_was_blamed() else "yes"),
        Check("RST sent by", who, f"pid {sent.connection.owner.pid}" if sent and sent.connection else "not seen"),
        Check("RST sent because of", "close-with-unread-data", sent.reset.cause if sent and sent.reset else "not seen"),
        Check("RST received by", f"pid {cast.nginx_worker}", _receiver(received)),
        Check("nginx logged it", "yes", "yes" if line else "no"),
    ]


def tell(plot: Plot, errors: Sequence[NginxError], cast: Cast, clock_offset_ns: int) -> list[str]:
    """The story, a paragraph a line. What the trace did not see, it does not tell."""
    client, proxy, server = plot.client_end(), plot.proxy_end(), plot.upstream_end()
    out = []
    if client is None:
        out.append("The trace did not see the slow client stall.")
    else:
        closed = client.verdict
        out.append(f"Who was slow: {slow_reader(closed.slow_reader)}, since {utc(closed.since_ns + clock_offset_ns)}.")
        out.append(f"  On its host: {closed.summary}.")
    if proxy is not None:
        out.append(f"  On nginx's host, {process(proxy.owner)}: {proxy.verdict.summary}.")
    if server is not None:
        out.append(
            f"A consequence, not a cause: {process(server.owner)} could not write {hostport(server.peer.ip, server.peer.port)}:"
            f" {'; '.join(server.verdict.slow_reader.chain) or server.verdict.summary}."
        )
    out += _reset_lines(plot, clock_offset_ns)
    line = explained(plot, errors, cast, clock_offset_ns)
    out.append(f"nginx's error log, explained: {line.line}" if line else "nginx logged no line that matches.")
    return out


def _reset_lines(plot: Plot, clock_offset_ns: int) -> list[str]:
    sent = plot.reset("sent")
    if sent is None or sent.reset is None or sent.connection is None:
        return ["The trace saw no RST."]
    reset, connection = sent.reset, sent.connection
    stalled = duration(connection.totals.longest_stall_s or connection.verdict.stalled_s or 0)
    return [
        f"Who sent the RST: {process(connection.owner)}, at {utc(sent.ns + clock_offset_ns)}, after {stalled} of stall:"
        f" {reset.cause} ({reset.reason or reset.reason_source}), {count(reset.unread_bytes or 0)} bytes unread.",
        f"  Keepalive had no part in it: port {PORT}'s probes were zero-window probes, and all were answered.",
    ]


def _blamed(connection: ConnectionView | None, *, thread: bool = False) -> str:
    if connection is None:
        return "not seen"
    reader = connection.verdict.slow_reader
    if reader.pid is None:
        return "unknown"
    return f"pid {reader.pid} thread {reader.thread_id}" if thread else f"pid {reader.pid}"


def _through(connection: ConnectionView | None, pid: int) -> bool:
    return connection is not None and any(f"[{pid}] cannot write" in step for step in connection.verdict.slow_reader.chain)


def _receiver(notice: Notice | None) -> str:
    return f"pid {notice.connection.owner.pid}" if notice and notice.connection else "not seen"
