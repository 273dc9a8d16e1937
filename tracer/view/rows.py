"""A connection as the strings that a table shows. Values only: how they are laid out and coloured is the table's affair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tracer.model.blame import process_label
from tracer.model.findings import ConnectionView, Endpoint, Forecast, Notice, Owner, Phase, SlowReader
from tracer.text import count, duration, hostport

_NETSTAT_NAMES: Final = {
    "none": "off",
    "retransmit": "on",
    "persist": "probe",
    "keepalive": "keepalive",
    "time-wait": "timewait",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One connection's cells."""

    phase: str
    ends: str
    local: str
    peer: str
    process: str
    peer_process: str
    slow_reader: str
    recv_q: str
    send_q: str
    windows: str
    timer: str
    stalled: str
    summary: str
    evidence: str


@dataclass(frozen=True, slots=True)
class ResetRow:
    """One reset's cells."""

    ago: str
    direction: str
    cause: str
    local: str
    peer: str
    process: str
    unread: str


def row(connection: ConnectionView, ns: int) -> Row:
    """The cells of a connection at `ns`."""
    verdict = connection.verdict
    queues = connection.queues
    return Row(
        phase=verdict.phase.value,
        ends=_ends(verdict.forecast, verdict.phase, ns),
        local=_endpoint(connection.local),
        peer=_endpoint(connection.peer),
        process=process(connection.owner),
        peer_process=process(connection.peer_owner) if connection.peer_owner is not None else "-",
        slow_reader=slow_reader(verdict.slow_reader),
        recv_q=count(queues.recv_q),
        send_q=count(queues.send_q),
        windows=f"{queues.rcv_wnd}/{queues.snd_wnd}",
        timer=timer(connection),
        stalled=duration(verdict.stalled_s) if verdict.stalled_s is not None else "-",
        summary=verdict.summary,
        evidence="; ".join(verdict.evidence) or verdict.summary,
    )


def reset_row(notice: Notice, ns: int) -> ResetRow:
    """The cells of a reset at `ns`."""
    reset = notice.reset
    connection = notice.connection
    local = connection.local if connection else notice.local
    peer = connection.peer if connection else notice.peer
    assert reset is not None
    known_as = f" ({reset.reason})" if reset.reason else ""
    guessed = reset.reason_source == "inferred" and reset.direction and reset.cause not in ("peer", "unknown")
    return ResetRow(
        ago=f"{duration(max(0, ns - notice.ns) / 1e9)} ago",
        direction=reset.direction or "timed out:",
        cause=f"{reset.cause}{known_as}{', inferred' if guessed else ''}",
        local=_endpoint(local) if local else "-",
        peer=_endpoint(peer) if peer else "-",
        process=process(connection.owner) if connection else "-",
        unread=f"{count(reset.unread_bytes)} unread" if reset.unread_bytes else "",
    )


def timer(connection: ConnectionView) -> str:
    """The timer as `netstat -o` prints it: name (seconds left/retransmits/probes out)."""
    view = connection.timer
    left = view.expires_s or 0.0
    return f"{_NETSTAT_NAMES[view.name]} ({left:.2f}/{view.retransmits}/{view.probes_out})"


def slow_reader(reader: SlowReader) -> str:
    """The slow reader as `java[32278]/worker-1`, or its address, or that nobody is."""
    if reader.side == "none":
        return "-"
    if reader.pid is not None:
        return process_label(reader)
    if reader.ip is not None and reader.port is not None and (reader.side == "peer" or reader.chain):
        return hostport(reader.ip, reader.port)
    return "unknown"


def process(owner: Owner) -> str:
    """The owner of an end, or `unknown`; several are counted."""
    if owner.pid is not None:
        return process_label(owner)
    return f"{len(owner.holders)} processes" if owner.holders else "unknown"


def _ends(forecast: Forecast, phase: Phase, ns: int) -> str:
    if forecast.at_ns is not None:
        about = "~" if forecast.basis == "learned" else ""
        return about + duration(max(0, forecast.at_ns - ns) / 1e9)
    if forecast.basis == "conditional":
        return "app decides"
    return "no deadline" if phase is not Phase.OK else "-"


def _endpoint(end: Endpoint) -> str:
    return hostport(end.ip, end.port)
