"""Bytes from the kernel to records: the layout of bpf/records.h, seen from Python.

Each format below is one C struct; tests/events/test_wire.py compares sizes and offsets with what a C compiler makes of the
header. Text is made printable here, at its source.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Final, TypeAlias

from tracer.events.records import (
    Actor,
    Calibrated,
    Destroyed,
    Holder,
    Inspected,
    KernelRecord,
    Listener,
    Mechanism,
    Probe,
    Read,
    Reset,
    Retransmit,
    Side,
    Socket,
    SockState,
    State,
    Timer,
    Window,
)
from tracer.text import printable

HEADER: Final = struct.Struct("<IIQ")
ACTOR: Final = struct.Struct("<II16s")
SOCK_STATE: Final = struct.Struct("<6Q4I16s16sIHHH14BI13I10Ii3I")
PREFIX: Final = HEADER.size + ACTOR.size
"""Where sock_state begins in the records that have one."""
TAIL: Final = PREFIX + SOCK_STATE.size
"""Where a record's own fields begin behind sock_state."""

LISTENER: Final = struct.Struct("<IIQ Q16sIHHII")
OWNER: Final = struct.Struct("<IIQ QQIIII16s")
CALIBRATED: Final = struct.Struct("<IIQ QII")
DETAIL: Final = struct.Struct("<II")
SIGNED_DETAIL: Final = struct.Struct("<iI")

RESET_HAS_SOCKET: Final = 1
RESET_PASSIVE: Final = 2
RESET_HAS_REASON: Final = 4

KIND_NAMES: Final = (
    "none",
    "socket",
    "listener",
    "owner",
    "calibrated",
    "inspected",
    "window",
    "read",
    "timer",
    "probe",
    "retransmit",
    "state",
    "reset-sent",
    "reset-received",
    "destroyed",
)
"""enum record_kind, by number; also the names under which losses are counted."""

_SIDES: Final[tuple[Side, ...]] = ("local", "local", "peer")
_MECHANISMS: Final[tuple[Mechanism, ...]] = ("keepalive", "keepalive", "zero-window")


class WireError(ValueError):
    """Bytes that are no record of ours: another version's, or cut short."""


def decode(data: bytes, reasons: Mapping[int, str]) -> KernelRecord:
    """One record from its bytes; `reasons` names the running kernel's enum sk_rst_reason. Raises WireError."""
    return _decode_at(data, 0, reasons)[0]


def decode_all(data: bytes, reasons: Mapping[int, str]) -> Iterator[KernelRecord]:
    """The records that stand one behind the other in what an iterator wrote. Raises WireError."""
    at, end = 0, len(data)
    while at < end:
        record, size = _decode_at(data, at, reasons)
        yield record
        at += size


def _decode_at(data: bytes, at: int, reasons: Mapping[int, str]) -> tuple[KernelRecord, int]:
    """The record that begins there, and the bytes that it says it has."""
    left = len(data) - at
    if left < HEADER.size:
        raise WireError(f"a record of {left} bytes has no header")
    kind, size, ns = HEADER.unpack_from(data, at)
    found = _DECODERS.get(kind)
    if found is None:
        raise WireError(f"record kind {kind} is unknown")
    decoder, least = found
    # the ring buffer rounds sizes up to 8
    if not least <= size <= left:
        raise WireError(f"a {KIND_NAMES[kind]} record of {size} bytes, of which there are {left}, is not one of ours")
    try:
        return decoder(ns, data, at, reasons), size
    except IndexError as error:
        raise WireError(f"a {KIND_NAMES[kind]} record tells of what does not exist") from error


@lru_cache(maxsize=1024)  # of one process holding many sockets it comes many times
def _text(raw: bytes) -> str:
    return printable(raw.split(b"\0", 1)[0])


def _actor(data: bytes, at: int) -> Actor | None:
    tgid, tid, comm = ACTOR.unpack_from(data, at + HEADER.size)
    return Actor(tgid, tid, _text(comm)) if tgid else None


def _sock(data: bytes, at: int) -> SockState:
    return SockState._make(SOCK_STATE.unpack_from(data, at + PREFIX))


def _socket(ns: int, data: bytes, at: int, _: Mapping[int, str]) -> Socket:
    return Socket(ns, _sock(data, at))


def _listener(ns: int, data: bytes, at: int, _: Mapping[int, str]) -> Listener:
    return Listener(ns, *LISTENER.unpack_from(data, at)[3:])


def _owner(ns: int, data: bytes, at: int, _: Mapping[int, str]) -> Holder:
    sk, start_ns, tgid, fd, netns, _reserved, comm = OWNER.unpack_from(data, at)[3:]
    return Holder(ns, sk, start_ns, tgid, fd, netns, _text(comm))


def _calibrated(ns: int, data: bytes, at: int, _: Mapping[int, str]) -> Calibrated:
    jiffies, hz, _reserved = CALIBRATED.unpack_from(data, at)[3:]
    return Calibrated(ns, jiffies, hz)


def _inspected(ns: int, data: bytes, at: int, _: Mapping[int, str]) -> Inspected:
    return Inspected(ns, _sock(data, at))


def _window(ns: int, data: bytes, at: int, _: Mapping[int, str]) -> Window:
    side, window = DETAIL.unpack_from(data, at + TAIL)
    return Window(ns, _actor(data, at), _sock(data, at), _SIDES[side], window)


def _read(ns: int, data: bytes, at: int, _: Mapping[int, str]) -> Read:
    return Read(ns, _actor(data, at), _sock(data, at))


def _timer(ns: int, data: bytes, at: int, _: Mapping[int, str]) -> Timer:
    mechanism, number = DETAIL.unpack_from(data, at + TAIL)
    return Timer(ns, _sock(data, at), _MECHANISMS[mechanism], number)


def _probe(ns: int, data: bytes, at: int, _: Mapping[int, str]) -> Probe:
    mechanism, _number = DETAIL.unpack_from(data, at + TAIL)
    return Probe(ns, _sock(data, at), _MECHANISMS[mechanism])


def _retransmit(ns: int, data: bytes, at: int, _: Mapping[int, str]) -> Retransmit:
    err, _reserved = SIGNED_DETAIL.unpack_from(data, at + TAIL)
    return Retransmit(ns, _sock(data, at), err)


def _state(ns: int, data: bytes, at: int, _: Mapping[int, str]) -> State:
    old, new = DETAIL.unpack_from(data, at + TAIL)
    return State(ns, _actor(data, at), _sock(data, at), old, new)


def _reset(ns: int, data: bytes, at: int, reasons: Mapping[int, str]) -> Reset:
    reason, how = DETAIL.unpack_from(data, at + TAIL)
    sent = HEADER.unpack_from(data, at)[0] == KIND_NAMES.index("reset-sent")
    return Reset(
        ns,
        _actor(data, at),
        _sock(data, at),
        "sent" if sent else "received",
        reasons.get(reason) if how & RESET_HAS_REASON else None,
        bool(how & RESET_HAS_SOCKET),
        bool(how & RESET_PASSIVE),
    )


def _destroyed(ns: int, data: bytes, at: int, _: Mapping[int, str]) -> Destroyed:
    return Destroyed(ns, _sock(data, at))


_Decoder: TypeAlias = Callable[[int, bytes, int, Mapping[int, str]], KernelRecord]
_EVENT: Final = TAIL + DETAIL.size
_BY_NAME: Final[Mapping[str, tuple[_Decoder, int]]] = {
    "socket": (_socket, TAIL),
    "listener": (_listener, LISTENER.size),
    "owner": (_owner, OWNER.size),
    "calibrated": (_calibrated, CALIBRATED.size),
    "inspected": (_inspected, TAIL),
    "window": (_window, _EVENT),
    "read": (_read, TAIL),
    "timer": (_timer, _EVENT),
    "probe": (_probe, _EVENT),
    "retransmit": (_retransmit, _EVENT),
    "state": (_state, _EVENT),
    "reset-sent": (_reset, _EVENT),
    "reset-received": (_reset, _EVENT),
    "destroyed": (_destroyed, TAIL),
}
_DECODERS: Final = {KIND_NAMES.index(name): found for name, found in _BY_NAME.items()}
"""By kind, each with the bytes that it reads."""
