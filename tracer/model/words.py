"""The words of a verdict: one line that a person believes, and the measured facts behind it."""

from __future__ import annotations

from typing import Final

from tracer.events.records import Pending, SockFlag
from tracer.model import blame, deadlines
from tracer.model.connection import Connection
from tracer.model.findings import Cause, Forecast, Habit, Owner, Phase, SlowReader
from tracer.text import count, duration, hostport, size

BUSY: Final = 0.5
"""A thread that uses more than this of a CPU works, whatever it happens to wait for when it is looked at."""
WORKING: Final = 0.2
"""One that runs when it is looked at works if it uses this much; on a busy machine it gets no more."""
READERS: Final = 4
"""So many threads are told apart (bpf/maps.h)."""


def summary(connection: Connection, phase: Phase, owner: Owner, reader: SlowReader, forecast: Forecast, now: int) -> str:
    """The line. It names who is slow, since when, what waits, and what comes of it."""
    if connection.end is not None:
        return ended(connection)
    if phase is Phase.OK:
        return "a window has just closed" if connection.closed_since else "nothing waits for long"
    doubt = [reader.doubt] if reader.doubt else []
    parts = [*_what(connection, phase, owner, reader, now), *doubt, *_outlook(connection, reader, forecast, now)]
    return "; ".join(parts)


def evidence(connection: Connection, owner: Owner, reader: SlowReader, now: int) -> tuple[str, ...]:
    """The facts, each short."""
    sock = connection.sock
    facts = []
    if connection.local_closed:
        facts.append(f"our window closed {_for(connection.local_closed.ns, now, connection.local_closed.exact)}")
    if connection.peer_closed:
        facts.append(f"window of {_at(connection)} closed {_for(connection.peer_closed.ns, now, connection.peer_closed.exact)}")
    if sock.unread:
        facts.append(f"{count(sock.unread)} bytes unread")
    if sock.unsent:
        facts.append(f"{count(sock.unsent)} bytes unsent")
    facts += _probes(connection)
    if sock.retransmits:
        facts.append(f"{sock.retransmits} retransmissions unanswered")
    if owner.last_read_s is not None and sock.unread:
        facts.append(f"last read {duration(owner.last_read_s)} ago")
    if sock.unread and owner.read_rate and owner.arrival_rate is not None:
        facts.append(f"reads {size(owner.read_rate)}/s, {size(owner.arrival_rate)}/s arrive")
    condition = reader_condition(owner)
    if condition and reader.side == "local" and not reader.chain:
        facts.append(condition)
    if owner.match == "shared" or len(owner.holders) > 1:
        facts.append(f"held by {len(owner.holders)} processes")
    return (*facts, *reader.chain, *([reader.doubt] if reader.doubt else []))


def reader_condition(owner: Owner) -> str | None:
    """What the reader's thread does: idle in futex, busy at 100 % of a CPU, blocked in …; of several threads, the last."""
    does = _does(owner)
    name = owner.thread_name or owner.name or "the reader"
    if owner.threads > 1:
        several = f"{owner.threads}{' or more' if owner.threads >= READERS else ''} threads read it, last {name}"
        return f"{several}, which is {does}" if does else several
    return f"{name} is {does}" if does else None


def _does(owner: Owner) -> str | None:
    state, channel = owner.thread_state, owner.wait_channel or ""
    share = owner.cpu_share
    if share is not None and share >= (WORKING if state == "R" else BUSY) and state not in ("T", "t"):
        return f"busy at {min(share, 1):.0%} of a CPU"
    if state == "R":
        return "running" if share is None else f"running, at {share:.0%} of a CPU"
    if state in ("T", "t"):
        return "stopped"
    if state == "D":
        return f"blocked in {channel}" if channel else "blocked"
    if state == "S":
        where = "futex" if channel.startswith("futex") else channel
        return f"idle in {where}" if where else "asleep"
    return None


def ended(connection: Connection) -> str:
    """How it ended."""
    reset = connection.reset
    if reset is None:
        return "closed"
    if reset.direction is None:
        return f"timed out: {cause_words(reset.cause)}"
    who = "this end sent a RST" if reset.direction == "sent" else "a RST came from the peer"
    return f"{who}: {cause_words(reset.cause)}"


def cause_words(cause: Cause) -> str:
    """A cause as a phrase."""
    return {
        "close-with-unread-data": "closed with unread data",
        "keepalive-timeout": "keepalive probes stayed unanswered",
        "user-timeout": "TCP_USER_TIMEOUT ran out",
        "probe-timeout": "zero-window probes stayed unanswered",
        "retransmission-timeout": "retransmissions stayed unanswered",
        "linger-zero": "closed with SO_LINGER 0",
        "data-after-close": "data came after close",
        "no-socket": "nobody listens there",
        "listener-closed": "the listener closed before it was accepted",
        "out-of-memory": "out of TCP memory",
        "orphan": "nobody held it any more",
        "administrative": "killed from outside (ss -K)",
        "disconnect": "disconnected by connect(AF_UNSPEC)",
        "time-wait": "the connection was over",
        "invalid-segment": "an unacceptable segment came",
        "peer": "the peer's reason is not known here",
    }.get(cause, "the cause is unknown")


def _what(connection: Connection, phase: Phase, owner: Owner, reader: SlowReader, now: int) -> list[str]:
    sock = connection.sock
    if phase is Phase.UNANSWERED:
        return [f"no answer from {_at(connection)}", *_unanswered(connection)]
    if reader.side == "local":
        return _local_reader(connection, owner, reader, now)
    unsent = f"{count(sock.unsent)} bytes unsent"
    probes = _probes(connection)
    if connection.peer_closed:
        since = _for(connection.peer_closed.ns, now, connection.peer_closed.exact)
        who = _peer_label(connection, reader)
        first = f"{who} does not read: window closed {since}"
        return [", ".join([first, *([unsent] if sock.unsent else []), *probes]), *reader.chain]
    if reader.side == "peer":
        return [f"{_peer_label(connection, reader)} reads slowly: {unsent}", *probes]
    waited = f" for {duration((now - connection.unacked_since) / 1e9)}" if connection.unacked_since else ""
    return [f"nothing is acknowledged by {_at(connection)}{waited}: {unsent}"]


def _local_reader(connection: Connection, owner: Owner, reader: SlowReader, now: int) -> list[str]:
    sock = connection.sock
    who = _owner_label(owner)
    closed = connection.local_closed
    since, exact = connection.unread_since, connection.unread_exact
    if since is None and closed is not None:
        since, exact = closed
    not_read = f"{who} has not read {_for(since, now, exact)}" if since else f"{who} reads slowly"
    window = "window closed" if connection.local_closed else "window open"
    parts = [not_read, f"{count(sock.unread)} bytes unread, {window}"]
    if reader.chain:
        return [*parts, *reader.chain]
    condition = reader_condition(owner)
    return [*parts, condition] if condition else parts


def _outlook(connection: Connection, reader: SlowReader, forecast: Forecast, now: int) -> list[str]:
    if forecast.at_ns is not None and forecast.habit is not None:
        return [_habit(forecast.habit), f"that is in {_left(forecast.at_ns, now)}"]
    if forecast.at_ns is not None:
        what = "RST" if forecast.outcome == "reset" else "time-out"
        return [f"{what} by {forecast.by} in {_left(forecast.at_ns, now)}"]
    if forecast.basis == "conditional":
        if reader.side == "local":
            return ["if it closes now, the peer gets a RST"]
        return ["no kernel deadline", "if it closes now, a RST comes"]
    return ["no kernel deadline"] if connection.closed_since else []


def _habit(habit: Habit) -> str:
    after = duration(habit.patience_ns / 1e9)
    return f"no kernel deadline; {habit.program} has given up on such peers after {after} ({habit.sightings} seen)"


def _left(at_ns: int, now: int) -> str:
    return duration(max(0, at_ns - now) / 1e9)


def _unanswered(connection: Connection) -> list[str]:
    sock = connection.sock
    if sock.retransmits >= deadlines.UNANSWERED_RETRANSMITS:
        return [f"{sock.retransmits} retransmissions unanswered"]
    return _probes(connection)


def _probes(connection: Connection) -> list[str]:
    sock = connection.sock
    if sock.pending == Pending.PROBE0 and (not sock.snd_wnd or sock.probes_out):
        if sock.probes_out > 1:
            return [f"{sock.probes_out} zero-window probes unanswered"]
        if connection.closure_probes and not sock.probes_out:
            return [f"zero-window probe {connection.closure_probes} answered"]
    elif sock.probes_out and sock.flags & SockFlag.KEEPOPEN:
        return [f"{sock.probes_out} of {sock.keepalive_probes} keepalive probes unanswered"]
    return []


def _owner_label(owner: Owner) -> str:
    if owner.pid is not None:
        return blame.process_label(owner)
    if owner.match == "shared":
        return f"one of {len(owner.holders)} processes"
    return "its reader (unknown)"


def _peer_label(connection: Connection, reader: SlowReader) -> str:
    if reader.pid is None or reader.chain:
        return _at(connection)
    return f"{blame.process_label(reader)} at {_at(connection)}"


def _at(connection: Connection) -> str:
    return hostport(connection.peer.ip, connection.peer.port)


def _for(since: int, now: int, exact: bool) -> str:
    return f"for {'' if exact else 'at least '}{duration((now - since) / 1e9)}"
