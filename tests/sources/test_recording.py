"""Lines of files that are whole, cut, huge, binary, growing and rotated."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from tracer.errors import USAGE, TcptraceError
from tracer.sources.recording import LONGEST, Line, Recording


def lines(recording: Recording) -> list[Line]:
    """All that there are now."""
    found: list[Line] = []
    nothing = 0
    while not recording.over and nothing < 100:
        line = recording.line(0.0)
        nothing = nothing + 1 if line is None else 0
        found += [] if line is None else [line]
    return found


def read(path: Path) -> list[Line]:
    with Recording(str(path)) as recording:
        found = lines(recording)
        assert recording.over
        return found


def test_lines_are_numbered_and_empty_ones_count(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"one\n\n  \ntwo\r\nthree")
    assert read(path) == [Line(1, b"one"), Line(4, b"two\r"), Line(5, b"three")]


def test_a_line_across_many_reads_is_one(tmp_path: Path) -> None:
    path = tmp_path / "events"
    long = b"x" * (LONGEST - 1)
    path.write_bytes(b"a\n" + long + b"\nb\n")
    assert read(path) == [Line(1, b"a"), Line(2, long), Line(3, b"b")]


@pytest.mark.parametrize("length", [LONGEST + 1, 5 * LONGEST])
def test_a_line_without_end_takes_no_memory(tmp_path: Path, length: int) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"a\n" + b"x" * length + b"\nb\n")
    assert read(path) == [Line(1, b"a"), Line(2, None), Line(3, b"b")]
    path.write_bytes(b"x" * length)
    assert read(path) == [Line(1, None)]


def test_an_empty_file_is_known_as_such(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.touch()
    with Recording(str(path)) as recording:
        assert lines(recording) == []
        assert recording.over
        assert recording.is_empty


@pytest.mark.parametrize(
    ("data", "cause", "remedy"),
    [
        (bytes(range(256)), "it is binary", "tcptrace record"),
        (gzip.compress(b"{}\n"), "is compressed", "zcat"),
        (b"\x28\xb5\x2f\xfd\x04", "is compressed", "zstdcat"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, cause: str, remedy: str) -> None:
    path = tmp_path / "events"
    path.write_bytes(data)
    with Recording(str(path)) as recording, pytest.raises(TcptraceError, match=cause) as raised:
        recording.line(0.0)
    assert remedy in raised.value.remedy
    assert raised.value.exit_code == USAGE


def test_zeros_in_the_middle_are_a_line_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"a\n" * 4096 + bytes(4096) + b"\nb\n")
    assert read(path)[-1] == Line(4098, b"b")


@pytest.mark.parametrize(
    ("name", "cause"), [("nowhere", "No such file"), (".", "is a directory"), ("a\0b", "no name of a file")]
)
def test_what_is_no_file_is_refused(tmp_path: Path, name: str, cause: str) -> None:
    with pytest.raises(TcptraceError, match=cause) as raised:
        Recording(str(tmp_path / name))
    assert raised.value.exit_code == USAGE


def test_a_file_that_grows_is_followed_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"one\ntw")
    with Recording(str(path), follow=True) as recording, path.open("ab", buffering=0) as file:
        assert lines(recording) == [Line(1, b"one")]
        assert not recording.over
        file.write(b"o\nthree\n")
        assert lines(recording) == [Line(2, b"two"), Line(3, b"three")]


def test_a_file_that_is_rotated_is_read_to_its_end_and_then_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"one\n")
    with Recording(str(path), follow=True) as recording, path.open("ab", buffering=0) as file:
        assert lines(recording) == [Line(1, b"one")]
        os.rename(path, tmp_path / "events.1")
        assert lines(recording) == []
        file.write(b"two\n")
        path.write_bytes(b"three\n")
        assert lines(recording) == [Line(2, b"two"), Line(1, b"three")]


def test_a_file_that_is_cut_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"one\ntwo\n")
    with Recording(str(path), follow=True) as recording:
        assert len(lines(recording)) == 2
        path.write_bytes(b"new\n")
        assert lines(recording) == [Line(1, b"new")]


def test_a_pipe_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR)
    with Recording(str(path)) as recording:
        assert recording.line(0.01) is None
        assert not recording.over
        os.write(end, b"one\n")
        assert recording.line(1.0) == Line(1, b"one")
        os.close(end)
        assert recording.line(1.0) is None
        assert recording.over
