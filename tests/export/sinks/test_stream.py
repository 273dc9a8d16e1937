"""Stream sockets against real receivers: one that reads, one that is slow, one that goes and comes back."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.export.sinks.lines import sequences, stream, until
from tracer.export.sinks import sink as module
from tracer.export.sinks import stream as streams
from tracer.export.sinks.sink import Sink
from tracer.export.sinks.stream import Stream, tcp, unix
from tracer.export.sinks.target import Target


class Receiver:
    """Listens; `accept` and `read` as a test wants it."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        listener.settimeout(5)

    def accept(self) -> socket.socket:
        one, _ = self.listener.accept()
        one.settimeout(5)
        return one


def until_closed(one: socket.socket) -> bytes:
    """All that comes."""
    data = b""
    while some := one.recv(65536):
        data += some
    one.close()
    return data


def some_lines(one: socket.socket, number: int) -> bytes:
    """So many lines, and no more."""
    data = b""
    while data.count(b"\n") < number:
        data += one.recv(1)
    return data


def reset(one: socket.socket) -> None:
    """Closes with a RST, which what is unread makes anyway."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


@pytest.fixture(params=["unix", "tcp", "tcp6"])
def pair(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Receiver, Target]]:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(streams, "PROGRESS_S", 0.05)
    if request.param == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        target = Stream("unix", unix(str(tmp_path / "socket")))
    else:
        family, host = (socket.AF_INET, "127.0.0.1") if request.param == "tcp" else (socket.AF_INET6, "::1")
        listener = socket.create_server((host, 0), family=family)
        target = Stream("tcp", tcp(host, listener.getsockname()[1]))
    with listener:
        yield Receiver(listener), target


def test_a_receiver_gets_every_line(pair: tuple[Receiver, Target]) -> None:
    receiver, target = pair
    lines, said = stream(300), list[str]()
    sink = Sink(target, 1 << 22, said.append)
    sink.start()
    sink.put(lines)
    one = receiver.accept()
    sink.hurry()
    assert until_closed(one) == b"".join(lines)
    sink.close(2)
    assert (said, sink.lost, sink.written) == ([], 0, 300)


def test_a_receiver_that_comes_late_and_goes_and_comes_back(pair: tuple[Receiver, Target]) -> None:
    receiver, target = pair
    lines, said = stream(6), list[str]()
    sink = Sink(target, 1 << 22, said.append)
    sink.start()
    sink.put(lines[:3])
    first = receiver.accept()
    assert sequences(some_lines(first, 3)) == [1, 2, 3]
    first.close()
    time.sleep(0.05)
    sink.put(lines[3:])
    second = receiver.accept()
    sink.hurry()
    assert sequences(until_closed(second)) == [4, 5, 6]
    sink.close(2)
    assert len(said) == 1 and "has closed the connection" in said[0]
    assert sink.lost == 0


def test_a_receiver_that_does_not_read_holds_up_nothing(pair: tuple[Receiver, Target]) -> None:
    receiver, target = pair
    lines, said = stream(20_000), list[str]()
    sink = Sink(target, 1 << 20, said.append)
    sink.start()
    sink.put(lines[:1])
    one = receiver.accept()
    began = time.monotonic()
    for at in range(1, 20_000, 100):
        sink.put(lines[at : at + 100])
    assert time.monotonic() - began < 5
    assert sink.lost and sink.behind and said == []  # slow is not dead
    sink.hurry()
    got = sequences(until_closed(one))
    sink.close(2)
    # what it got is whole and in order, and what it did not get was counted
    assert got == sorted(set(got)) and len(got) + sink.lost == 20_000


def test_lines_on_their_way_when_a_receiver_dies_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The receiver's kernel has taken the first lines; the rest waits in ours when the RST comes."""
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        receiver = Receiver(listener)
        lines, said = stream(2_000), list[str]()
        sink = Sink(Stream("tcp", tcp("127.0.0.1", listener.getsockname()[1])), 1 << 24, said.append)
        sink.start()
        sink.put(lines)
        first = receiver.accept()
        until(lambda: sink.written > 100)
        time.sleep(0.1)
        taken = sink.written
        reset(first)
        second = receiver.accept()
        sink.hurry()
        got = sequences(until_closed(second))
        sink.close(2)
    assert got == list(range(got[0], 2_001))
    # only what the dead one's kernel had acknowledged is missing: far less than was on its way
    assert got[0] - 1 < 60 < taken
    assert (sink.lost, sink.written) == (0, 2_000)
    assert len(said) == 1


def test_a_line_that_was_cut_begins_anew_in_the_next_connection() -> None:
    (line,) = stream(1, reset=None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver = Receiver(listener)
        target = Stream("tcp", tcp("127.0.0.1", listener.getsockname()[1]))
        target.open()
        first = receiver.accept()
        target._offset = 100  # as if a send had taken so much
        target._sent = 100
        reset(first)
        time.sleep(0.05)
        with pytest.raises(ConnectionResetError):
            target.write([line])
        again = target.close()
        target.open()
        assert again == [] and target.write([line]) == 1
        target.close()
        assert until_closed(receiver.accept()) == line


@pytest.mark.parametrize(
    ("connect", "said"),
    [
        (unix("/nonexistent/socket"), "No such file or directory"),
        (tcp("host.invalid", 1), "host.invalid is not known"),
        (tcp("127.0.0.1", 1), "Connection refused"),
    ],
)
def test_why_it_cannot_connect_is_told(connect: object, said: str) -> None:
    target = Stream("any", connect)  # type: ignore[arg-type]
    with pytest.raises(OSError, match=said):
        target.open()
    assert target.close() == []
