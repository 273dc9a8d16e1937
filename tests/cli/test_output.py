"""Where a trace goes: what each output says of a beginning, of changes and of an end."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.builders import START
from tests.views import NOW, reset_notice, screen, view
from tracer import __version__
from tracer.cli.output import Json, Lines, Output, host_name, stream_facts
from tracer.model.findings import Notice

OFFSET = 1_700_000_000_000_000_000
SEEN = Notice("connection-seen", START, view())


def shown(output: Output, *notices: Notice) -> None:
    """A trace from its beginning to its end."""
    output.start(START, stream_facts(OFFSET, "port 8443", ["tcp_probe"], {"tcp_send_reset": "the kernel has none"}))
    output.draw(screen(view()))
    output.take(notices)
    output.draw(screen(view()))
    output.end(NOW, {"events": 2, "lost": 0})


def documents(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    out, err = capsys.readouterr()
    assert err == ""
    return [json.loads(line) for line in out.splitlines()]


def test_a_pipe_gets_a_line_a_change_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Lines(OFFSET), SEEN, reset_notice())
    first, second = capsys.readouterr().out.splitlines()
    assert "connection-seen" in first and "172.28.72.119:63132" in first
    assert "reset-sent" in second and "close-with-unread-data" in second
    shown(Lines(OFFSET))
    assert capsys.readouterr().out == ""


def test_a_stream_is_numbered_from_its_first_line_to_its_last(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Json(OFFSET), SEEN, reset_notice())
    found = documents(capsys)
    assert [one["event"]["action"] for one in found] == ["stream-started", "connection-seen", "reset-sent", "stream-ended"]
    assert [one["event"]["sequence"] for one in found] == [1, 2, 3, 4]
    assert {one["host"]["name"] for one in found} == {host_name()}
    assert found[-1]["tcptrace"]["stream"] == {"events": 2, "lost": 0}


def test_a_stream_says_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Json(OFFSET))
    stream = documents(capsys)[0]["tcptrace"]["stream"]
    assert stream == {
        "version": __version__,
        "kernel": platform.release(),
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "clock_offset_ns": OFFSET,
        "filters": "port 8443",
        "attached": ["tcp_probe"],
        "missing": {"tcp_send_reset": "the kernel has none"},
    }


def test_each_line_is_out_before_the_next_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stream"
    with path.open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        output = Json(OFFSET)
        output.start(START, {})
        assert len(path.read_bytes().splitlines()) == 1
        output.take([SEEN])
        assert len(path.read_bytes().splitlines()) == 2


@pytest.mark.parametrize(("name", "shown"), [("web-1", "web-1"), ("web\x1b[2J\udcff\u202e1", r"web\x1b[2J\udcff\u202e1")])
def test_a_host_may_call_itself_anything(monkeypatch: pytest.MonkeyPatch, name: str, shown: str) -> None:
    monkeypatch.setattr(platform, "node", lambda: name)
    assert host_name() == shown
