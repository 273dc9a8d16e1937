"""What may stand after --output, and what is said of what may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tracer.errors import MISSING_PRECONDITION, USAGE, TcptraceError
from tracer.export.sinks.address import target
from tracer.export.sinks.file import File, Rotation
from tracer.export.sinks.pipe import Stdout
from tracer.export.sinks.stream import Stream
from tracer.export.sinks.syslog import Datagrams

ANY = Rotation()


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("-", Stdout),
        ("unix:/run/collector.sock", Stream),
        ("unix:relative", Stream),
        ("tcp:localhost:5170", Stream),
        ("tcp:10.0.0.1:1", Stream),
        ("tcp:[2001:db8::1]:65535", Stream),
        ("syslog", Datagrams),
        ("syslog:unix:/run/syslog", Datagrams),
        ("syslog:tcp:logs.example.com:601", Stream),
    ],
)
def test_an_output_is_known_by_its_form(address: str, kind: type) -> None:
    made = target(address, ANY)
    assert isinstance(made, kind) and made.name == address


@pytest.mark.parametrize("name", ["events.ndjson", "./tcp:x", "-x", "a b", "é\u202e"])
def test_anything_else_is_a_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = target(name, ANY)
    assert isinstance(made, File) and os.listdir() == [name.removeprefix("./")]


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("", "an output without a name"),
        ("a\0b", "an output without a name"),
        ("unix:", "'unix:' names no socket"),
        ("unix:/" + "x" * 107, "the path of a unix socket has at most 107 bytes"),
        ("unix", "'unix' names no socket"),
        ("tcp", "'tcp' is no host with a port"),
        ("tcp:", "'tcp:' is no host with a port from 1 to 65535"),
        ("tcp:localhost", "is no host with a port"),
        ("tcp::514", "is no host with a port"),
        ("tcp:localhost:", "is no host with a port"),
        ("tcp:localhost:0", "is no host with a port"),
        ("tcp:localhost:65536", "is no host with a port"),
        ("tcp:localhost:٥", "is no host with a port"),
        ("tcp:localhost:http", "is no host with a port"),
        ("tcp:2001:db8::1:514", "is no host with a port"),
        ("tcp:[localhost]:514", "is no host with a port"),
        ("syslog:", "'syslog:' is no address of a syslog"),
        ("syslog:/dev/log", "'syslog:/dev/log' is no address of a syslog"),
        ("syslog:tcp:x", "is no host with a port"),
        ("udp:localhost:514", "'udp:localhost:514' is no output that tcptrace knows"),
        ("http://localhost/", "'http://localhost/' is no output that tcptrace knows"),
        ("/", "/ is a directory"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(address: str, cause: str) -> None:
    with pytest.raises(TcptraceError) as raised:
        target(address, ANY)
    assert cause in raised.value.cause and raised.value.exit_code == USAGE
    assert raised.value.remedy


@pytest.mark.parametrize(("name", "why"), [("missing/events", "No such file or directory"), ("link", "it is a symbolic link")])
def test_a_file_that_cannot_be_written_is_told_at_once(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "link").symlink_to("/nowhere")
    with pytest.raises(TcptraceError) as raised:
        target(str(tmp_path / name), ANY)
    assert why in raised.value.cause and raised.value.exit_code == MISSING_PRECONDITION
