"""The whole demo: the outage happens for real, the right process is blamed, and nothing stays behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.terminal import terminal
from tests.lab.trace import ROOT, lines, tcptrace
from tracer.cli.errors import INTERRUPTED
from tracer.demo.leftovers import STATE

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


def left_behind() -> set[str]:
    """Everything of a demo's that exists now."""
    found = {f"namespace {name}" for name in os.listdir("/run/netns") if name.startswith("tcptrace-demo")}
    found |= {f"folder {path}" for path in Path("/tmp").glob("tcptrace-demo-*")}
    found |= {f"notes {path}" for path in STATE.glob("*.json")}
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"tracer.demo." in command or b"tcptrace-demo-" in command:
            found.add(f"process {entry.name} {command!r}")
    return found


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    assert left_behind() == set()
    yield
    assert left_behind() == set()


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        tcptrace("demo", *arguments),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def until_it_runs(demo: subprocess.Popen[bytes]) -> bytes:
    """Waits for its first event, and gives it: then all is built and attached."""
    assert demo.stdout is not None
    first = demo.stdout.readline()
    assert first
    return first


def events_of(demo: subprocess.Popen[bytes], first: bytes = b"") -> tuple[list[dict[str, Any]], str]:
    """The events, of which the first may have been read already, and stderr."""
    out, err = demo.communicate(timeout=90)
    return lines(first + out), err.decode()


def test_the_slow_client_is_blamed_and_the_rst_and_nginxs_line_explained() -> None:
    demo = start("--json")
    events, story = events_of(demo)
    assert demo.returncode == 0, story
    assert "NOT as arranged" not in story and story.count("as arranged") == 9
    assert "Connection reset by peer" in story

    stalled = [
        one
        for one in events
        if one["event"]["action"] == "verdict-changed" and one["tcptrace"]["verdict"]["phase"] in ("stalled", "backlogged")
    ]
    blamed = {one["tcptrace"]["verdict"]["slow_reader"]["pid"] for one in stalled} - {None}
    sent = [one for one in events if one["event"]["action"] == "reset-sent"]
    closer = next(one for one in sent if one["tcptrace"]["reset"]["reason"] == "TCP_ABORT_ON_CLOSE")
    # the command line is the kernel's word for who that process was, not ours
    assert closer["process"]["command_line"].endswith(" slow")
    assert blamed == {closer["process"]["pid"]}
    threads = {one["tcptrace"]["verdict"]["slow_reader"]["thread_name"] for one in stalled}
    assert "ws-reader" in threads


def test_ctrl_c_leaves_nothing_behind() -> None:
    demo = start("--json")
    first = until_it_runs(demo)
    assert left_behind() != set()
    demo.send_signal(signal.SIGINT)
    _, err = events_of(demo, first)
    assert "Traceback" not in err and "as arranged" not in err
    assert demo.returncode == INTERRUPTED


def test_ctrl_c_on_a_terminal_ends_the_demo_and_not_its_cast_first() -> None:
    with terminal(tcptrace("demo"), 80, 40) as window:
        window.wait(lambda lines: any("slow reader: slow-client[" in line for line in lines), seconds=30)
        window.keys("C-c")
        lines = window.wait(lambda lines: f"exit {INTERRUPTED}" in lines)
        window.wait(lambda lines: "echo" in lines)
    assert any(line.startswith("longest stall ") and ": slow-client[" in line for line in lines)
    assert not any("sent: close-with-unread-data" in line or "Traceback" in line for line in lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whatever_asks_for_an_end_while_it_is_built_leaves_nothing_behind(number: int) -> None:
    demo = start()
    deadline = time.monotonic() + 20
    while not left_behind() and time.monotonic() < deadline:
        time.sleep(0.01)
    demo.send_signal(number)
    _, err = demo.communicate(timeout=60)
    assert b"Traceback" not in err and demo.returncode == INTERRUPTED


def test_ctrl_c_while_it_is_built_leaves_nothing_behind() -> None:
    demo = start("--json")
    deadline = time.monotonic() + 20
    while not left_behind() and time.monotonic() < deadline:
        time.sleep(0.01)
    demo.send_signal(signal.SIGINT)
    _, err = demo.communicate(timeout=60)
    assert b"Traceback" not in err


def test_what_a_killed_one_left_is_removed_by_the_next() -> None:
    demo = start("--json")
    until_it_runs(demo)
    demo.kill()
    demo.communicate(timeout=30)
    assert any(one.startswith("namespace") for one in left_behind())
    done = subprocess.run(tcptrace("demo", "--clean"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "removed namespace" in done.stderr
