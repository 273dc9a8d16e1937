"""The lines of a file, a pipe, or a file that grows and is rotated while it is read. Memory is bounded, whatever is in it."""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from tracer.errors import USAGE, TcptraceError

if TYPE_CHECKING:
    from typing_extensions import Self

CHUNK: Final = 1 << 18
LONGEST: Final = 1 << 20
"""No line of ours comes near this."""
POLL_S: Final = 0.1
"""How often a file is looked at for more."""

_PACKED: Final = {b"\x1f\x8b": "zcat", b"\x28\xb5\x2f\xfd": "zstdcat", b"\xfd7zXZ": "xzcat", b"BZh": "bzcat"}


class Line(NamedTuple):
    """One line, without its end. `data` is None for one that is too long to be any of ours."""

    number: int
    data: bytes | None


class Recording:
    """Use as a context manager. `follow`: its end is not the end; it grows, or another takes its name."""

    def __init__(self, path: str, *, follow: bool = False) -> None:
        """`-` is standard input. Raises TcptraceError."""
        self.name = "standard input" if path == "-" else path
        self._path = path
        self._fd = sys.stdin.fileno() if path == "-" else _opened(path)
        self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._follow = follow and self._regular
        self._lines: deque[Line] = deque()
        self._rest = b""
        self._skipping = False
        self._number = 0
        self._began = False
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._path != "-":
            os.close(self._fd)

    @property
    def over(self) -> bool:
        """Whether all was read."""
        return self._ended and not self._lines

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing at all."""
        return self._ended and not self._began

    def line(self, wait_s: float) -> Line | None:
        """The next line; None if there is none yet after so long, or ever. Raises TcptraceError for what is no text."""
        if not self._lines and not self._ended:
            self._read(wait_s)
        return self._lines.popleft() if self._lines else None

    def _read(self, wait_s: float) -> None:
        if not self._regular and not select.select([self._fd], [], [], wait_s)[0]:
            return
        try:
            data = os.read(self._fd, CHUNK)
        except OSError as error:
            raise TcptraceError(f"{self.name} cannot be read: {error.strerror}", "copy it to another place", USAGE) from error
        if data:
            if not self._began:
                self._check(data)
            self._take(data)
        elif not self._follow:
            self._flush()
            self._ended = True
        elif not self._reopened():
            time.sleep(min(wait_s, POLL_S))

    def _take(self, data: bytes) -> None:
        first, *others = data.split(b"\n")
        if not others:
            self._keep(first)
            return
        self._add(self._rest + first)
        for line in others[:-1]:
            self._add(line)
        self._rest = b""
        self._keep(others[-1])

    def _keep(self, part: bytes) -> None:
        """The beginning of a line, of which the rest is to come."""
        if not self._skipping:
            self._rest += part
        if len(self._rest) > LONGEST:
            self._rest, self._skipping = b"", True

    def _add(self, line: bytes) -> None:
        self._number += 1
        if self._skipping or len(line) > LONGEST:
            self._lines.append(Line(self._number, None))
        elif line.strip():
            self._lines.append(Line(self._number, line))
        self._skipping = False

    def _flush(self) -> None:
        """What has no end of a line is one all the same."""
        if self._rest or self._skipping:
            self._add(self._rest)
        self._rest = b""

    def _check(self, data: bytes) -> None:
        self._began = True
        unpack = next((command for mark, command in _PACKED.items() if data.startswith(mark)), None)
        if unpack is not None:
            raise TcptraceError(
                f"{self.name} is compressed", f"`{unpack} FILE | tcptrace replay -` replays what is in it", USAGE
            )
        if b"\0" in data[:4096]:
            raise TcptraceError(
                f"{self.name} is no recording: it is binary", "replay a file that `tcptrace record` has written", USAGE
            )

    def _reopened(self) -> bool:
        """Whether the name is another file's by now, or the file was cut: it is read from its beginning."""
        ours = os.fstat(self._fd)
        try:
            theirs = os.stat(self._path)
            same = (theirs.st_ino, theirs.st_dev) == (ours.st_ino, ours.st_dev)
            if same and ours.st_size >= os.lseek(self._fd, 0, os.SEEK_CUR):
                return False
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False  # in the middle of a rotation
        self._flush()
        os.close(self._fd)
        self._fd, self._number = fd, 0
        return True


def _opened(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "that is no name of a file"
        missing = isinstance(error, OSError) and error.errno == errno.ENOENT
        remedy = "`tcptrace record --output FILE` makes a recording" if missing else "give a file that you may read"
        raise TcptraceError(f"{path} cannot be opened: {why}", remedy, USAGE) from error
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise TcptraceError(f"{path} is a directory", "name one of the recordings in it", USAGE)
    return fd
