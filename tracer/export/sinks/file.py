"""A file that is appended to and rotated: FILE, FILE.1, … FILE.N, the oldest last. It never grows beyond its bounds."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from tracer.export.sinks.target import write_some

LINGER_S: Final = 0.05
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_TIMESTAMP: Final = re.compile(rb'\{"@timestamp":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)')


@dataclass(frozen=True, slots=True)
class Rotation:
    """A file is put aside before it exceeds `size` bytes or once its first line is `age_s` old. None: never for that."""

    size: int | None = None
    age_s: float | None = None
    keep: int = 5
    """How many are kept beside the one that is written."""


class File:
    """Created for its owner alone; symbolic links and what is no regular file are refused."""

    def __init__(self, path: str, rotation: Rotation) -> None:
        self.name = path
        self.linger_s = LINGER_S
        self._path = path
        self._rotation = rotation
        self._fd = -1
        self._size = 0
        self._offset = 0
        self._expires_s: float | None = None

    def open(self) -> None:
        """Raises OSError: what is there is no regular file, may not be written, or is being written by another."""
        if self._fd >= 0:
            if os.fstat(self._fd).st_nlink:
                return
            self.close()  # somebody removed it
        try:
            fd = os.open(self._path, _FLAGS, 0o600)
        except OSError as error:
            raise _in_words(error, self._path) from error
        try:
            _check_and_lock(fd)
            found = os.fstat(fd)
            if found.st_size and os.pread(fd, 1, found.st_size - 1) != b"\n":
                os.write(fd, b"\n")  # whoever wrote it was killed in the middle of a line
        except OSError:
            os.close(fd)
            raise
        self._fd, self._offset = fd, 0
        self._size = os.fstat(fd).st_size
        if self._rotation.age_s is not None:
            began = (_first_line_s(fd) or found.st_mtime) if found.st_size else time.time()
            self._expires_s = began + self._rotation.age_s

    def write(self, lines: Sequence[bytes]) -> int:
        """In the fewest writes that keep each file within its bounds."""
        if self._is_due(len(lines[0])):
            self._rotate()
        fitting = self._fitting(lines)
        done, offset = write_some(self._fd, fitting, self._offset)
        self._size += sum(map(len, fitting[:done])) + offset - self._offset
        self._offset = offset
        return done

    def close(self) -> list[bytes]:
        """A line of which only a part is in the file is taken out of it: it is offered again."""
        if self._fd >= 0:
            if self._offset and os.fstat(self._fd).st_size == self._size:
                os.ftruncate(self._fd, self._size - self._offset)
            os.close(self._fd)
        self._fd, self._offset = -1, 0
        return []

    def _is_due(self, length: int) -> bool:
        if self._offset or not self._size:
            return False  # in the middle of a line, or empty
        if self._rotation.size is not None and self._size + length > self._rotation.size:
            return True
        return self._expires_s is not None and time.time() >= self._expires_s

    def _fitting(self, lines: Sequence[bytes]) -> Sequence[bytes]:
        """Those that the file has room for, one at least."""
        if self._rotation.size is None:
            return lines
        room = self._rotation.size - self._size
        for number, line in enumerate(lines):
            room -= len(line)
            if room < 0:
                return lines[: max(1, number)]
        return lines

    def _rotate(self) -> None:
        self.close()
        names = [self._path, *(f"{self._path}.{number}" for number in range(1, self._rotation.keep + 1))]
        if len(names) == 1:
            os.unlink(self._path)
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            with suppress(FileNotFoundError):
                os.rename(newer, older)
        self.open()


def _check_and_lock(fd: int) -> None:
    """Two that rotate one file would lose each other's lines."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError("it is no regular file")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError("another process is writing to it") from error


def _in_words(error: OSError, path: str) -> OSError:
    """What the flags make of links and pipes, as people would put it."""
    if os.path.islink(path):
        return OSError("it is a symbolic link, which is not followed")
    if os.path.exists(path) and not os.path.isfile(path):
        return OSError("it is no regular file")
    return error


def _first_line_s(fd: int) -> float | None:
    """When the file's first line was made, if it is one of ours."""
    made = _TIMESTAMP.match(os.pread(fd, 64, 0))
    with suppress(ValueError):
        return datetime.fromisoformat(made[1].decode()).replace(tzinfo=timezone.utc).timestamp() if made else None
    return None
