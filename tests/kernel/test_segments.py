"""The scripted end of tests/lab against a real socket: a fake that is wrong would make every story about it wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.lab import hosts, witness
from tests.lab.actor import Actor, actor, fill
from tests.lab.hosts import Host
from tests.lab.segments import ACK, FIN, HERE, PSH, RST, START, SYN, THERE, Peer, peer

pytestmark = pytest.mark.kernel

PORT = 7600


class Lab:
    """A host, a program on it, and the scripted end."""

    def __init__(self, host: Host, client: Actor, there: Peer) -> None:
        self.host, self.client, self.there = host, client, there

    def connect(self, opening: int = 65535, room: int | None = None) -> int:
        self.there.listen(PORT, opening=opening, room=room)
        port = self.client.do(
            "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768);"
            f"s.connect(({THERE!r}, {PORT})); answer = s.getsockname()[1]"
        )
        assert isinstance(port, int)
        return port


@pytest.fixture
def lab() -> Iterator[Lab]:
    with hosts.alone() as host, actor(host, "client") as client, peer(host) as there:
        yield Lab(host, client, there)


def test_the_host_connects_to_it_and_data_arrives_either_way(lab: Lab) -> None:
    port = lab.connect()
    syn = lab.there.next()
    assert (syn.flags, syn.source, syn.target) == (SYN, port, PORT)
    lab.client.do("s.send(b'hello')")
    assert lab.there.next(lambda one: bool(one.data)).data == b"hello"
    lab.there.send(PSH | ACK, b"odd")
    assert lab.client.do("answer = s.recv(9).decode()") == "odd"
    seen = witness.ss(lab.host)[port]
    assert (seen.state, seen.peer_port, seen.send_q) == ("ESTAB", PORT, 0)
    assert (seen.info["wscale"], seen.info["mss"]) == ("7", "1460")
    assert "ts" not in seen.info


def test_it_connects_to_the_host(lab: Lab) -> None:
    lab.client.do(f"l = socket.create_server(({HERE!r}, {PORT}))")
    lab.there.connect(PORT + 1, PORT)
    lab.there.send(PSH | ACK, b"hello")
    assert lab.client.do("s, end = l.accept(); answer = [s.recv(9).decode(), end[1]]") == ["hello", PORT + 1]


def test_its_checksums_are_right(lab: Lab) -> None:
    lab.connect()
    before = witness.counters(lab.client)
    for size in range(1, 40):
        lab.there.send(PSH | ACK, bytes(range(size)))
    received = sum(range(1, 40))
    assert lab.client.do(f"answer = len(s.recv({received}, socket.MSG_WAITALL))") == received
    after = witness.counters(lab.client)
    for name in ("TcpInCsumErrors", "TcpInErrs", "TcpRetransSegs"):
        assert witness.risen(before, after, name) == 0


def test_a_full_one_closes_its_window_and_answers_probes(lab: Lab) -> None:
    port = lab.connect(opening=8192)
    fill(lab.client)
    before = witness.counters(lab.client)
    time.sleep(1)
    after = witness.counters(lab.client)
    seen = witness.ss(lab.host)[port]
    assert seen.timer[0] == "persist"
    assert "snd_wnd" not in seen.info or seen.info["snd_wnd"] == "0"
    assert witness.risen(before, after, "TcpExtTCPWinProbe") >= 1
    assert witness.risen(before, after, "TcpInSegs") >= 1
    assert (lab.there.rcv_nxt - lab.there.next().end) & 0xFFFFFFFF == 8192


def test_a_window_that_shrinks_leaves_data_in_flight(lab: Lab) -> None:
    port = lab.connect(room=1000)
    fill(lab.client)
    seen = witness.ss(lab.host)[port]
    assert seen.timer[0] == "on"
    assert int(seen.info["unacked"]) > 1
    assert seen.info.get("snd_wnd", "0") == "0"


def test_a_silent_one_says_nothing(lab: Lab) -> None:
    lab.connect()
    lab.there.fall_silent()
    before = witness.counters(lab.client)
    lab.client.do("s.send(b'hello'); time.sleep(1)")
    after = witness.counters(lab.client)
    assert witness.risen(before, after, "TcpInSegs") == 0
    assert witness.risen(before, after, "TcpRetransSegs") >= 2


def test_a_reset_and_an_end_are_what_they_say(lab: Lab) -> None:
    port = lab.connect()
    lab.there.send(FIN | ACK)
    assert lab.client.do("answer = len(s.recv(1))") == 0
    assert witness.ss(lab.host)[port].state == "CLOSE-WAIT"
    lab.there.send(RST)
    lab.client.do("time.sleep(0.1)")
    assert port not in witness.ss(lab.host)
    assert lab.there.snd_nxt == START + 2
