"""Files: private, never a link's target, rotated within their bounds, whole after any end."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from tests.export.sinks.lines import sequences, stream
from tracer.export.sinks.file import File, Rotation
from tracer.export.sinks.sink import reason

ANY = Rotation()


def opened(path: Path, rotation: Rotation = ANY) -> File:
    file = File(str(path), rotation)
    file.open()
    return file


def write(file: File, lines: list[bytes]) -> None:
    left = list(lines)
    while left:
        file.open()
        del left[: file.write(left)]


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = opened(tmp_path / "events")
    finally:
        os.umask(before)
    write(file, stream(3))
    file.close()
    assert stat.S_IMODE((tmp_path / "events").stat().st_mode) == 0o600
    assert (tmp_path / "events").read_bytes() == b"".join(stream(3))


def test_its_descriptor_is_not_inherited(tmp_path: Path) -> None:
    assert not os.get_inheritable(opened(tmp_path / "events")._fd)


@pytest.mark.parametrize("target", ["there", "nowhere"])
def test_a_symbolic_link_is_refused_wherever_it_leads(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").write_text("precious")
    (tmp_path / "events").symlink_to(tmp_path / target)
    with pytest.raises(OSError, match="it is a symbolic link, which is not followed"):
        opened(tmp_path / "events")
    assert (tmp_path / "there").read_text() == "precious" and not (tmp_path / "nowhere").exists()


def test_a_link_that_takes_the_files_place_is_refused_at_the_next_opening(tmp_path: Path) -> None:
    file = opened(tmp_path / "events")
    write(file, stream(1))
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "events").unlink()
    (tmp_path / "events").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic link"):
        file.open()
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(OSError, match="it is no regular file"):
            opened(path)


def test_a_file_that_another_writes_is_refused(tmp_path: Path) -> None:
    one = opened(tmp_path / "events")
    with pytest.raises(OSError, match="another process is writing to it"):
        opened(tmp_path / "events")
    one.close()
    opened(tmp_path / "events").close()


def test_it_is_appended_to_and_a_line_that_was_cut_is_ended(tmp_path: Path) -> None:
    first, second, third = stream(3)
    (tmp_path / "events").write_bytes(first + second[:40])
    write(opened(tmp_path / "events"), [third])
    assert (tmp_path / "events").read_bytes() == first + second[:40] + b"\n" + third


def test_it_rotates_by_size_and_never_exceeds_it(tmp_path: Path) -> None:
    lines = stream(100)
    size = 10 * max(map(len, lines))
    file = opened(tmp_path / "events", Rotation(size=size, keep=3))
    for at in range(0, 100, 7):
        write(file, lines[at : at + 7])
    file.close()
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == ["events", "events.1", "events.2", "events.3"]
    files = [(tmp_path / name).read_bytes() for name in ("events.3", "events.2", "events.1", "events")]
    assert all(0 < len(data) <= size for data in files)
    assert {stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()} == {0o600}
    kept = [number for data in files for number in sequences(data)]
    assert kept == list(range(kept[0], 101)) and kept[0] > 1  # whole lines, the latest, none twice


def test_a_line_larger_than_a_file_gets_a_file_of_its_own(tmp_path: Path) -> None:
    lines = stream(3)
    write(opened(tmp_path / "events", Rotation(size=100, keep=5)), lines)
    assert [sequences((tmp_path / name).read_bytes()) for name in ("events.2", "events.1", "events")] == [[1], [2], [3]]


def test_it_keeps_none_where_none_is_wanted(tmp_path: Path) -> None:
    write(opened(tmp_path / "events", Rotation(size=100, keep=0)), stream(3))
    assert [one.name for one in tmp_path.iterdir()] == ["events"]
    assert sequences((tmp_path / "events").read_bytes()) == [3]


def test_it_rotates_by_the_age_of_its_first_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = stream(3)
    made = 1_795_001_000.0  # when the first of them is dated
    now = made + 50
    monkeypatch.setattr(time, "time", lambda: now)
    file = opened(tmp_path / "events", Rotation(age_s=60))
    write(file, lines[:1])
    file.close()
    file = opened(tmp_path / "events", Rotation(age_s=60))  # a restart does not make it younger
    write(file, lines[1:2])
    assert not (tmp_path / "events.1").exists()
    now = made + 61
    write(file, lines[2:])
    assert sequences((tmp_path / "events.1").read_bytes()) == [1, 2]
    assert sequences((tmp_path / "events").read_bytes()) == [3]


def test_one_that_is_removed_is_made_anew(tmp_path: Path) -> None:
    file = opened(tmp_path / "events")
    write(file, stream(1))
    (tmp_path / "events").unlink()
    write(file, stream(2))
    assert sequences((tmp_path / "events").read_bytes()) == [1, 2]


def test_one_that_was_moved_away_is_written_until_it_is_opened_anew(tmp_path: Path) -> None:
    file = opened(tmp_path / "events")
    lines = stream(3)
    write(file, lines[:1])
    (tmp_path / "events").rename(tmp_path / "old")
    write(file, lines[1:2])
    file.close()
    write(file, lines[2:])
    assert (tmp_path / "old").read_bytes() == b"".join(lines[:2])
    assert (tmp_path / "events").read_bytes() == lines[2]


def test_a_part_of_a_line_is_completed_on_a_disk_that_was_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = opened(tmp_path / "events")
    lines, write_all, room = stream(3), os.write, len(stream(1)[0]) + 100

    def short(fd: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(28, "No space left on device")
        done = write_all(fd, data[:room])
        room -= done
        return done

    monkeypatch.setattr(os, "write", short)
    assert file.write(lines) == 1
    with pytest.raises(OSError, match="No space left"):
        file.write(lines[1:])
    room = 1 << 20
    assert file.write(lines[1:]) == 2
    assert (tmp_path / "events").read_bytes() == b"".join(lines)


def test_a_line_that_was_begun_is_taken_back_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = opened(tmp_path / "events")
    lines = stream(2)
    with monkeypatch.context() as patched:
        write_all = os.write
        patched.setattr(os, "write", lambda fd, data: write_all(fd, data[:100]))
        assert file.write(lines) == 0
    file.close()  # as a sink does once a write has failed
    write(file, lines)
    assert (tmp_path / "events").read_bytes() == b"".join(lines)


@pytest.mark.parametrize("path", ["missing/events", "events/under-a-file"])
def test_what_cannot_be_opened_is_told_in_words(tmp_path: Path, path: str) -> None:
    (tmp_path / "events").write_text("")
    with pytest.raises((FileNotFoundError, NotADirectoryError)) as raised:
        opened(tmp_path / path)
    assert reason(raised.value) in ("No such file or directory", "Not a directory")
