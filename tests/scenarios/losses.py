"""Events are lost in a storm of connections: a verdict may come an interval late, and is never wrong."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Final

from tests.lab.actor import fill
from tests.lab.trace import Event
from tests.scenarios.scenario import INTERVAL_S, Lab, Slow, Truth, local_port, now, phase, traced
from tests.scenarios.steps import CONDITIONAL, every, never_blamed

LATE_S: Final = INTERVAL_S + 1.0
"""An interval, and what it takes without losses: 0.2 s for a stall, 1 s for data that waits."""

STORM: Final = """
l = socket.create_server(("127.0.0.1", {port}), backlog=200)
def burst():
    pairs = [(socket.create_connection(("127.0.0.1", {port})), l.accept()[0]) for _ in range(40)]
    for a, b in pairs: a.send(b"unread")
    for a, b in pairs: b.close()
    for a, b in pairs: a.close()
while True: burst(); time.sleep(0.2)
"""

_lossy = traced(program="tests.lab.tiny_ring")


@_lossy
def lossy_stall(lab: Lab) -> Truth:
    """A reader stops in the middle of the storm, and is found all the same."""
    here, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    client.do("s.send(b'hello')")
    server.do("s.recv(5)", "worker-1")
    storm = _storm(lab)
    since = now()
    fill(client)
    lab.stalled(port)
    return Truth(
        port,
        slow=Slow("peer", server.pid, None, there.ip, lab.port),
        forecast=CONDITIONAL,
        netns=here.namespace.inode,
        also=storm,
        check=every(_losses(lab), never_blamed(*storm), _told("stalled", since)),
    )


@_lossy
def lossy_stall_that_ends(lab: Lab) -> Truth:
    """He reads on in the storm: the stall is over for tcptrace too, an interval later at the latest."""
    here, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    fill(client)
    lab.stalled(port)
    storm = _storm(lab)
    since = now()
    server.begin("while s.recv(65536): pass", "reader")
    lab.wait(port, lambda one: _is_told(one, "ok"))
    time.sleep(INTERVAL_S)
    return Truth(
        port,
        also=storm | {server.pid},
        netns=here.namespace.inode,
        check=every(_losses(lab), never_blamed(*storm), _told("ok", since)),
    )


@_lossy
def lossy_pauses(lab: Lab) -> Truth:
    """He stops for two seconds and reads on, again and again; at the end he stops for good."""
    here, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    storm = _storm(lab)
    client.begin("while True: s.sendall(bytes(65536)); time.sleep(0.05)", "sender")
    server.do(
        "for _ in range(3):\n    time.sleep(2); end = time.monotonic() + 1\n    while time.monotonic() < end: s.recv(65536)"
    )
    since = now()
    client.do("time.sleep(3)")
    return Truth(
        port,
        slow=Slow("peer", server.pid),
        forecast=CONDITIONAL,
        netns=here.namespace.inode,
        also=storm,
        check=every(_losses(lab), never_blamed(*storm), _told("stalled", since)),
    )


@_lossy
def lossy_health(lab: Lab) -> Truth:
    """A connection that is well stays so, however many events are lost."""
    here, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    storm = _storm(lab)
    server.begin("while data := s.recv(100): s.sendall(data)", "echo")
    client.do("end = time.monotonic() + 4\nwhile time.monotonic() < end: s.sendall(bytes(100)); s.recv(100); time.sleep(0.002)")
    return Truth(port, netns=here.namespace.inode, also=storm, check=every(_losses(lab), never_blamed(*storm), _no_alarm))


@_lossy
def lossy_reset(lab: Lab) -> Truth:
    """Whether the RST is seen or not, its cause is the right one or none; and the connection is not shown for ever."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    fill(client)
    lab.stalled(lab.port)
    storm = _storm(lab)
    server.do("s.close()")
    time.sleep(3 * INTERVAL_S)  # a connection that two scans do not meet has ended

    def ended(events: list[Event]) -> str:
        closed = any(one["event"]["action"] == "connection-closed" for one in events)
        return "" if closed else "its end was never told"

    seen = [one for one in lab.trace.of(port=lab.port) if local_port(one) == lab.port and one["tcptrace"].get("reset")]
    cause = "close-with-unread-data" if seen else "none"
    return Truth(
        lab.port,
        cause,
        Slow("local", server.pid),
        CONDITIONAL,
        netns=there.namespace.inode,
        also=storm,
        check=every(_losses(lab), never_blamed(*storm), ended),
    )


def _storm(lab: Lab) -> frozenset[int]:
    """Bursts of connections that begin and are reset, until the scenario ends; losses have begun. Whom those may blame."""
    host = lab.alone()
    one = lab.actor(host, "storm")
    one.begin(STORM.format(port=lab.port + 5), "storm")
    end = now() + 5
    while _losses(lab)([]) and now() < end:
        time.sleep(0.05)
    return frozenset({one.pid})


def _losses(lab: Lab) -> Callable[[list[Event]], str]:
    """Events were lost, and that was told."""

    def check(_: list[Event]) -> str:
        lost = [one["tcptrace"]["lost"]["ring_buffer"] for one in lab.trace.of("events-lost")]
        return "" if lost and lost[-1] > 0 else "nothing was lost, so this proves nothing"

    return check


def _told(wanted: str, since: float) -> Callable[[list[Event]], str]:
    """The verdict came no later than an interval after it would have without losses."""

    def check(events: list[Event]) -> str:
        offset = time.time() - time.monotonic()
        for one in events:
            at = dt.datetime.fromisoformat(one["@timestamp"].replace("Z", "+00:00")).timestamp() - offset
            if at >= since and _is_told(one, wanted):
                return "" if at - since <= LATE_S else f"{wanted} came after {at - since:.1f} s"
        return f"{wanted} was never told"

    return check


def _no_alarm(events: list[Event]) -> str:
    alarms = [one["tcptrace"]["verdict"]["summary"] for one in events if one["event"]["action"] == "verdict-changed"]
    return f"alarm: {alarms[0]}" if alarms else ""


def _is_told(event: Event, wanted: str) -> bool:
    return event["event"]["action"] == "verdict-changed" and phase(event) == wanted
