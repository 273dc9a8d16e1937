"""Finished views for tests of tables and documents."""

from __future__ import annotations

from typing import Any

from tests.builders import SECOND, START
from tracer.model.findings import (
    ConnectionView,
    Endpoint,
    Forecast,
    Notice,
    Owner,
    Phase,
    Queues,
    ResetView,
    Screen,
    SlowReader,
    TimerView,
    Totals,
    Verdict,
)

NOW = START + 43 * SECOND


def verdict(**values: Any) -> Verdict:
    """The reader on this host has stalled for 43 s."""
    fields: dict[str, Any] = {
        "phase": Phase.STALLED,
        "since_ns": START,
        "stalled_s": 43.0,
        "summary": (
            "java[32278]/worker-1 has not read for 43 s; 362,708 bytes unread, window closed; worker-1 is idle in futex;"
            " if it closes now, the peer gets a RST"
        ),
        "evidence": ("our window closed for 43 s", "362,708 bytes unread", "worker-1 is idle in futex"),
        "slow_reader": SlowReader("local", "172.28.72.119", 63132, 32278, "java", 32301, "worker-1"),
        "forecast": Forecast("reset", "close-with-unread-data", None, "conditional"),
    }
    return Verdict(**(fields | values))


def view(**values: Any) -> ConnectionView:
    """The incident's connection, seen from the client's host."""
    fields: dict[str, Any] = {
        "id": "c1",
        "state": "ESTABLISHED",
        "netns": 4026531833,
        "network_type": "ipv4",
        "local": Endpoint("172.28.72.119", 63132),
        "peer": Endpoint("172.28.72.117", 8443),
        "opened_by": "local",
        "age_s": 1800.0,
        "queues": Queues(362_708, 0, 0, 65536, 367_616),
        "timer": TimerView("none", None, 0, 0, 0),
        "owner": Owner(
            "reader",
            32278,
            "java",
            "/usr/bin/java",
            "java -jar client.jar",
            None,
            32301,
            "worker-1",
            (32278,),
            43.0,
            "S",
            "futex_wait_queue",
            1,
            12345.4,
            0.0,
            0.0213,
        ),
        "peer_owner": None,
        "verdict": verdict(),
        "totals": Totals(1, 6, 43.0),
        "reset": None,
    }
    return ConnectionView(**(fields | values))


def proxied() -> ConnectionView:
    """The same, seen from nginx's host."""
    return view(
        id="c2",
        local=Endpoint("172.28.72.117", 8443),
        peer=Endpoint("172.28.72.119", 63132),
        opened_by="peer",
        queues=Queues(0, 108_528, 65536, 0, 131_072),
        timer=TimerView("persist", 0.16, 0, 6, 0),
        owner=Owner("fd", 13308, "nginx", holders=(13308,)),
        verdict=verdict(
            summary=(
                "172.28.72.119:63132 does not read: window closed for 43 s, 108,528 bytes unsent,"
                " zero-window probe 6 answered; no kernel deadline"
            ),
            evidence=("window of 172.28.72.119:63132 closed for 43 s", "108,528 bytes unsent", "zero-window probe 6 answered"),
            slow_reader=SlowReader("peer", "172.28.72.119", 63132),
            forecast=Forecast("none"),
        ),
    )


RESET = ResetView("sent", "close-with-unread-data", "TCP_ABORT_ON_CLOSE", "kernel", 362_708, 0)


def reset_notice(**values: Any) -> Notice:
    """The client closed."""
    fields: dict[str, Any] = {"action": "reset-sent", "ns": NOW - 3 * SECOND, "connection": view(reset=RESET), "reset": RESET}
    return Notice(**(fields | values))


def screen(*connections: ConnectionView, **values: Any) -> Screen:
    """A screen with these connections among 1,204 healthy ones."""
    count = {Phase.OK: 1204}
    for one in connections:
        count[one.verdict.phase] = count.get(one.verdict.phase, 0) + 1
    fields: dict[str, Any] = {
        "ns": NOW,
        "connections": connections,
        "by_phase": count,
        "resets": (),
        "events": 1234,
        "ring_buffer_lost": 0,
        "table_full": 0,
    }
    return Screen(**(fields | values))
