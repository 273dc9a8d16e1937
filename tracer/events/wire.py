"""Bytes from the kernel to records: the layout of bpf/records.h, seen from Python.

Each format below is one C struct; tests/events/test_wire.py compares sizes and offsets with what a C compiler makes of the
header. Text is made printable here, at its source.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
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
SOCK_STATE: Final = struct.Struct("<6Q4I16s16sIHHH14BI13I11Ii3I4x")
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
    if len(data) < HEADER.size:
        raise WireError(f"a record of {len(data)} bytes has no header")
    kind, size, ns = HEADER.unpack_from(data)
    decoder = _DECODERS.get(kind)
    if decoder is None:
        raise WireError(f"record kind {kind} is unknown")
    # the ring buffer rounds sizes up to 8
    if size > len(data):
        raise WireError(f"a {KIND_NAMES[kind]} record of {size} bytes has only {len(data)}")
    try:
        return decoder(ns, data, reasons)
    except (struct.error, IndexError) as error:
        raise WireError(f"a {KIND_NAMES[kind]} record of {size} bytes is not one of ours") from error


def decode_all(data: bytes, reasons: Mapping[int, str]) -> Iterator[KernelRecord]:
    """The records that stand one behind the other in what an iterator wrote. Raises WireError."""
    at, end = 0, len(data)
    while at < end:
        if end - at < HEADER.size:
            raise WireError(f"{end - at} bytes are left over")
        size = HEADER.unpack_from(data, at)[1]
        if size < HEADER.size:
            raise WireError(f"a record says that it has {size} bytes")
        yield decode(data[at : at + size], reasons)
        at += size


def _text(raw: bytes) -> str:
    return printable(raw.split(b"\0", 1)[0])


def _actor(data: bytes) -> Actor | None:
    tgid, tid, comm = ACTOR.unpack_from(data, HEADER.size)
    return Actor(tgid, tid, _text(comm)) if tgid else None


def _sock(data: bytes) -> SockState:
    return SockState._make(SOCK_STATE.unpack_from(data, PREFIX))


def _socket(ns: int, data: bytes, _: Mapping[int, str]) -> Socket:
    return Socket(ns, _sock(data))


def _listener(ns: int, data: bytes, _: Mapping[int, str]) -> Listener:
    return Listener(ns, *LISTENER.unpack_from(data)[3:])


def _owner(ns: int, data: bytes, _: Mapping[int, str]) -> Holder:
    sk, start_ns, tgid, fd, netns, _reserved, comm = OWNER.unpack_from(data)[3:]
    return Holder(ns, sk, start_ns, tgid, fd, netns, _text(comm))


def _calibrated(ns: int, data: bytes, _: Mapping[int, str]) -> Calibrated:
    jiffies, hz, _reserved = CALIBRATED.unpack_from(data)[3:]
    return Calibrated(ns, jiffies, hz)


def _inspected(ns: int, data: bytes, _: Mapping[int, str]) -> Inspected:
    return Inspected(ns, _sock(data))


def _window(ns: int, data: bytes, _: Mapping[int, str]) -> Window:
    side, window = DETAIL.unpack_from(data, TAIL)
    return Window(ns, _actor(data), _sock(data), _SIDES[side], window)


def _read(ns: int, data: bytes, _: Mapping[int, str]) -> Read:
    return Read(ns, _actor(data), _sock(data))


def _timer(ns: int, data: bytes, _: Mapping[int, str]) -> Timer:
    mechanism, number = DETAIL.unpack_from(data, TAIL)
    return Timer(ns, _sock(data), _MECHANISMS[mechanism], number)


def _probe(ns: int, data: bytes, _: Mapping[int, str]) -> Probe:
    mechanism, _number = DETAIL.unpack_from(data, TAIL)
    return Probe(ns, _sock(data), _MECHANISMS[mechanism])


def _retransmit(ns: int, data: bytes, _: Mapping[int, str]) -> Retransmit:
    err, _reserved = SIGNED_DETAIL.unpack_from(data, TAIL)
    return Retransmit(ns, _sock(data), err)


def _state(ns: int, data: bytes, _: Mapping[int, str]) -> State:
    old, new = DETAIL.unpack_from(data, TAIL)
    return State(ns, _actor(data), _sock(data), old, new)


def _reset(ns: int, data: bytes, reasons: Mapping[int, str]) -> Reset:
    reason, how = DETAIL.unpack_from(data, TAIL)
    sent = HEADER.unpack_from(data)[0] == KIND_NAMES.index("reset-sent")
    return Reset(
        ns,
        _actor(data),
        _sock(data),
        "sent" if sent else "received",
        reasons.get(reason) if how & RESET_HAS_REASON else None,
        bool(how & RESET_HAS_SOCKET),
        bool(how & RESET_PASSIVE),
    )


def _destroyed(ns: int, data: bytes, _: Mapping[int, str]) -> Destroyed:
    return Destroyed(ns, _sock(data))


_Decoder: TypeAlias = Callable[[int, bytes, Mapping[int, str]], KernelRecord]
_BY_NAME: Final[Mapping[str, _Decoder]] = {
    "socket": _socket,
    "listener": _listener,
    "owner": _owner,
    "calibrated": _calibrated,
    "inspected": _inspected,
    "window": _window,
    "read": _read,
    "timer": _timer,
    "probe": _probe,
    "retransmit": _retransmit,
    "state": _state,
    "reset-sent": _reset,
    "reset-received": _reset,
    "destroyed": _destroyed,
}
_DECODERS: Final = {KIND_NAMES.index(name): decoder for name, decoder in _BY_NAME.items()}
