"""A line about a connection as the state that it was in: the sample that it was judged from, and what was found.

With `tcptrace.sample` it is restored to be judged again; without (an older or foreign stream of the same contract) the verdict
is taken as it was found.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final, get_args

from tracer.events.records import OpenedBy, SockState
from tracer.model import findings
from tracer.model.findings import Forecast, Habit, Owner, Phase, Recorded, ResetView, SlowReader, Verdict
from tracer.model.restoring import Restored
from tracer.model.sample import Closure, Sample
from tracer.sources import sockets
from tracer.sources.fields import LONGEST_NS, Fields, ForeignError

HZ: Final = range(24, 10_001)
PIDS_AT_MOST: Final = (1 << 32) - 1

_PHASES: Final = frozenset(phase.value for phase in Phase)
_SIDES: Final = ("local", "peer")
_MECHANISMS: Final = ("keepalive", "zero-window")


def restored(whole: Fields, number: int, ns: int, offset: int) -> Restored:
    """The record of a document at `ns`; `offset` takes times to UTC, `number` stands for the socket. Raises ForeignError."""
    own = whole.part("tcptrace")
    taken = own.part("sample") if "sample" in own else None
    if taken is not None:
        ns = taken.integer("ns")
        sample = _sample(taken, sock(own, number, taken), ns)
    else:
        sample = sockets.shown(own, sock(own, number, None), ns)
    connection, probe = own.part("connection"), own.maybe("probe")
    return Restored(
        ns,
        whole.part("event").choice("action", get_args(findings.Action)),
        connection.text("id"),
        sample,
        Recorded(
            _verdict(own.part("verdict"), taken, offset),
            _owner(whole, own, taken, sample),
            connection.choice("opened_by", get_args(OpenedBy)),
            reset(own.part("reset")) if "reset" in own else None,
            taken is None,
        ),
        own.maybe("window").maybe_choice("side", _SIDES),
        probe.maybe_choice("kind", _MECHANISMS),
        probe.maybe_integer("number", 1 << 32),
    )


def sock(own: Fields, number: int, taken: Fields | None) -> SockState:
    """The socket; without a sample only its ends and state."""
    connection = own.part("connection")
    local, peer = connection.part("local"), connection.part("peer")
    values = sockets.raw(taken.part("sock")) if taken else {}
    values |= {
        "sk": number,
        "local_addr": _address(local),
        "peer_addr": _address(peer),
        "local_port": local.integer("port", 0xFFFF),
        "peer_port": peer.integer("port", 0xFFFF),
        "netns": connection.maybe_integer("netns", (1 << 32) - 1) or 0,
    }
    return sockets.NOTHING._replace(**values)


def reset(found: Fields) -> ResetView:
    """How it was reset."""
    return ResetView(
        found.maybe_choice("direction", ("sent", "received")),
        found.choice("cause", get_args(findings.Cause)),
        found.maybe_text("reason"),
        found.choice("reason_source", ("kernel", "inferred")),
        found.maybe_integer("unread_bytes"),
        found.maybe_integer("unsent_bytes"),
    )


def _verdict(verdict: Fields, taken: Fields | None, offset: int) -> Verdict:
    reader = verdict.part("slow_reader")
    return Verdict(
        Phase(verdict.choice("phase", _PHASES)),
        verdict.epoch_ns("since") - offset,
        verdict.maybe_number("stalled_s"),
        verdict.text("summary"),
        verdict.texts("evidence"),
        SlowReader(
            reader.choice("side", ("local", "peer", "none", "unknown")),
            reader.maybe_text("ip"),
            reader.maybe_integer("port", 0xFFFF),
            reader.maybe_integer("pid", PIDS_AT_MOST),
            reader.maybe_text("name"),
            reader.maybe_integer("thread_id", PIDS_AT_MOST),
            reader.maybe_text("thread_name"),
            reader.texts("chain"),
            taken.maybe_text("doubt") if taken else None,
        ),
        _forecast(verdict.part("forecast"), taken, offset),
    )


def _forecast(forecast: Fields, taken: Fields | None, offset: int) -> Forecast:
    outcome = forecast.choice("outcome", get_args(findings.Outcome))
    by = forecast.maybe_choice("by", get_args(findings.By))
    basis = forecast.choice("basis", get_args(findings.Basis))
    at = forecast.epoch_ns("at") - offset if "at" in forecast else None
    if taken is None or "habit" not in taken:
        return Forecast(outcome, by, at, basis)
    learned = taken.part("habit")
    patience, spread = learned.integer("patience_ns"), learned.integer("spread_ns")
    habit = Habit(forecast.text("program"), patience, spread, forecast.integer("sightings"), outcome)
    return Forecast(outcome, by, learned.integer("at_ns"), basis, habit)


def _address(end: Fields) -> bytes:
    try:
        ip = ip_address(end.text("ip"))
    except ValueError as error:
        raise ForeignError("an address is none") from error
    return ip.packed if ip.version == 6 else bytes(10) + b"\xff\xff" + ip.packed


def _sample(taken: Fields, read: SockState, ns: int) -> Sample:
    sockets.check(read)
    hz = taken.integer("hz", HZ.stop - 1, HZ.start)
    return Sample(
        ns - (taken.maybe_integer("age_ns", LONGEST_NS, -LONGEST_NS) or 0),
        hz,
        read,
        taken.integer("since_ns", LONGEST_NS, -LONGEST_NS),
        _closure(taken, "local_closed"),
        _closure(taken, "peer_closed"),
        taken.maybe_integer("unread_since", LONGEST_NS, -LONGEST_NS),
        taken.maybe_integer("unacked_since", LONGEST_NS, -LONGEST_NS),
        taken.maybe_number("read_rate"),
        taken.maybe_number("arrival_rate"),
        taken.maybe_number("ack_rate"),
        taken.maybe_integer("closure_probes") or 0,
        taken.maybe_integer("closures") or 0,
        taken.maybe_integer("probes") or 0,
        taken.maybe_integer("longest_stall_ns") or 0,
        taken.flag("unread_exact") if "unread_exact" in taken else True,
        taken.maybe_text("other"),
    )


def _closure(taken: Fields, name: str) -> Closure | None:
    if name not in taken:
        return None
    closure = taken.part(name)
    return Closure(closure.integer("ns", LONGEST_NS, -LONGEST_NS), closure.flag("exact"))


def _owner(whole: Fields, own: Fields, taken: Fields | None, sample: Sample) -> Owner:
    owner, process = own.part("owner"), whole.maybe("process")
    thread = process.maybe("thread")
    match = owner.choice("match", get_args(findings.OwnerMatch))
    readers = owner.maybe_integer("readers", 1 << 20) or 0
    by_reader = match == "reader"
    return Owner(
        match,
        process.maybe_integer("pid", PIDS_AT_MOST),
        process.maybe_text("name"),
        process.maybe_text("executable"),
        process.maybe_text("command_line"),
        whole.maybe("container").maybe_text("id"),
        thread.maybe_integer("id", PIDS_AT_MOST),
        thread.maybe_text("name"),
        # without their pids their number is known
        taken.integers("holders", PIDS_AT_MOST) if taken else (0,) * min(readers, 64),
        owner.maybe_number("last_read_s"),
        owner.maybe_text("thread_state"),
        owner.maybe_text("wait_channel"),
        (taken.maybe_integer("threads", 0xFF) or 0) if taken else 0,
        (sample.read_rate if taken else owner.maybe_number("read_rate")) if by_reader else None,
        (sample.arrival_rate if taken else owner.maybe_number("arrival_rate")) if by_reader else None,
        (taken or owner).maybe_number("cpu_share"),
    )
