"""Causes: the kernel's reason where it decides, the state that a caller leaves visible where it does not."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tests.builders import DEAD, KEEPOPEN, OWNED, START, sock
from tracer.events.records import Reset, State, TcpState
from tracer.model import causes
from tracer.model.findings import ResetView


def sent(reason: str | None = None, *, passive: bool = False, has_socket: bool = True, **values: Any) -> Reset:
    return Reset(START, None, sock(**values), "sent", reason, has_socket, passive)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("TCP_ABORT_ON_CLOSE", "close-with-unread-data"),
        ("TCP_ABORT_ON_DATA", "data-after-close"),
        ("TCP_ABORT_ON_LINGER", "orphan"),
        ("TCP_ABORT_ON_MEMORY", "out-of-memory"),
        ("TCP_DISCONNECT_WITH_DATA", "disconnect"),
        ("TCP_KEEPALIVE_TIMEOUT", "keepalive-timeout"),
        ("TCP_TIMEWAIT_SOCKET", "time-wait"),
        ("NO_SOCKET", "no-socket"),
        ("INVALID_SYN", "invalid-segment"),
        ("TCP_FLAGS", "invalid-segment"),
    ],
)
def test_where_the_kernels_reason_decides(reason: str, cause: str) -> None:
    view = causes.of_reset_sent(sent(reason))
    assert (view.cause, view.reason, view.reason_source) == (cause, reason, "kernel")


def test_a_keepalive_abort_with_tcp_user_timeout_set_is_the_user_timeouts() -> None:
    assert causes.of_reset_sent(sent("TCP_KEEPALIVE_TIMEOUT", user_timeout=5000)).cause == "user-timeout"


CLOSED: dict[str, Any] = {"state": TcpState.CLOSE, "shutdown": 3, "flags": OWNED}


@pytest.mark.parametrize("reason", ["TCP_STATE", "NOT_SPECIFIED", None])
@pytest.mark.parametrize(
    ("values", "cause"),
    [
        (CLOSED | {"flags": OWNED | 4, "lingertime": 0}, "linger-zero"),
        (CLOSED | {"shutdown": 0}, "disconnect"),
        ({"state": TcpState.CLOSE, "flags": 32}, "listener-closed"),
        ({"flags": OWNED}, "administrative"),  # ss -K: the state is not CLOSE yet
        ({"state": TcpState.FIN_WAIT2, "flags": DEAD}, "orphan"),
        ({"state": TcpState.CLOSE, "flags": DEAD, "linger2": -1}, "orphan"),
        ({"state": TcpState.CLOSE, "flags": DEAD}, "out-of-memory"),
        ({"flags": KEEPOPEN, "probes_out": 9}, "keepalive-timeout"),
        (CLOSED | {"rcv_nxt": 1005}, "close-with-unread-data"),
        ({}, "unknown"),
    ],
)
def test_where_it_does_not_the_sockets_state_tells(reason: str | None, values: dict[str, Any], cause: str) -> None:
    view = causes.of_reset_sent(sent(reason, **values))
    assert (view.cause, view.reason_source) == (cause, "inferred")


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"passive": True, "state": TcpState.CLOSE, "shutdown": 3}, "data-after-close"),
        ({"passive": True, "state": TcpState.SYN_RECV}, "invalid-segment"),
        ({"passive": True, "has_socket": False}, "no-socket"),
        ({"passive": True, "has_socket": False, "state": TcpState.TIME_WAIT}, "time-wait"),
    ],
)
def test_answers_of_old_kernels(values: dict[str, Any], cause: str) -> None:
    assert causes.of_reset_sent(sent(None, **values)).cause == cause


def test_without_a_socket_nothing_is_known_of_queues() -> None:
    view = causes.of_reset_sent(sent("NO_SOCKET", passive=True, has_socket=False))
    assert (view.unread_bytes, view.unsent_bytes) == (None, None)


def test_a_received_rst_has_the_cause_of_a_sender_that_is_here() -> None:
    theirs = ResetView("sent", "linger-zero", "TCP_STATE", "inferred", 0, 0)
    record = Reset(START, None, sock(), "received", None, has_socket=True, passive=True)
    assert causes.of_reset_received(record, theirs).cause == "linger-zero"
    assert causes.of_reset_received(record, None).cause == "peer"


@pytest.mark.parametrize(
    ("values", "cause"),
    [
        ({"retransmits": 15, "err": errno.ETIMEDOUT}, "retransmission-timeout"),
        ({"probes_out": 15, "write_seq": 9000, "err": errno.ETIMEDOUT}, "probe-timeout"),
        ({"user_timeout": 1000, "err": errno.ETIMEDOUT}, "user-timeout"),
        ({"err": errno.ECONNRESET}, None),
        ({}, None),
    ],
)
def test_silent_ends(values: dict[str, int], cause: str | None) -> None:
    record = State(START, None, sock(**values), TcpState.ESTABLISHED, TcpState.CLOSE)
    found = causes.of_silent_end(record)
    assert (found.cause if found else None) == cause
