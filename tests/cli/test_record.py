"""tcptrace record on the real kernel: its files and sockets, its signals, and its end by force."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_errors import BUFFERED, mended, run
from tests.export.sinks.lines import until
from tests.lab import hosts, schema
from tests.lab.actor import Actor, actor, connect
from tests.lab.trace import ROOT, lines, tcptrace
from tracer.errors import MISSING_PRECONDITION, USAGE

PORT = 7843
ENDED = "stream-ended"


@contextmanager
def recording(*outputs: str, arguments: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """The command at work; killed at the end if it is still there. The first output is a file, waited for."""
    named = [part for output in outputs for part in ("--output", output)]
    child = subprocess.Popen(
        tcptrace("record", "--all", "--port", str(PORT), "--interval", "0.2", *named, *arguments),
        cwd=ROOT,
        env=BUFFERED,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: Path(outputs[0]).exists() and Path(outputs[0]).stat().st_size, 15)
        yield child
    finally:
        child.kill()
        child.communicate()


def ended(child: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[float, str]:
    """Ends it; how long that took, and what it said."""
    began = time.monotonic()
    child.send_signal(number)
    _, said = child.communicate(timeout=20)
    assert child.returncode == 0
    return time.monotonic() - began, said


@pytest.fixture
def traffic() -> Iterator[tuple[Actor, Actor]]:
    """A program that talks to another."""
    with hosts.alone() as host, actor(host, "lab-client") as client, actor(host, "lab-server") as server:
        yield client, server


def action(event: dict[str, Any]) -> str:
    return str(event["event"]["action"])


@pytest.mark.parametrize(
    ("arguments", "code", "cause"),
    [
        ("record", USAGE, "Missing option '--output'"),
        ("record --output= --port 443", USAGE, "an output without a name"),
        ("record --output /", USAGE, "/ is a directory"),
        ("record --output tcp:localhost", USAGE, "'tcp:localhost' is no host with a port from 1 to 65535"),
        ("record --output udp:localhost:514", USAGE, "'udp:localhost:514' is no output that tcptrace knows"),
        ("record --output - --output -", USAGE, "the output - is named twice"),
        ("record --output - --rotate-size 10X", USAGE, "'10X' is no size such as 100M"),
        ("record --output - --rotate-size 1K", USAGE, "1K is less than 4096"),
        ("record --output - --rotate-age 1w", USAGE, "'1w' is no time such as 24h"),
        ("record --output - --keep -1", USAGE, "-1 is not in the range 0<=x<=1000"),
        ("record --output - --interval 0", USAGE, "0.0 is not in the range 0.1<=x<=60"),
        ("record --output /nonexistent/events", MISSING_PRECONDITION, "/nonexistent/events cannot be written: No such file"),
        ("record --output /dev/null", MISSING_PRECONDITION, "/dev/null cannot be written: it is no regular file"),
    ],
)
def test_a_mistake_is_told_before_anything_is_attached(arguments: str, code: int, cause: str) -> None:
    said, remedy = mended(run(*arguments.split()), code)
    assert cause in said and remedy


@pytest.mark.kernel
def test_every_output_gets_the_same_stream_as_published(tmp_path: Path, traffic: tuple[Actor, Actor]) -> None:
    file, sock = tmp_path / "events", tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener, recording(str(file), "-", f"unix:{sock}") as child:
        time.sleep(0.5)  # nobody listens there yet
        listener.bind(str(sock))
        listener.listen()
        listener.settimeout(40)
        receiver, _ = listener.accept()
        connect(*traffic, "127.0.0.1", PORT)
        until(lambda: file.read_bytes().count(b"connection-seen") == 2)
        child.send_signal(signal.SIGTERM)
        out, said = child.communicate(timeout=20)
        got = receiver.makefile("rb").read()
    assert child.returncode == 0
    assert file.read_text() == out == got.decode()
    assert [action(one) for one in lines(out)] == ["stream-started", "connection-seen", "connection-seen", ENDED]
    assert said.startswith(f"tcptrace: unix:{sock}: No such file or directory; it is tried again") and said.count("\n") <= 2
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.kernel
def test_sigterm_writes_what_waits_within_two_seconds_whatever_others_do(tmp_path: Path, traffic: tuple[Actor, Actor]) -> None:
    file = tmp_path / "events"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"tcp:127.0.0.1:{listener.getsockname()[1]}"  # which accepts and never reads
        with recording(str(file), where, "tcp:127.0.0.1:1", f"syslog:unix:{tmp_path}/none") as child:
            connect(*traffic, "127.0.0.1", PORT)
            took, said = ended(child)
    assert took < 2.5  # the last half a second is the kernel's: programs are detached
    assert action(lines(file.read_bytes())[-1]) == ENDED
    assert "tcp:127.0.0.1:1: Connection refused; it is tried again" in said
    assert "tcp:127.0.0.1:1: 4 lines were not taken in time and are lost" in said or "connection-seen" not in file.read_text()


@pytest.mark.kernel
def test_sighup_opens_the_file_anew_and_no_line_is_lost(tmp_path: Path, traffic: tuple[Actor, Actor]) -> None:
    file, old = tmp_path / "events", tmp_path / "events.old"
    with recording(str(file)) as child:
        connect(*traffic, "127.0.0.1", PORT)
        until(lambda: file.read_bytes().count(b"connection-seen") == 2)
        file.rename(old)
        child.send_signal(signal.SIGHUP)
        until(file.exists)
        connect(*traffic, "127.0.0.1", PORT, name="another")
        until(lambda: file.read_bytes().count(b"connection-seen") == 2)
        _, said = ended(child)
    assert said == ""
    assert len(lines(old.read_bytes() + file.read_bytes())) >= 6
    assert action(json.loads(file.read_bytes().splitlines()[-1])) == ENDED


@pytest.mark.kernel
def test_it_rotates_and_stays_within_its_bounds(tmp_path: Path, traffic: tuple[Actor, Actor]) -> None:
    file = tmp_path / "events"
    with recording(str(file), arguments=("--rotate-size", "8K", "--keep", "2")) as child:
        for number in range(12):
            connect(*traffic, "127.0.0.1", PORT, name=f"c{number}")
        until((tmp_path / "events.2").exists)
        ended(child)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["events", "events.1", "events.2"]
    data = [(tmp_path / name).read_bytes() for name in ("events.2", "events.1", "events")]
    assert all(len(one) <= 8192 for one in data)
    numbers = [json.loads(line)["event"]["sequence"] for line in b"".join(data).splitlines()]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("size", [30_000, 100_000, 300_000])
def test_killed_it_leaves_whole_lines_but_for_at_most_one(tmp_path: Path, traffic: tuple[Actor, Actor], size: int) -> None:
    client, server = traffic
    file = tmp_path / "events"
    server.do(f"l = socket.create_server(('127.0.0.1', {PORT}), backlog=100)")
    with recording(str(file)) as child:
        accepting = server.begin("for _ in range(400): l.accept()[0].close()", thread="accept")
        storm = client.begin(
            f"for _ in range(400): e = socket.create_connection(('127.0.0.1', {PORT})); time.sleep(0.001);"
            "e.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); e.close()",
            thread="storm",
        )
        until(lambda: file.stat().st_size > size, 20)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        client.finish(storm)
        server.finish(accepting)
    *whole, _rest = file.read_bytes().split(b"\n")
    for number, line in enumerate(whole, 1):
        document = json.loads(line)
        schema.check(document)
        assert document["event"]["sequence"] == number
    assert len(whole) > 10


@pytest.mark.kernel
def test_a_reader_of_its_pipe_that_leaves_ends_it_quietly(traffic: tuple[Actor, Actor]) -> None:
    with subprocess.Popen(
        tcptrace("record", "--output", "-", "--all", "--port", str(PORT)),
        cwd=ROOT,
        env=BUFFERED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        (first,) = lines(child.stdout.readline())
        child.stdout.close()
        connect(*traffic, "127.0.0.1", PORT)
        assert child.wait(15) == 0
        assert (action(first), child.stderr.read()) == ("stream-started", b"")


@pytest.mark.kernel
def test_a_full_disk_is_told_once_and_the_stream_goes_on_afterwards(tmp_path: Path, traffic: tuple[Actor, Actor]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        file, ballast = disk / "events", disk / "ballast"
        with recording(str(file)) as child:
            with ballast.open("wb", buffering=0) as full, contextlib.suppress(OSError):
                while full.write(bytes(4096)):
                    pass
            for number in range(8):  # beyond what is left of the file's last page
                connect(*traffic, "127.0.0.1", PORT, name=f"c{number}")
            time.sleep(1)
            assert file.stat().st_size <= 4096
            ballast.unlink()
            until(lambda: file.read_bytes().count(b"connection-seen") == 16)
            time.sleep(1.5)
            connect(*traffic, "127.0.0.1", PORT, name="last")
            until(lambda: file.read_bytes().count(b"connection-seen") == 18)
            _, said = ended(child)
        assert action(lines(file.read_bytes())[-1]) == ENDED
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    told, mended_again = said.splitlines()
    assert told.startswith(f"tcptrace: {file}: No space left on device; it is tried again")
    assert f"{file}: works again after " in mended_again and mended_again.endswith("; 0 lines were lost")


@pytest.mark.kernel
def test_a_reader_that_leaves_is_nothing_to_a_file(tmp_path: Path, traffic: tuple[Actor, Actor]) -> None:
    for outputs in ((str(tmp_path / "one"),), (str(tmp_path / "other"), "-")):
        file = Path(outputs[0])
        with recording(*outputs) as child:
            assert child.stdout is not None
            child.stdout.close()
            time.sleep(0.5)
            connect(*traffic, "127.0.0.1", PORT, name=file.name)
            until(lambda file=file: b"connection-seen" in file.read_bytes())  # type: ignore[misc]
            child.terminate()
            assert child.wait(10) == 0
        assert action(lines(file.read_bytes())[-1]) == ENDED
