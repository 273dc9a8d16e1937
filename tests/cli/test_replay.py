"""tcptrace replay, run as a user would: what it shows, what it refuses, and a recording of the real kernel told again."""

from __future__ import annotations

import copy
import json
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.cli.test_errors import BUFFERED, POWERLESS, mended, run
from tests.lab import hosts, schema
from tests.lab.actor import actor, connect, fill
from tests.lab.replays import Document, without_marks
from tests.lab.terminal import terminal
from tests.lab.trace import ROOT, lines, tcptrace
from tests.sources.stories import stream
from tracer.errors import USAGE
from tracer.sources.replay import TOLD_AT_MOST

PORT = 7853


def written(path: Path, documents: Iterable[Document]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in documents))
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """The incident, recorded."""
    return written(tmp_path / "events.ndjson", stream())


def test_json_is_the_recording_but_for_the_mark_that_it_was_replayed(recording: Path, tmp_path: Path) -> None:
    done = run("replay", "--json", str(recording), by=POWERLESS)
    assert (done.returncode, done.stderr) == (0, "")
    again = lines(done.stdout)
    assert [one["tcptrace"]["stream"]["replayed"] for one in again if "stream" in one["tcptrace"]] == [True, True]
    assert without_marks(again) == stream()
    twice = run("replay", "--json", str(written(tmp_path / "again.ndjson", again)))
    assert lines(twice.stdout) == again


def test_a_pipe_gets_a_line_a_change(recording: Path) -> None:
    done = run("replay", str(recording))
    told = done.stdout.splitlines()
    assert len(told) == len(stream()) - 2
    assert told[0].startswith("2026-11-18T11:06:40.000000Z connection-seen")
    assert any("reset-sent" in line and "close-with-unread-data (TCP_ABORT_ON_CLOSE)" in line for line in told)


def test_standard_input_is_a_recording_too(recording: Path) -> None:
    with recording.open("rb") as file:
        done = subprocess.run(tcptrace("replay", "-"), cwd=ROOT, stdin=file, capture_output=True, text=True, check=True)
    assert done.stdout == run("replay", str(recording)).stdout


def test_lines_that_are_none_of_ours_are_told_of_by_number_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    whole = [orjson.dumps(one) for one in stream()]
    whole[2:2] = [b"not json", b'{"a":1}', whole[2][:100]]
    path.write_bytes(b"\n".join(whole)[:-30])
    done = run("replay", "--json", str(path))
    told = done.stderr.splitlines()
    assert done.returncode == 0
    assert told == [
        f"tcptrace: {path}:3: left out: it is no JSON, or a part of it is missing",
        f"tcptrace: {path}:4: left out: tcptrace is missing",
        f"tcptrace: {path}:5: left out: it is no JSON, or a part of it is missing",
        f"tcptrace: {path}:{len(whole)}: left out: it is no JSON, or a part of it is missing",
    ]
    again = lines(done.stdout)
    assert without_marks(again)[:-1] == stream()[:-1]  # the last was cut, and made up for
    assert again[-1]["event"]["action"] == "stream-ended"


def test_of_many_such_lines_the_rest_is_counted(recording: Path) -> None:
    with recording.open("ab") as file:
        file.write(b"x\n" * 5000)
    told = run("replay", str(recording)).stderr.splitlines()
    assert len(told) == TOLD_AT_MOST + 1
    assert told[-1] == f"tcptrace: {recording}: {5000 - TOLD_AT_MOST:,} more lines are left out"


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "is empty"),
        (b"\n \n", "is no recording"),
        (bytes(range(256)) * 40, "is no recording: it is binary"),
        (b"\x1f\x8b\x08\x00", "is compressed"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, data: bytes, cause: str) -> None:
    path = tmp_path / "events"
    path.write_bytes(data)
    told, remedy = mended(run("replay", str(path)), USAGE)
    assert told == f"{path} {cause}"
    assert "tcptrace" in remedy


def test_text_without_a_line_of_ours_is_refused_after_its_lines_were_told_of(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"hello\n")
    done = run("replay", str(path))
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert done.stderr.splitlines()[1] == f"tcptrace: {path} is no recording"


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("replay", "Missing argument 'FILE'"),
        ("replay /nowhere/events", "/nowhere/events cannot be opened: No such file or directory"),
        ("replay /", "/ is a directory"),
        ("replay --speed 0 -", "0.0 is not in the range"),
        ("replay --speed nan -", "'nan' is not a valid speed"),
        ("replay --speed fast -", "'fast' is not a valid speed"),
        ("watch --samples", "--samples is a part of the event stream"),
    ],
)
def test_a_mistake_is_told_with_its_remedy(arguments: str, cause: str) -> None:
    told, _ = mended(run(*arguments.split()), USAGE)
    assert cause in told


def test_a_newer_schema_is_refused_where_it_begins(tmp_path: Path) -> None:
    documents = copy.deepcopy(stream())
    for one in documents[3:]:
        one["tcptrace"]["schema"] = 2
    path = written(tmp_path / "events", documents)
    done = run("replay", str(path))
    assert done.returncode == USAGE
    assert done.stderr.splitlines() == [
        f"tcptrace: {path}:4: its schema is 2, and this tcptrace knows 1",
        "  replay it with a newer tcptrace",
    ]
    assert len(done.stdout.splitlines()) == 2


def test_a_growing_file_is_followed_also_when_it_is_rotated(tmp_path: Path) -> None:
    path = written(tmp_path / "events", stream()[:4])
    child = subprocess.Popen(
        tcptrace("replay", "--follow", "--json", str(path)),
        cwd=ROOT,
        env=BUFFERED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        told = [child.stdout.readline() for _ in range(4)]
        path.rename(tmp_path / "events.1")
        with (tmp_path / "events.1").open("ab") as old:
            old.write(orjson.dumps(stream()[4]) + b"\n")
        told.append(child.stdout.readline())
        written(path, stream()[5:-1])
        told += [child.stdout.readline() for _ in stream()[5:-1]]
        child.terminate()
        rest, errors = child.communicate(timeout=10)
    finally:
        child.kill()
    assert (child.returncode, errors) == (0, "")
    again = lines("".join(told) + rest)
    assert without_marks(again)[:-1] == stream()[:-1]


def test_a_closed_pipe_ends_it_quietly(recording: Path) -> None:
    done = subprocess.run(
        f"{' '.join(tcptrace('replay', str(recording)))} | head -n 1; echo ${{PIPESTATUS[0]}}",
        cwd=ROOT,
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0", "")


def test_speed_is_that_of_the_recording_times_n(recording: Path) -> None:
    began = time.monotonic()
    done = run("replay", "--speed", "5", str(recording))
    took = time.monotonic() - began
    assert done.returncode == 0
    assert 7 / 5 <= took < 7 / 5 + 3  # the story takes seven seconds


def test_a_terminal_gets_the_table_at_the_pace_of_the_recording(recording: Path) -> None:
    with recording.open("ab") as file:
        file.write(b"not json\n")
    with terminal(tcptrace("replay", str(recording)), 80, 24) as window:
        shown = window.wait(lambda lines: sum(line.startswith("stalled ") for line in lines) == 2)
        assert shown[0].startswith("tcptrace on web-1, ")
        assert sum("slow reader: java[100]/worker-1" in line for line in shown) == 2
        shown = window.wait(lambda lines: any("resets and time-outs of the last minute: 2" in line for line in lines))
        assert any("sent close-with-unread-data (TCP_ABORT_ON_CLOSE)" in line for line in shown)
        window.wait(lambda lines: "exit 0" in lines)
        shown = window.screen()
        assert any(line.startswith("watched for 7.0 s: ") and "3 resets" in line for line in shown)
        assert any("not json" in line or "left out" in line for line in shown)
        assert window.cursor_is_visible()


@pytest.mark.kernel
def test_a_stall_and_its_reset_that_were_recorded_are_told_again(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    with (
        hosts.pair() as (here, there),
        actor(here, "lab-client") as client,
        actor(there, "lab-server") as server,
        subprocess.Popen(tcptrace("record", "--output", str(path), "--port", str(PORT)), cwd=ROOT) as recorder,
    ):
        try:
            _until(path, "stream-started")
            connect(client, server, there.ip, PORT, rcvbuf=32768, sndbuf=32768)
            client.do("s.send(b'hello')")
            server.do("s.recv(5)", thread="slow-reader")
            fill(client)
            _until(path, '"phase":"stalled"', times=2)
            time.sleep(2.5)
            server.do("s.close()")
            _until(path, "connection-closed", times=2)
        finally:
            recorder.terminate()
            recorder.wait(10)
    recorded = [json.loads(line) for line in path.read_text().splitlines()]
    done = run("replay", "--json", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    again = lines(done.stdout)
    assert without_marks(again) == without_marks(recorded)
    causes = {one["event"]["action"]: one["tcptrace"]["reset"]["cause"] for one in again if "reset" in one["tcptrace"]}
    assert causes["reset-sent"] == causes["reset-received"] == "close-with-unread-data"
    blamed = [verdict(one) for one in again if one["event"]["action"] == "verdict-changed"]
    assert (server.pid, "slow-reader") in [(one["slow_reader"]["pid"], one["slow_reader"]["thread_name"]) for one in blamed]
    for one in recorded:
        schema.check(one)


def verdict(event: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = event["tcptrace"]["verdict"]
    return found


def _until(path: Path, text: str, times: int = 1) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() or path.read_text().count(text) < times:
        assert time.monotonic() < deadline, f"no {text} in {path.read_text() if path.exists() else 'no file'}"
        time.sleep(0.1)
