"""Documents of the event stream, whole, against EVENTS' contract."""

from __future__ import annotations

import io

import orjson
import pytest

from tests.builders import START
from tests.views import RESET, proxied, reset_notice, view
from tracer.export.community_id import community_id
from tracer.export.ecs import Documents
from tracer.export.ndjson import Writer
from tracer.model.findings import Endpoint, Notice

OFFSET = 1_795_000_000_000_000_000 - START


def documents() -> Documents:
    return Documents("web-1", OFFSET)


def test_a_window_that_closed() -> None:
    assert documents().notice(Notice("window-closed", START, view(), window_side="local")) == {
        "@timestamp": "2026-11-18T11:06:40.000000Z",
        "ecs": {"version": "9.0.0"},
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": ["connection", "info"],
            "action": "window-closed",
            "dataset": "tcptrace",
            "sequence": 1,
        },
        "host": {"name": "web-1"},
        "network": {
            "transport": "tcp",
            "type": "ipv4",
            "community_id": community_id("172.28.72.119", 63132, "172.28.72.117", 8443),
        },
        "source": {"ip": "172.28.72.119", "port": 63132},
        "destination": {"ip": "172.28.72.117", "port": 8443},
        "process": {
            "pid": 32278,
            "name": "java",
            "executable": "/usr/bin/java",
            "command_line": "java -jar client.jar",
            "thread": {"id": 32301, "name": "worker-1"},
        },
        "tcptrace": {
            "schema": 1,
            "connection": {
                "id": "c1",
                "state": "ESTABLISHED",
                "netns": 4026531833,
                "local": {"ip": "172.28.72.119", "port": 63132},
                "peer": {"ip": "172.28.72.117", "port": 8443},
                "opened_by": "local",
                "age_s": 1800.0,
            },
            "queues": {"recv_q": 362708, "send_q": 0, "rcv_wnd": 0, "snd_wnd": 65536, "rcvbuf": 367616},
            "timer": {"name": "none", "expires_s": None, "probes_out": 0, "backoff": 0, "retransmits": 0},
            "owner": {
                "match": "reader",
                "readers": 1,
                "last_read_s": 43.0,
                "read_rate": 12345,
                "arrival_rate": 0,
                "thread_state": "S",
                "wait_channel": "futex_wait_queue",
                "cpu_share": 0.021,
            },
            "verdict": {
                "phase": "stalled",
                "since": "2026-11-18T11:06:40.000000Z",
                "stalled_s": 43.0,
                "summary": view().verdict.summary,
                "evidence": list(view().verdict.evidence),
                "slow_reader": {
                    "side": "local",
                    "ip": "172.28.72.119",
                    "port": 63132,
                    "pid": 32278,
                    "name": "java",
                    "thread_id": 32301,
                    "thread_name": "worker-1",
                    "chain": [],
                },
                "forecast": {
                    "outcome": "reset",
                    "by": "close-with-unread-data",
                    "at": None,
                    "in_s": None,
                    "basis": "conditional",
                },
            },
            "window": {"side": "local"},
        },
    }


def test_the_source_is_the_side_that_opened_it() -> None:
    document = documents().notice(Notice("verdict-changed", START, proxied()))
    assert document["source"] == {"ip": "172.28.72.119", "port": 63132}
    assert document["event"]["kind"] == "alert"


def test_a_reset_and_an_end() -> None:
    stream = documents()
    assert stream.notice(reset_notice())["tcptrace"]["reset"] == {
        "direction": "sent",
        "cause": "close-with-unread-data",
        "reason": "TCP_ABORT_ON_CLOSE",
        "reason_source": "kernel",
        "unread_bytes": 362708,
        "unsent_bytes": 0,
    }
    closed = stream.notice(Notice("connection-closed", START, view()))
    assert closed["tcptrace"]["totals"] == {"closures": 1, "probes": 6, "longest_stall_s": 43.0}
    assert closed["event"]["type"] == ["connection", "end"]


def test_a_rst_without_a_socket_has_its_ends_and_no_process() -> None:
    ends = {"local": Endpoint("10.0.0.1", 81), "peer": Endpoint("10.0.0.2", 4000)}
    document = documents().notice(Notice("reset-sent", START, netns=7, reset=RESET, **ends))  # type: ignore[arg-type]
    assert document["tcptrace"]["connection"] == {
        "id": None,
        "netns": 7,
        "local": {"ip": "10.0.0.1", "port": 81},
        "peer": {"ip": "10.0.0.2", "port": 4000},
    }
    assert "process" not in document


def test_losses() -> None:
    lost = {"ring_buffer": {"window": 3, "read": 2}, "table_full": {"tracks": 1}}
    document = documents().notice(Notice("events-lost", START, lost=lost))
    by_kind = {"window": 3, "read": 2, "tracks": 1}
    assert document["tcptrace"]["lost"] == {"ring_buffer": 5, "table_full": 1, "by_kind": by_kind}


def test_the_sequence_has_no_gaps_from_the_first_line_to_the_last() -> None:
    stream = documents()
    lines = [stream.started(START, {"version": "x"}), stream.notice(reset_notice()), stream.ended(START, {"events": 1})]
    assert [line["event"]["sequence"] for line in lines] == [1, 2, 3]
    assert [line["event"]["action"] for line in lines] == ["stream-started", "reset-sent", "stream-ended"]


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        # from the specification's baseline
        (("128.232.110.120", 34855, "66.35.250.204", 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (("2001:470:e5bf:dead:4957:2174:e82c:4887", 63943, "2607:f8b0:400c:c03::1a", 25), "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="),
    ],
)
def test_community_ids_are_those_of_the_specification(ends: tuple[str, int, str, int], expected: str) -> None:
    assert community_id(*ends) == expected
    assert community_id(ends[2], ends[3], ends[0], ends[1]) == expected


def test_lines_are_flushed_one_by_one_and_come_back_equal() -> None:
    class Pipe(io.BytesIO):
        flushes = 0

        def flush(self) -> None:
            self.flushes += 1

    pipe = Pipe()
    writer = Writer(pipe)
    document = documents().notice(reset_notice())
    writer.write(document)
    writer.write(document)
    first, second = pipe.getvalue().splitlines()
    assert first == second and orjson.loads(first) == document and pipe.flushes == 2
