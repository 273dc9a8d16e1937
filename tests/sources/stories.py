"""Streams of the incident, made by the model from records as the kernel gives them."""

from __future__ import annotations

from functools import cache
from typing import Any

from tests.builders import SECOND, START, Stage, local_closed, peer_closed, sock
from tests.lab.replays import Document, recorded
from tracer.events.records import Actor, Inspected, Losses, Reset, State, TcpState, Timer, Window
from tracer.model.findings import Notice

CLIENT: dict[str, Any] = {"sk": 0xFFFF888000000001, "local": ("10.0.0.1", 40000), "peer": ("10.0.0.2", 8443), "opened_by": 1}
SERVER: dict[str, Any] = {"sk": 0xFFFF888000000002, "local": ("10.0.0.2", 8443), "peer": ("10.0.0.1", 40000), "opened_by": 2}
SENT = 1000 + 362_708
WRITTEN: dict[str, Any] = {
    "snd_nxt": SENT,
    "snd_una": SENT,
    "write_seq": SENT + 108_528,
    "rcv_nxt": 2000,
    "copied_seq": 2000,
    "rcv_wup": 2000,
}


@cache
def incident() -> tuple[Notice, ...]:
    """Both ends are on this host: the client stops reading, is probed, and closes with unread data; then a RST to nowhere."""
    stage = Stage()
    at = START
    client = {**CLIENT, "reader_tgid": 100, "reader_tid": 101, "read_ns": at - SECOND, "write_seq": 2000, "snd_una": 2000}
    stage.feed(Window(at, None, local_closed(at, **client), "local", 0))
    stage.feed(Window(at + 1_000_000, None, peer_closed(at, **SERVER | WRITTEN), "peer", 0))
    stage.owned(at, java=CLIENT["sk"], nginx=SERVER["sk"])
    stage.thread(at + SECOND, 100, 101, "worker-1")
    for number in range(1, 4):
        now = at + number * SECOND
        stage.feed(Timer(now, peer_closed(now, probes_out=number, **SERVER | WRITTEN), "zero-window", number))
        stage.feed(Inspected(now, local_closed(now, **client)))
        stage.tick(now + 1000)
    stage.feed(Losses(at + 4 * SECOND, {"window": 3}, {"sockets": 2}))
    end = at + 5 * SECOND
    java = Actor(100, 101, "worker-1")
    closed = local_closed(end, **client)._replace(state=TcpState.CLOSE, shutdown=3)
    stage.feed(Reset(end, java, closed, "sent", "TCP_ABORT_ON_CLOSE", True, False))
    stage.feed(Reset(end + 1000, None, peer_closed(end, **SERVER | WRITTEN), "received", None, True, False))
    stage.feed(State(end + 2000, java, closed, TcpState.ESTABLISHED, TcpState.CLOSE))
    stage.tick(end + SECOND)
    stage.feed(Reset(end + 2 * SECOND, None, sock(local=("10.0.0.1", 81)), "sent", "NO_SOCKET", False, True))
    return tuple(stage.notices)


def stream(*, samples: bool = True) -> list[Document]:
    """Its documents."""
    return recorded(incident(), samples=samples)
