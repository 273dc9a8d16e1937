"""Log records as a receiver made of the official protobufs gets them: every field; and what becomes of them without one."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs.export import LogRecordExporter

from tests.builders import START
from tests.lab.receiver import Receiver, receiving
from tests.views import NOW, RESET, proxied, reset_notice, screen, verdict, view
from tracer import __version__
from tracer.errors import TcptraceError
from tracer.export import otlp
from tracer.export.ecs import Documents
from tracer.export.otlp import Otlp, attributes, known, severity, without_secrets
from tracer.model.findings import Endpoint, Notice, Owner, Phase

OFFSET = 1_795_000_000_000_000_000 - START
VERDICT = Notice("verdict-changed", START, proxied())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


def sender(url: str, said: list[str] | None = None) -> Otlp:
    return Otlp(f"{url}/v1/logs", "web-1", OFFSET, (said if said is not None else []).append)


def test_a_stream_arrives_whole_and_in_order_with_every_field(receiver: Receiver) -> None:
    said: list[str] = []
    output = sender(receiver.url, said)
    output.start(START, {"version": __version__, "missing": {}})
    output.draw(screen(view()))
    output.take([VERDICT, reset_notice()])
    output.end(NOW, {"events": 2})
    assert said == [] and output.lost() == 0
    names = [f"tcptrace.{action}" for action in ("stream-started", "verdict-changed", "reset-sent", "stream-ended")]
    assert [log.event_name for log in receiver.logs] == names
    assert set(receiver.requests) == {("/v1/logs", "application/x-protobuf")}
    _, changed, reset, _ = receiver.logs
    same = Documents("web-1", OFFSET)
    same.started(START, {})
    assert changed.body == known(same.notice(VERDICT))
    assert reset.body == known(same.notice(reset_notice()))
    assert (changed.time_ns, reset.time_ns) == (START + OFFSET, reset_notice().ns + OFFSET)
    assert abs(time.time_ns() - reset.observed_ns) < 60e9
    assert changed.severity == reset.severity == (13, "WARN")
    assert receiver.logs[0].severity == (9, "INFO")
    assert changed.scope == ("tcptrace", __version__)
    assert reset.attributes == {
        "network.transport": "tcp",
        "network.type": "ipv4",
        "network.local.address": "172.28.72.119",
        "network.local.port": 63132,
        "network.peer.address": "172.28.72.117",
        "network.peer.port": 8443,
        "process.pid": 32278,
        "process.executable.name": "java",
        "process.executable.path": "/usr/bin/java",
        "process.command_line": "java -jar client.jar",
        "thread.id": 32301,
        "thread.name": "worker-1",
        "error.type": "close-with-unread-data",
    }
    own = {name: found for name, found in reset.resource.items() if not name.startswith("telemetry.")}
    assert own.pop("os.version") and own.pop("service.instance.id")
    assert own == {"service.name": "tcptrace", "service.version": __version__, "host.name": "web-1", "os.type": "linux"}


def test_the_names_are_those_of_the_registry() -> None:
    """None is misspelt, and none is one that the conventions have given up."""
    from opentelemetry.semconv._incubating.attributes import (
        container_attributes,
        error_attributes,
        host_attributes,
        network_attributes,
        os_attributes,
        process_attributes,
        service_attributes,
        thread_attributes,
    )

    modules = (
        container_attributes,
        error_attributes,
        host_attributes,
        network_attributes,
        os_attributes,
        process_attributes,
        service_attributes,
        thread_attributes,
    )
    registry = {name for module in modules for name in vars(module).values() if isinstance(name, str)}
    owner = Owner("reader", 1, "a", "/bin/a", "a b", "c0ffee", 2, "t")
    used = attributes(reset_notice(connection=view(owner=owner, reset=RESET)))
    assert len(used) == 14
    assert used.keys() <= registry


def test_what_is_unknown_is_absent() -> None:
    nobody = view(owner=Owner(), reset=None)
    assert not [name for name in attributes(Notice("connection-seen", START, nobody)) if not name.startswith("network.")]
    assert attributes(Notice("events-lost", START)) == {}
    half = attributes(Notice("connection-seen", START, view(owner=Owner("reader", 7, "java"))))
    assert half["process.pid"] == 7 and "process.executable.name" not in half
    assert known({"a": None, "b": [{"c": None, "d": 0}], "e": {}, "f": False}) == {"b": [{"d": 0}], "e": {}, "f": False}


def test_a_rst_without_a_socket_has_its_ends() -> None:
    ends: dict[str, Any] = {"local": Endpoint("2001:db8::1", 81), "peer": Endpoint("2001:db8::2", 4000)}
    found = attributes(Notice("reset-sent", START, netns=7, reset=RESET, **ends))
    assert found["network.type"] == "ipv6" and found["network.peer.address"] == "2001:db8::2"
    assert found["error.type"] == "close-with-unread-data" and "process.pid" not in found


@pytest.mark.parametrize(
    ("notice", "expected"),
    [
        (VERDICT, SeverityNumber.WARN),
        (Notice("verdict-changed", START, view(verdict=verdict(phase=Phase.OK))), SeverityNumber.INFO),
        (reset_notice(), SeverityNumber.WARN),
        (Notice("connection-closed", START, view(reset=RESET), reset=RESET), SeverityNumber.WARN),
        (Notice("connection-closed", START, view()), SeverityNumber.INFO),
        (Notice("events-lost", START, lost={"ring_buffer": {"read": 1}}), SeverityNumber.WARN),
        (Notice("window-closed", START, view(), window_side="local"), SeverityNumber.INFO),
        (Notice("connection-seen", START, view()), SeverityNumber.INFO),
    ],
)
def test_the_severity_says_whether_to_look(notice: Notice, expected: SeverityNumber) -> None:
    assert severity(notice)[0] is expected


def test_hostile_names_arrive_as_they_are_shown(receiver: Receiver) -> None:
    named = view(owner=Owner("fd", 7, "a\\x1b[2J", "/tmp/x\\u202ey", "c" * 4096))
    output = sender(receiver.url)
    output.take([Notice("connection-seen", START, named)])
    output.end(NOW, {})
    assert receiver.logs[0].attributes["process.executable.name"] == "x\\u202ey"
    assert receiver.logs[0].attributes["process.command_line"] == "c" * 4096


def test_nobody_there_stalls_nothing_and_is_told_with_the_reason() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://me:secret@127.0.0.1:{closed.getsockname()[1]}"
        said: list[str] = []
        output = sender(url, said)
        output.take([VERDICT])
        until(lambda: bool(said), 15)  # some releases try for seconds before they tell of the first failure
        taken, ended = timed(output)
    assert taken < 0.2 and ended < otlp.GOODBYE_S + 0.5
    assert len(said) <= 2 and "secret" not in "".join(said)
    assert said[-1].startswith("22 of 22 log records did not arrive at http://127.0.0.1:")
    assert "refused" in said[0]


def test_a_receiver_that_never_answers_stalls_neither_reading_nor_the_end(receiver: Receiver) -> None:
    receiver.hold.set()
    said: list[str] = []
    taken, ended = timed(sender(receiver.url, said))
    assert taken < 0.2 and ended < otlp.GOODBYE_S + 0.5
    assert [text.partition(" at ")[0] for text in said] == ["21 of 21 log records did not arrive"]


def timed(output: Otlp) -> tuple[float, float]:
    """Seconds that twenty records took to take, and the end to end."""
    start = time.monotonic()
    output.take([VERDICT] * 20)
    taken = time.monotonic()
    output.end(NOW, {})
    return taken - start, time.monotonic() - taken


def test_what_a_receiver_refuses_is_counted_and_told_once(receiver: Receiver) -> None:
    receiver.status = 400
    said: list[str] = []
    output = sender(receiver.url, said)
    for _ in range(2):
        before = output.lost()
        output.take([VERDICT])
        until(lambda before=before: output.lost() > before)
    receiver.status = 200
    output.end(NOW, {})
    assert output.lost() == 2
    first, last = said
    assert first.startswith(f"{receiver.url}/v1/logs does not take log records: ") and "400" in first
    assert last == f"2 of 3 log records did not arrive at {receiver.url}/v1/logs"
    assert [log.body["event"]["sequence"] for log in receiver.logs] == [3]


def until(true: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_queue_is_bounded_and_what_it_has_no_room_for_is_counted_exactly(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "QUEUE", 600)
    said: list[str] = []
    output = sender(receiver.url, said)
    receiver.hold.set()
    output.take([VERDICT] * 512)
    until(lambda: output._exporter.handed == 512)
    output.take([VERDICT] * 1000)
    assert output.lost() == 400
    receiver.hold.clear()
    until(lambda: output._exporter.sent == 1112)
    output.take([VERDICT])
    output.end(NOW, {})
    assert said == [f"400 of 1,514 log records did not arrive at {receiver.url}/v1/logs"]
    assert len(receiver.logs) == 1114
    numbers = [log.body["event"]["sequence"] for log in receiver.logs]
    assert numbers == [*range(1, 1113), 1513, 1514]


def test_a_receiver_that_comes_back_gets_what_waited(receiver: Receiver) -> None:
    receiver.status = 503
    output = sender(receiver.url)
    output.take([VERDICT])
    until(lambda: bool(receiver.requests))
    receiver.status = 200
    assert receiver.wait("tcptrace.verdict-changed").body["event"]["sequence"] == 1
    output.end(NOW, {})
    assert output.lost() == 0


def test_the_library_writes_nothing_to_the_terminal(receiver: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    receiver.status = 400
    output = sender(receiver.url)
    output.take([VERDICT])
    output.end(NOW, {})
    assert capfd.readouterr() == ("", "")


def test_no_thread_keeps_the_process(receiver: Receiver) -> None:
    output = sender(receiver.url)
    output.take([VERDICT])
    output.end(NOW, {})
    assert not [one for one in threading.enumerate() if "Otel" in one.name or one.name == "otlp-goodbye"]


def test_a_setting_that_the_exporter_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "nobody")
    with pytest.raises(TcptraceError) as raised:
        sender("http://127.0.0.1:4318")
    assert "nobody" in raised.value.cause and "OTEL_EXPORTER_OTLP_" in raised.value.remedy


def test_what_the_exporter_says_as_it_is_made_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(endpoint: str) -> OTLPLogExporter:
        logging.getLogger("opentelemetry.exporter").warning("%r is no timeout\x1b[2J", "soon")
        return OTLPLogExporter(endpoint)

    monkeypatch.setattr(otlp, "_exporter", made)
    said: list[str] = []
    sender("http://127.0.0.1:4318", said)
    assert said == ["the OTLP exporter says: 'soon' is no timeout\\x1b[2J"]


def test_an_exporter_that_raises_is_one_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(LogRecordExporter):
        def export(self, batch: Any) -> Any:
            raise ConnectionError("reset\x1b[2J")

        def shutdown(self) -> None: ...

        def force_flush(self, timeout_millis: int = 0) -> bool:
            return True

    monkeypatch.setattr(otlp, "_exporter", lambda _: Broken())
    said: list[str] = []
    output = sender("http://h", said)
    output.take([VERDICT])
    output.end(NOW, {})
    assert output.lost() == 2
    assert said[0] == "http://h/v1/logs does not take log records: reset\\x1b[2J; what it misses is counted"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:4318/v1/logs", "http://h:4318/v1/logs"),
        ("https://u:p@h/v1/logs?token=x", "https://h/v1/logs"),
        ("http://u:p@[::1]:4318/a@b", "http://[::1]:4318/a@b"),
    ],
)
def test_secrets_are_not_shown(url: str, shown: str) -> None:
    assert without_secrets(url) == shown
