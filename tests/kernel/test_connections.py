"""Real connections under the real tracer, against what ss, the kernel's counters and /proc say of them."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import hosts, witness
from tests.lab.actor import Actor, actor, connect, fill
from tests.lab.hosts import Host
from tests.lab.trace import ROOT, Event, lines, tcptrace, watching

pytestmark = pytest.mark.kernel

PORT = 7443


class Lab:
    """Two hosts, a program on each."""

    def __init__(self, here: Host, there: Host, client: Actor, server: Actor) -> None:
        self.here, self.there, self.client, self.server = here, there, client, server

    def connect(self, port: int = PORT, name: str = "s", *, ip: str = "") -> int:
        """A connection with small buffers; the client's port."""
        return connect(self.client, self.server, ip or self.there.ip, port, rcvbuf=32768, sndbuf=32768, name=name)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with hosts.pair() as (here, there), actor(here, "lab-client") as client, actor(there, "lab-server") as server:
        yield Lab(here, there, client, server)


def snapshot(*arguments: str) -> list[Event]:
    done = subprocess.run(tcptrace("snapshot", "--json", *arguments), cwd=ROOT, capture_output=True, check=True)
    return lines(done.stdout)


def end_at(events: list[Event], port: int) -> Event:
    """The event of the connection whose local port this is."""
    (found,) = [one for one in events if one["tcptrace"].get("connection", {}).get("local", {}).get("port") == port]
    return found


def stall(lab: Lab) -> int:
    """The server reads once in a thread of its own and never again; the client fills both buffers."""
    port = lab.connect()
    lab.client.do("s.send(b'hello')")
    lab.server.do("s.recv(5)", thread="slow-reader")
    fill(lab.client)
    return port


def test_a_stall_names_the_reader_on_both_ends(lab: Lab) -> None:
    with watching("--port", str(PORT)) as trace:
        port = lab.connect()
        lab.client.do("s.send(b'hello')")
        lab.server.do("s.recv(5)", thread="slow-reader")
        tid = lab.server.do("answer = threading.get_native_id()", thread="slow-reader")
        before = witness.counters(lab.server)
        fill(lab.client)
        after = witness.counters(lab.server)
        closed = trace.wait("window-closed", where=lambda one: local_port(one) == PORT)
        assert closed["tcptrace"]["window"]["side"] == "local"
        assert witness.risen(before, after, "TcpExtTCPToZeroWindowAdv") >= 1
        reader = trace.wait("verdict-changed", where=lambda one: local_port(one) == PORT and phase(one) == "stalled")
        assert reader["process"]["pid"] == lab.server.pid
        assert reader["process"]["thread"] == {"id": tid, "name": "slow-reader"}
        assert reader["tcptrace"]["owner"]["match"] == "reader"
        slow = reader["tcptrace"]["verdict"]["slow_reader"]
        assert (slow["side"], slow["pid"], slow["thread_name"]) == ("local", lab.server.pid, "slow-reader")
        assert reader["tcptrace"]["verdict"]["forecast"]["basis"] == "conditional"
        writer = trace.wait("verdict-changed", where=lambda one: local_port(one) == port and slow_pid(one) == lab.server.pid)
        assert writer["tcptrace"]["verdict"]["slow_reader"]["side"] == "peer"
        assert writer["process"]["pid"] == lab.client.pid


def test_a_stall_that_was_there_before_is_there_at_once_with_its_owner(lab: Lab) -> None:
    port = stall(lab)
    time.sleep(1)
    with watching("--port", str(PORT)) as trace:
        first = trace.wait("connection-seen", where=lambda one: local_port(one) == PORT)
        verdict = trace.wait("verdict-changed", where=lambda one: local_port(one) == PORT)
        started = trace.of("stream-started")[0]["arrived"]
        assert first["arrived"] - started < 1.0
        assert verdict["process"]["pid"] == lab.server.pid
        assert verdict["tcptrace"]["owner"]["match"] == "fd"
        assert verdict["tcptrace"]["verdict"]["stalled_s"] >= 1.0
        seen = trace.wait("verdict-changed", where=lambda one: local_port(one) == port)
        assert seen["tcptrace"]["verdict"]["slow_reader"]["pid"] == lab.server.pid


def test_the_queues_windows_and_timers_are_those_of_ss(lab: Lab) -> None:
    port = stall(lab)
    idle = lab.connect(PORT + 1, "idle")
    lab.client.do("idle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)")
    events = snapshot("--all", "--port", f"{PORT}-{PORT + 1}")
    client, server = witness.ss(lab.here), witness.ss(lab.there)
    for local, seen in ((port, client[port]), (idle, client[idle]), (PORT, server[PORT]), (PORT + 1, server[PORT + 1])):
        own = end_at(events, local)["tcptrace"]
        assert (own["queues"]["recv_q"], own["queues"]["send_q"]) == (seen.recv_q, seen.send_q)
        assert own["connection"]["state"].startswith(seen.state[:5])
        assert own["queues"]["snd_wnd"] == int(seen.info.get("snd_wnd", "0"))
    assert client[port].timer[0] == "persist"
    assert end_at(events, port)["tcptrace"]["timer"]["name"] == "persist"
    assert client[idle].timer[:2] == ("keepalive", "119min")
    assert end_at(events, idle)["tcptrace"]["timer"]["name"] == "keepalive"
    assert 7100 < end_at(events, idle)["tcptrace"]["timer"]["expires_s"] <= 7200
    assert end_at(events, PORT)["tcptrace"]["timer"]["name"] == "none"


def test_the_owners_are_the_holders_that_proc_shows(lab: Lab) -> None:
    ports = {lab.connect(PORT + number, f"s{number}"): PORT + number for number in range(8)}
    shared = lab.connect(PORT + 9, "shared")
    child = lab.client.do("answer = os.fork() or (time.sleep(30), os._exit(0))")
    events = snapshot("--all", "--port", f"{PORT}-{PORT + 9}")
    sockets = witness.ss(lab.here)
    for local in ports:
        own = end_at(events, local)
        assert witness.holders(sockets[local].inode) == {lab.client.pid, child}
        # two hold it: neither is proven to be the reader
        assert own["tcptrace"]["owner"]["match"] == "shared" and "process" not in own
        assert own["tcptrace"]["owner"]["readers"] == 2
    assert end_at(events, shared)["tcptrace"]["owner"]["match"] == "shared"
    for port in ports.values():
        assert end_at(events, port)["process"]["pid"] == lab.server.pid
    lab.client.do(f"os.kill({child}, signal.SIGKILL); os.waitpid({child}, 0)")
    events = snapshot("--all", "--port", f"{PORT}-{PORT + 9}")
    assert {end_at(events, local)["process"]["pid"] for local in ports} == {lab.client.pid}


def test_zero_window_probes_are_counted_as_the_kernel_counts_them(lab: Lab) -> None:
    with watching("--port", str(PORT)) as trace:
        before = witness.counters(lab.client)
        port = stall(lab)
        trace.wait("probe-sent", where=lambda one: one["tcptrace"]["probe"]["number"] == 3)
        trace.wait("probe-received", PORT)
        time.sleep(0.3)
        after = witness.counters(lab.client)
        events = trace.stop()
    sent = [one for one in events if one["event"]["action"] == "probe-sent" and local_port(one) == port]
    received = [one for one in events if one["event"]["action"] == "probe-received" and local_port(one) == PORT]
    kinds = {one["tcptrace"]["probe"]["kind"] for one in sent + received}
    assert kinds == {"zero-window"}
    assert len(sent) == witness.risen(before, after, "TcpExtTCPWinProbe") == len(received)


def test_keepalive_probes_are_told_from_zero_window_probes_and_counted(lab: Lab) -> None:
    with watching("--port", str(PORT), "--all") as trace:
        port = lab.connect()
        before = witness.counters(lab.client)
        lab.client.do(
            "s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1);"
            "s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)"
        )
        time.sleep(3.5)
        after = witness.counters(lab.client)
        trace.stop()
        sent = trace.of("probe-sent", port)
        received = trace.of("probe-received", port)
    assert {one["tcptrace"]["probe"]["kind"] for one in sent + received} == {"keepalive"}
    assert len(sent) == witness.risen(before, after, "TcpExtTCPKeepAlive") >= 3
    assert len(received) == len(sent)


def test_the_forecast_of_a_silent_peer_is_when_the_kernel_gives_up(lab: Lab) -> None:
    with watching("--port", str(PORT)) as trace:
        port = lab.connect()
        lab.there.drop(f"tcp dport {PORT}")
        lab.client.do(
            "s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1);"
            "s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)"
        )
        said = trace.wait(
            "verdict-changed", port, where=lambda one: one["tcptrace"]["verdict"]["forecast"]["by"] == "keepalive"
        )
        reset = trace.wait("reset-sent", port)
        closed = trace.wait("connection-closed", port)
    forecast = said["tcptrace"]["verdict"]["forecast"]
    assert (forecast["outcome"], forecast["basis"]) == ("reset", "kernel-timer")
    assert seconds(reset) - seconds(forecast["at"]) == pytest.approx(0, abs=0.3)
    assert reset["tcptrace"]["reset"] | {"unread_bytes": 0} == {
        "direction": "sent",
        "cause": "keepalive-timeout",
        "reason": "TCP_KEEPALIVE_TIMEOUT",
        "reason_source": "kernel",
        "unread_bytes": 0,
        "unsent_bytes": 0,
    }
    assert closed["tcptrace"]["verdict"]["phase"] == "reset"
    assert closed["process"]["pid"] == lab.client.pid


def test_a_close_with_unread_data_is_explained_on_both_ends(lab: Lab) -> None:
    with watching("--port", str(PORT)) as trace:
        port = lab.connect()
        lab.client.do("s.sendall(bytes(1000))")
        time.sleep(0.1)
        before = witness.counters(lab.server)
        lab.server.do("s.close()", thread="closer")
        sent = trace.wait("reset-sent", PORT)
        received = trace.wait("reset-received", port)
        trace.wait("connection-closed", port)
        after = witness.counters(lab.server)
    assert witness.risen(before, after, "TcpExtTCPAbortOnClose") == 1
    assert local_port(sent) == PORT and local_port(received) == port
    reset = sent["tcptrace"]["reset"]
    assert (reset["cause"], reset["reason"], reset["unread_bytes"]) == ("close-with-unread-data", "TCP_ABORT_ON_CLOSE", 1000)
    assert received["tcptrace"]["reset"]["cause"] == "close-with-unread-data"
    assert sent["process"]["pid"] == lab.server.pid
    assert received["process"]["pid"] == lab.client.pid


def test_a_rst_without_a_socket_and_one_by_linger(lab: Lab) -> None:
    with watching("--port", f"{PORT}-{PORT + 1}") as trace:
        lab.client.do(f"e = socket.socket(); answer = e.connect_ex(({lab.there.ip!r}, {PORT + 1}))")
        nobody = trace.wait("reset-sent", PORT + 1)
        lab.connect()
        lab.client.do("s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()")
        lingered = trace.wait("reset-sent", PORT)
    assert nobody["tcptrace"]["reset"]["cause"] == "no-socket"
    assert nobody["tcptrace"]["reset"]["reason"] == "NO_SOCKET"
    assert lingered["tcptrace"]["reset"]["cause"] == "linger-zero"
    assert lingered["process"]["pid"] == lab.client.pid


def test_retransmissions_are_counted_as_the_kernel_counts_them(lab: Lab) -> None:
    with watching("--port", str(PORT)) as trace:
        port = lab.connect()
        lab.there.drop(f"tcp dport {PORT}")
        before = witness.counters(lab.client)
        lab.client.do("s.sendall(b'anybody there?')")
        trace.wait("verdict-changed", port, where=lambda one: phase(one) == "unanswered")
        time.sleep(1)
        after = witness.counters(lab.client)
        trace.stop()
    # the first of the kernel's retransmissions is a tail loss probe (TcpExtTCPLossProbes): no timer ran out
    assert len(trace.of("retransmitted", port)) == witness.risen(before, after, "TcpExtTCPTimeouts") >= 2


def test_the_port_filter_is_decided_in_the_kernel_for_either_end(lab: Lab) -> None:
    with watching("--all", "--port", str(PORT), "--port", f"{PORT + 3}-{PORT + 4}") as trace:
        for number in range(6):
            lab.connect(PORT + number, f"s{number}")
        trace.wait("connection-seen", PORT + 4, where=lambda one: local_port(one) == PORT + 4)
        time.sleep(1.5)
        seen = {one["tcptrace"]["connection"]["local"]["port"] for one in trace.of("connection-seen")}
        remote = {one["tcptrace"]["connection"]["peer"]["port"] for one in trace.of("connection-seen")}
    wanted = {PORT, PORT + 3, PORT + 4}
    assert seen & set(range(PORT, PORT + 6)) == wanted == remote & set(range(PORT, PORT + 6))


@pytest.mark.parametrize("mapped", [False, True])
def test_ipv6_and_v4_mapped_addresses(lab: Lab, *, mapped: bool) -> None:
    there = lab.there.ip6
    if mapped:
        there = f"::ffff:{lab.there.ip}"
        lab.client.do("socket.socket(socket.AF_INET6).close()")
    port = lab.connect(ip=there)
    event = end_at(snapshot("--all", "--port", str(PORT)), port)
    assert event["network"]["type"] == ("ipv4" if mapped else "ipv6")
    assert event["tcptrace"]["connection"]["peer"] == {"ip": lab.there.ip if mapped else lab.there.ip6, "port": PORT}


def test_nothing_stays_attached(lab: Lab) -> None:
    def programs() -> set[int]:
        done = subprocess.run(["bpftool", "-j", "prog", "list"], capture_output=True, check=True)
        return {one["id"] for one in json.loads(done.stdout)}

    before = programs()
    with watching("--port", str(PORT)) as trace:
        assert len(programs()) > len(before)
        trace.stop()
    deadline = time.monotonic() + 5  # the kernel frees programs a moment after their last descriptor
    while programs() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert programs() - before == set()


def local_port(event: Event) -> Any:
    return event["tcptrace"].get("connection", {}).get("local", {}).get("port")


def phase(event: Event) -> Any:
    return event["tcptrace"]["verdict"]["phase"]


def slow_pid(event: Event) -> Any:
    return event["tcptrace"]["verdict"]["slow_reader"]["pid"]


def seconds(moment: Event | str) -> float:
    """An event's time, or an RFC 3339 time, as seconds since the epoch."""
    text = moment if isinstance(moment, str) else moment["@timestamp"]
    return dt.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
