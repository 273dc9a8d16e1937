"""A line of text per change, for a pipe or a log: plain, complete, in the order in which things happened."""

from __future__ import annotations

from tracer.model.findings import Notice
from tracer.text import count, hostport, utc
from tracer.view.rows import process


def line(notice: Notice, clock_offset_ns: int) -> str:
    """The notice as one line; `clock_offset_ns` takes CLOCK_MONOTONIC to UTC."""
    return f"{utc(notice.ns + clock_offset_ns)} {notice.action:<17} {_what(notice)}".rstrip()


def _what(notice: Notice) -> str:
    if notice.action == "events-lost":
        return ", ".join(
            f"{table} {name} {count(number)}" for table, names in notice.lost.items() for name, number in names.items()
        )
    connection = notice.connection
    local = connection.local if connection else notice.local
    peer = connection.peer if connection else notice.peer
    ends = f"{hostport(local.ip, local.port)} > {hostport(peer.ip, peer.port)}" if local and peer else ""
    details = _details(notice)
    owner = process(connection.owner) if connection else "-"
    return f"{ends} {owner}{': ' if details else ''}{details}"


def _details(notice: Notice) -> str:
    if notice.window_side:
        return f"{notice.window_side} window"
    if notice.probe_kind:
        number = f" {notice.probe_number}" if notice.probe_number else ""
        return f"{notice.probe_kind} probe{number}"
    if notice.reset:
        reset = notice.reset
        known_as = f" ({reset.reason})" if reset.reason else f" ({reset.reason_source})"
        return f"{reset.cause}{known_as}"
    connection = notice.connection
    if connection is None:
        return ""
    if notice.action == "connection-closed":
        totals = connection.totals
        return (
            f"{connection.verdict.summary}; {totals.closures} closures, {totals.probes} probes,"
            f" longest stall {totals.longest_stall_s:.1f} s"
        )
    return f"{connection.verdict.phase.value}: {connection.verdict.summary}"
