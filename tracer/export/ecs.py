"""Notices as documents of the event stream, schema 1: Elastic Common Schema names, all our own under `tcptrace`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from tracer.export.community_id import community_id
from tracer.export.sample import sample
from tracer.model.findings import ConnectionView, Endpoint, Notice, Owner, ResetView, Verdict
from tracer.text import utc

SCHEMA: Final = 1
ECS_VERSION: Final = "9.0.0"

_KINDS: Final = {"connection-seen": "state", "verdict-changed": "alert"}
_TYPES: Final = {
    "reset-sent": ["connection", "end"],
    "reset-received": ["connection", "end"],
    "connection-closed": ["connection", "end"],
    "events-lost": ["info"],
    "stream-started": ["info", "start"],
    "stream-ended": ["info", "end"],
}

Document = dict[str, Any]
"""Its parts may be shared with the documents before and after: to be written, not changed."""


class Documents:
    """Makes the documents of one stream, and numbers them."""

    def __init__(self, host: str, clock_offset_ns: int, *, samples: bool = False) -> None:
        """`clock_offset_ns` takes CLOCK_MONOTONIC to UTC. `samples`: with what each connection was judged from."""
        self._host = host
        self._offset = clock_offset_ns
        self._samples = samples
        self._sequence = 0

    def move(self, host: str, clock_offset_ns: int) -> None:
        """What follows is from another host, or another start of it; the numbers go on."""
        self._host = host
        self._offset = clock_offset_ns

    def started(self, ns: int, facts: Mapping[str, Any]) -> Document:
        """The first line; `facts` stand under tcptrace.stream."""
        return self._document("stream-started", "state", ns, {"stream": dict(facts)})

    def ended(self, ns: int, totals: Mapping[str, Any]) -> Document:
        """The last line."""
        return self._document("stream-ended", "state", ns, {"stream": dict(totals)})

    def notice(self, notice: Notice) -> Document:
        """The line of a notice."""
        own: Document = {}
        connection = notice.connection
        if connection is not None:
            own |= _own_fields(connection, notice.ns, self._offset)
            if self._samples and connection.sample is not None:
                own["sample"] = sample(connection.sample, connection, notice.ns)
        if notice.window_side:
            own["window"] = {"side": notice.window_side}
        if notice.probe_kind:
            own["probe"] = {"kind": notice.probe_kind, "number": notice.probe_number}
        reset = notice.reset or (connection.reset if connection else None)
        if reset is not None:
            own["reset"] = _reset(reset)
        if notice.action == "connection-closed" and connection is not None:
            totals = connection.totals
            own["totals"] = {
                "closures": totals.closures,
                "probes": totals.probes,
                "longest_stall_s": round(totals.longest_stall_s, 6),
            }
        if notice.action == "events-lost":
            own["lost"] = _lost(notice.lost)
        document = self._document(notice.action, _KINDS.get(notice.action, "event"), notice.ns, own)
        if connection is not None:
            document |= _shared_fields(connection.local, connection.peer, connection.opened_by)
            document |= _owner_fields(connection.owner)
        elif notice.local is not None and notice.peer is not None:
            document |= _shared_fields(notice.local, notice.peer, "unknown")
            ends = {"local": _end(notice.local), "peer": _end(notice.peer)}
            own["connection"] = {"id": None, "netns": notice.netns, **ends}
        return document

    def _document(self, action: str, kind: str, ns: int, own: Document) -> Document:
        self._sequence += 1
        own["schema"] = SCHEMA
        return {
            "@timestamp": utc(ns + self._offset),
            "ecs": {"version": ECS_VERSION},
            "event": {
                "kind": kind,
                "category": ["network"],
                "type": _TYPES.get(action, ["connection", "info"]),
                "action": action,
                "dataset": "tcptrace",
                "sequence": self._sequence,
            },
            "host": {"name": self._host},
            "tcptrace": own,
        }


@lru_cache(8192)  # the same from a connection's first line to its last, and half of what a line costs
def _shared_fields(local: Endpoint, peer: Endpoint, opened_by: str) -> Document:
    source, destination = (peer, local) if opened_by == "peer" else (local, peer)
    return {
        "network": {
            "transport": "tcp",
            "type": "ipv6" if ":" in local.ip else "ipv4",
            "community_id": community_id(local.ip, local.port, peer.ip, peer.port),
        },
        "source": _end(source),
        "destination": _end(destination),
    }


def _owner_fields(owner: Owner) -> Document:
    fields: Document = {}
    if owner.pid is not None:
        process: Document = {
            "pid": owner.pid,
            "name": owner.name,
            "executable": owner.executable,
            "command_line": owner.command_line,
        }
        if owner.thread_id is not None:
            process["thread"] = {"id": owner.thread_id, "name": owner.thread_name}
        fields["process"] = process
    if owner.container is not None:
        fields["container"] = {"id": owner.container}
    return fields


def _own_fields(connection: ConnectionView, ns: int, offset: int) -> Document:
    owner, queues, timer = connection.owner, connection.queues, connection.timer
    return {
        "connection": {
            "id": connection.id,
            "state": connection.state,
            "netns": connection.netns,
            "local": _end(connection.local),
            "peer": _end(connection.peer),
            "opened_by": connection.opened_by,
            "age_s": _seconds(connection.age_s),
        },
        "queues": {
            "recv_q": queues.recv_q,
            "send_q": queues.send_q,
            "rcv_wnd": queues.rcv_wnd,
            "snd_wnd": queues.snd_wnd,
            "rcvbuf": queues.rcvbuf,
        },
        "timer": {
            "name": timer.name,
            "expires_s": _seconds(timer.expires_s),
            "probes_out": timer.probes_out,
            "backoff": timer.backoff,
            "retransmits": timer.retransmits,
        },
        "owner": {
            "match": owner.match,
            "readers": max(len(owner.holders), owner.threads) or None,
            "last_read_s": _seconds(owner.last_read_s),
            "read_rate": _rounded(owner.read_rate),
            "arrival_rate": _rounded(owner.arrival_rate),
            "thread_state": owner.thread_state,
            "wait_channel": owner.wait_channel,
            "cpu_share": None if owner.cpu_share is None else round(owner.cpu_share, 3),
        },
        "verdict": _verdict(connection.verdict, ns, offset),
    }


def _verdict(verdict: Verdict, ns: int, offset: int) -> Document:
    reader, forecast = verdict.slow_reader, verdict.forecast
    at, habit = forecast.at_ns, forecast.habit
    learned = (
        {} if habit is None else {"program": habit.program, "sightings": habit.sightings, "spread_s": habit.spread_ns / 1e9}
    )
    return {
        "phase": verdict.phase.value,
        "since": utc(verdict.since_ns + offset),
        "stalled_s": _seconds(verdict.stalled_s),
        "summary": verdict.summary,
        "evidence": list(verdict.evidence),
        "slow_reader": {
            "side": reader.side,
            "ip": reader.ip,
            "port": reader.port,
            "pid": reader.pid,
            "name": reader.name,
            "thread_id": reader.thread_id,
            "thread_name": reader.thread_name,
            "chain": list(reader.chain),
        },
        "forecast": {
            "outcome": forecast.outcome,
            "by": forecast.by,
            "at": utc(at + offset) if at is not None else None,
            "in_s": _seconds(max(0, at - ns) / 1e9) if at is not None else None,
            "basis": forecast.basis,
            **learned,
        },
    }


def _reset(reset: ResetView) -> Document:
    return {
        "direction": reset.direction,
        "cause": reset.cause,
        "reason": reset.reason,
        "reason_source": reset.reason_source,
        "unread_bytes": reset.unread_bytes,
        "unsent_bytes": reset.unsent_bytes,
    }


def _lost(lost: Mapping[str, Mapping[str, int]]) -> Document:
    ring_buffer, table_full = lost.get("ring_buffer", {}), lost.get("table_full", {})
    sinks = {f"sink {name}": number for name, number in lost.get("sinks", {}).items()}
    return {
        "ring_buffer": sum(ring_buffer.values()),
        "table_full": sum(table_full.values()),
        "by_kind": {**ring_buffer, **table_full, **sinks},
    }


def _end(end: Endpoint) -> Document:
    return {"ip": end.ip, "port": end.port}


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
