"""Syslog messages: their header, their length, and what a long one loses."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import orjson
import pytest

from tests.builders import START
from tests.export.sinks.lines import stream
from tests.lab import schema
from tests.views import view
from tracer.export.ecs import Documents
from tracer.export.sinks.syslog import MESSAGE_BYTES, Datagrams, counted, local_message, message
from tracer.model.findings import Notice, Owner

HEADER = re.compile(
    r"<(?P<priority>\d+)>1 (?P<time>\S+) (?P<host>\S+) tcptrace (?P<pid>\d+) (?P<id>\S+) - @cee: (?P<json>\{.*\})", re.DOTALL
)


def long_line(command_line: str, **values: object) -> bytes:
    owner = Owner("reader", 1, "java", "/usr/bin/java", command_line, holders=(1,))
    return orjson.dumps(Documents("web-1", 0).notice(Notice("verdict-changed", START, view(owner=owner, **values)))) + b"\n"


def test_a_message_is_rfc_5424s() -> None:
    (line,) = stream(1)
    found = HEADER.fullmatch(message(line).decode())
    assert found is not None
    assert int(found["priority"]) == 3 << 3 | 4  # daemon.warning: an alert
    assert (found["time"], found["host"], found["pid"]) == ("2026-11-18T11:23:20.000000Z", "web-1", str(os.getpid()))
    assert found["id"] == "verdict-changed"
    assert found["json"].encode() + b"\n" == line


def test_what_dev_log_gets_is_as_syslog_3_writes_it() -> None:
    (line,) = stream(1)
    assert local_message(line) == b"<28>tcptrace[%d]: @cee: %b" % (os.getpid(), line.rstrip())


def test_a_hosts_name_cannot_break_the_header() -> None:
    line = orjson.dumps(Documents("we b<1>\u202e\n" + "x" * 300, 0).ended(0, {}))
    found = HEADER.fullmatch(message(line).decode())
    assert found is not None and found["host"].startswith("we_b<1>__xxx") and len(found["host"]) == 255


def test_over_a_stream_its_length_comes_first() -> None:
    (line,) = stream(1)
    length, _, rest = counted(line).partition(b" ")
    assert int(length) == len(rest) and rest == message(line)


@pytest.mark.parametrize("form", [message, local_message])
def test_a_long_line_is_made_to_fit_and_says_what_it_lost(form: object) -> None:
    line = long_line("java " + "é" * 4000)
    made = form(line)  # type: ignore[operator]
    assert len(line) > MESSAGE_BYTES >= len(made)
    document = orjson.loads(made[made.index(b"{") :])
    assert document["tcptrace"]["shortened"] == ["process.command_line"]
    schema.check(document)
    whole = orjson.loads(line)
    del whole["process"]["command_line"], document["tcptrace"]["shortened"]
    assert document == whole


def test_a_line_that_is_long_all_over_loses_more() -> None:
    from tests.views import verdict

    said = verdict(evidence=("fact " * 1000,) * 3, summary="words " * 2000)
    made = message(long_line("java " * 800, verdict=said))
    document = orjson.loads(made[made.index(b"{") :])
    assert len(made) <= MESSAGE_BYTES
    assert document["tcptrace"]["shortened"] == [
        "process.command_line",
        "process.executable",
        "tcptrace.verdict.evidence",
        "tcptrace.verdict.summary",
    ]
    schema.check(document)


def test_a_datagram_a_line_and_a_full_receiver_is_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "log"))
        receiver.setblocking(False)
        target = Datagrams("syslog", str(tmp_path / "log"))
        target.open()
        lines = stream(500)
        sent = 0
        while (taken := target.write(lines[sent:])) > 0:
            sent += taken
        assert 0 < sent < 500  # net.unix.max_dgram_qlen
        for number in range(sent):
            assert receiver.recv(65536) == message(lines[number])
        assert target.write(lines[sent:]) == 1
        target.close()


def test_a_receiver_that_is_gone_is_a_failure(tmp_path: Path) -> None:
    target = Datagrams("syslog", str(tmp_path / "log"))
    with pytest.raises(FileNotFoundError):
        target.open()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "log"))
        target.open()
    with pytest.raises(ConnectionRefusedError):
        target.write(stream(1))
