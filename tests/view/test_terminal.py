"""The live table on a real terminal: what is on it, that it follows the window's size, and what is left when it ends."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from tests.lab import hosts
from tests.lab.actor import actor, connect, fill
from tests.lab.terminal import terminal
from tests.lab.trace import tcptrace

pytestmark = pytest.mark.kernel
PORT = 7543


def test_a_stall_on_a_terminal_that_is_resized_and_interrupted() -> None:
    with (
        hosts.pair() as (here, there),
        actor(here, "lab-client") as client,
        actor(there, "lab-server") as server,
        terminal(tcptrace("watch", "--port", str(PORT)), 80, 24) as window,
    ):
        window.wait(lambda lines: any("nothing heads toward a reset" in line for line in lines))
        connect(client, server, there.ip, PORT, rcvbuf=32768, sndbuf=32768)
        client.do("s.send(b'hello')")
        server.do("s.recv(5)", thread="slow-reader")
        fill(client)
        reader = f"lab-server[{server.pid}]/slow-reader"
        lines = window.wait(lambda lines: sum(f"slow reader: {reader}" in line for line in lines) == 2)
        assert any(line.startswith("stalled ") for line in lines)
        assert not window.cursor_is_visible()
        window.resize(200, 40)
        lines = window.wait(lambda lines: any(line.startswith("PHASE") for line in lines))
        assert all(cell_len(line) <= 200 for line in lines)
        window.resize(80, 24)
        window.wait(lambda lines: any("slow reader:" in line for line in lines))
        server.do("s.close()")
        lines = window.wait(lambda lines: any("resets and time-outs of the last minute: 2" in line for line in lines))
        assert any("sent close-with-unread-data (TCP_ABORT_ON_CLOSE)" in line for line in lines)
        window.keys("C-c")
        lines = window.wait(lambda lines: "exit 0" in lines)
        assert any(line.startswith("watched for ") for line in lines)
        window.wait(lambda lines: "echo" in lines)
        assert window.cursor_is_visible()


def test_a_snapshot_fits_the_terminal() -> None:
    with hosts.pair() as (here, there), actor(here, "lab-client") as client, actor(there, "lab-server") as server:
        connect(client, server, there.ip, PORT)
        with terminal(tcptrace("snapshot", "--all", "--port", str(PORT)), 80, 24) as window:
            lines = window.wait(lambda lines: "exit 0" in lines)
        assert sum(line.startswith("ok ") and f"{there.ip}:{PORT}" in line for line in lines) == 2
        assert all(cell_len(line) <= 80 for line in lines)


def test_what_was_there_already_is_on_the_first_screen_with_its_names_and_a_resize_waits_for_no_interval() -> None:
    with (
        hosts.pair() as (here, there),
        actor(here, "\x1b[31m[red]\x07") as client,
        actor(there, "[/]\x1b]0;owned") as server,
    ):
        connect(client, server, there.ip, PORT, rcvbuf=32768, sndbuf=32768)
        client.do("s.send(b'hello')")
        fill(client)
        slow = rf"[/]\x1b]0;owned[{server.pid}]"
        with terminal(tcptrace("watch", "--port", str(PORT), "--interval", "60"), 80, 24) as window:
            window.wait(lambda lines: any("tcptrace: attaching to the kernel" in line for line in lines))
            lines = window.wait(lambda lines: any(line.startswith("tcptrace on ") for line in lines))
            assert sum(f"slow reader: {slow}" in line for line in lines) == 2
            assert rf"  {slow} > \x1b[31m[red]\x07[{client.pid}]" in lines
            window.resize(200, 24)
            lines = window.wait(lambda lines: any(line.startswith("PHASE") for line in lines), seconds=2)
            assert sum(slow in line and line.startswith("stalled ") for line in lines) == 2  # a row each
            window.resize(80, 24)
            window.keys("C-c")
            lines = window.wait(lambda lines: "exit 0" in lines)
            assert any(line.startswith("longest stall ") and f": {slow} on " in line for line in lines)
            assert not any("attaching" in line for line in lines)


def test_a_terminal_that_can_do_nothing_gets_lines() -> None:
    with terminal(["env", "TERM=dumb", *tcptrace("watch", "--port", "1", "--duration", "0.2")], 80, 24) as window:
        lines = window.wait(lambda lines: "exit 0" in lines)
    assert [line for line in lines if line] == ["exit 0", "echo"]


def test_a_locale_without_a_names_letters_keeps_the_table_in_its_lines() -> None:
    with hosts.pair() as (here, there), actor(here, "漢字") as client, actor(there, "漢字") as server:
        connect(client, server, there.ip, PORT)
        command = ["env", "PYTHONIOENCODING=ascii", *tcptrace("watch", "--all", "--port", str(PORT), "--duration", "2")]
        with terminal(command, 80, 24) as window:
            lines = window.wait(lambda lines: any(line.startswith("ok ") and f"{there.ip}:{PORT}" in line for line in lines))
        assert sum(line.startswith("  ??[") for line in lines) == 2
        assert lines[3].startswith("ok ") and lines[4].startswith("  ??[") and lines[5].startswith("  Recv-Q ")
