"""What a connection was judged from, as a part of its document: a recording that has it can be judged again.

The socket's fields have the kernel's names and units. What is zero or unknown is left out, for most is; so is what the document
says already, and the socket's address, which never leaves the process.
"""

from __future__ import annotations

from itertools import compress
from operator import itemgetter
from typing import Any, Final

from tracer.events.records import SockState
from tracer.model.findings import ConnectionView, Habit
from tracer.model.sample import Closure, Sample

ELSEWHERE: Final = frozenset({"sk", "local_addr", "peer_addr", "local_port", "peer_port", "netns"})
_NAMES: Final = tuple(name for name in SockState._fields if name not in ELSEWHERE)
_VALUES: Final = itemgetter(*(SockState._fields.index(name) for name in _NAMES))


def sample(taken: Sample, view: ConnectionView, ns: int) -> dict[str, Any]:
    """tcptrace.sample of a line at `ns`. `age_ns`: the socket was read so long before."""
    fields = _VALUES(taken.sock)
    owner, verdict = view.owner, view.verdict
    found: dict[str, Any] = {
        "ns": ns,
        "hz": taken.hz,
        "since_ns": taken.since_ns,
        "sock": dict(compress(zip(_NAMES, fields, strict=True), fields)),
    }
    optional: dict[str, Any] = {
        "age_ns": ns - taken.ns or None,
        "local_closed": _closure(taken.local_closed),
        "peer_closed": _closure(taken.peer_closed),
        "unread_since": taken.unread_since,
        "unread_exact": None if taken.unread_exact else False,
        "unacked_since": taken.unacked_since,
        "read_rate": taken.read_rate,
        "arrival_rate": taken.arrival_rate,
        "ack_rate": taken.ack_rate,
        "closure_probes": taken.closure_probes or None,
        "closures": taken.closures or None,
        "probes": taken.probes or None,
        "longest_stall_ns": taken.longest_stall_ns or None,
        "other": taken.other,
        "holders": owner.holders or None,
        "threads": owner.threads or None,
        "cpu_share": owner.cpu_share,
        "doubt": verdict.slow_reader.doubt,
        "habit": _habit(verdict.forecast.habit, verdict.forecast.at_ns),
    }
    return found | {name: value for name, value in optional.items() if value is not None}


def _closure(closure: Closure | None) -> dict[str, Any] | None:
    return None if closure is None else {"ns": closure.ns, "exact": closure.exact}


def _habit(habit: Habit | None, at_ns: int | None) -> dict[str, Any] | None:
    if habit is None:
        return None
    return {"patience_ns": habit.patience_ns, "spread_ns": habit.spread_ns, "at_ns": at_ns}
