"""What a connection was judged from at one moment: enough to restore it, and to judge it again.

What the model comes to know of a connection, and judges from, belongs here too: a replay knows nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

from tracer.events.records import SockState


class Closure(NamedTuple):
    """A window is closed since `ns`; `exact`: an event said so, else it has been closed at least that long."""

    ns: int
    exact: bool


class Sample(NamedTuple):
    """What a connection is judged from, so that a recording can be judged again. `sock` was read at `ns`."""

    ns: int
    hz: int
    sock: SockState
    since_ns: int
    local_closed: Closure | None = None
    peer_closed: Closure | None = None
    unread_since: int | None = None
    unacked_since: int | None = None
    read_rate: float | None = None
    arrival_rate: float | None = None
    ack_rate: float | None = None
    closure_probes: int = 0
    closures: int = 0
    probes: int = 0
    longest_stall_ns: int = 0
    unread_exact: bool = True
    other: str | None = None
    """The id of the other end, where that is on the same host."""
