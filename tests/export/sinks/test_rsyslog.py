"""A real rsyslog behind each form of syslog: what mmjsonparse makes of our messages is what the file sink has."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.cli.test_record import recording
from tests.export.sinks.lines import stream, until
from tests.lab import hosts
from tests.lab.actor import actor, connect, fill
from tests.lab.trace import lines
from tracer.export.sinks.syslog import MESSAGE_BYTES, Datagrams, local_message

PORT = 7843
CONFIGURATION = """
global(workDirectory="{0}")
module(load="imuxsock" SysSock.Use="off")
module(load="imtcp")
module(load="mmjsonparse")
template(name="whole" type="list") {{ property(name="$!") constant(value="\\n") }}
input(type="imuxsock" Socket="{0}/local" ruleset="local" RateLimit.Interval="0")
input(type="imuxsock" Socket="{0}/datagrams" ruleset="datagrams" UseSpecialParser="off" RateLimit.Interval="0")
input(type="imtcp" Address="127.0.0.1" Port="{1}" ruleset="tcp")
"""
RULES = """
ruleset(name="{1}") {{
  action(type="mmjsonparse")
  if $parsesuccess == "OK" then action(type="omfile" file="{0}/{1}.json" template="whole")
  else action(type="omfile" file="{0}/{1}.text")
}}
"""


class Rsyslog:
    """rsyslogd with three inputs of its own, each into a file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        configuration = CONFIGURATION.format(directory, self.port)
        configuration += "".join(RULES.format(directory, name) for name in ("local", "datagrams", "tcp"))
        (directory / "rsyslog.conf").write_text(configuration)
        self._child = subprocess.Popen(
            ["rsyslogd", "-n", "-f", str(directory / "rsyslog.conf"), "-i", str(directory / "pid")],
            env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            stderr=subprocess.DEVNULL,
        )
        until((directory / "datagrams").exists)

    def stop(self) -> None:
        """Ends it."""
        self._child.send_signal(signal.SIGTERM)
        self._child.wait(10)

    def parsed(self, name: str, number: int) -> list[dict[str, Any]]:
        """The JSON of so many messages that came by an input, in its order; nothing may have come that is none."""
        file = self.directory / f"{name}.json"
        until(lambda: file.exists() and file.read_bytes().count(b"\n") >= number)
        assert not (self.directory / f"{name}.text").exists(), (self.directory / f"{name}.text").read_text()
        return [orjson.loads(line) for line in file.read_bytes().splitlines()]


@pytest.fixture
def rsyslog(tmp_path: Path) -> Iterator[Rsyslog]:
    directory = tmp_path / "rsyslog"
    directory.mkdir()
    one = Rsyslog(directory)
    yield one
    one.stop()


@pytest.mark.kernel
def test_a_stall_and_its_reset_come_through_equal_in_every_field(tmp_path: Path, rsyslog: Rsyslog) -> None:
    file = tmp_path / "events"
    outputs = (str(file), f"syslog:unix:{rsyslog.directory}/datagrams", f"syslog:tcp:127.0.0.1:{rsyslog.port}")
    with (
        hosts.alone() as host,
        actor(host, "lab-client") as client,
        actor(host, "lab-server") as server,
        recording(*outputs) as child,
    ):
        connect(client, server, "127.0.0.1", PORT, rcvbuf=32768, sndbuf=32768)
        client.do("s.send(b'hello')")
        server.do("s.recv(5)", thread="slow-reader")
        fill(client)
        until(lambda: b"probe-sent" in file.read_bytes() and b"verdict-changed" in file.read_bytes())
        server.do("s.close()", thread="closer")
        until(lambda: file.read_bytes().count(b"connection-closed") == 2)
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=20)
    written = lines(file.read_bytes())
    assert {"window-closed", "probe-sent", "verdict-changed", "reset-sent"} <= {one["event"]["action"] for one in written}
    assert rsyslog.parsed("datagrams", len(written)) == written
    assert rsyslog.parsed("tcp", len(written)) == written
    assert said == ""


@pytest.mark.kernel
def test_what_dev_log_gets_is_parsed_by_an_rsyslog_as_it_is_shipped(rsyslog: Rsyslog) -> None:
    sent = stream(20, opened_by="peer")
    target = Datagrams("syslog", str(rsyslog.directory / "local"), local_message)
    target.open()
    for line in sent:
        assert target.write([line]) == 1
    assert rsyslog.parsed("local", len(sent)) == [orjson.loads(line) for line in sent]


@pytest.mark.kernel
def test_a_line_beyond_the_limit_is_shorter_and_still_json(rsyslog: Rsyslog) -> None:
    from tests.export.sinks.test_syslog import long_line

    line = long_line("java " + "é" * 4000)
    assert len(line) > MESSAGE_BYTES
    target = Datagrams("syslog", str(rsyslog.directory / "local"), local_message)
    target.open()
    target.write([line])
    (got,) = rsyslog.parsed("local", 1)
    assert got["tcptrace"]["shortened"] == ["process.command_line"]
    assert got["tcptrace"]["verdict"] == orjson.loads(line)["tcptrace"]["verdict"]
