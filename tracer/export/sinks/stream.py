"""A stream socket: unix:PATH or tcp:HOST:PORT. What a broken connection did not deliver is sent again over the next.

Over TCP the kernel tells how much the other host has acknowledged (tcp_info.tcpi_bytes_acked), so lines on their way are kept
until it has. Acknowledged is not read: what a receiver had not read when it died is a gap in the sequence there.
"""

from __future__ import annotations

import select
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from tracer.export.sinks.target import whole

LINGER_S: Final = 0.01
PATIENCE_S: Final = 5.0
"""How long connecting may take."""
PROGRESS_S: Final = 0.5
"""How long one call waits for a receiver that does not read: it is slow, not dead."""
USER_TIMEOUT_MS: Final = 30_000
"""A host that acknowledges nothing for so long is dead."""
_BYTES_ACKED: Final = struct.Struct("120x Q")
_SYN: Final = 1


class Stream:
    """Connects when there is something to write. `frame` makes of a line what the receiver expects."""

    def __init__(self, name: str, connect: Callable[[], socket.socket], frame: Callable[[bytes], bytes] = bytes) -> None:
        self.name = name
        self.linger_s = LINGER_S
        self._connect = connect
        self._frame = frame
        self._socket: socket.socket | None = None
        self._offset = 0
        self._sent = 0
        self._on_their_way: deque[tuple[int, bytes]] = deque()
        """Lines that are not acknowledged, each with the count of bytes at its end."""

    def open(self) -> None:
        """Connects, unless it is."""
        if self._socket is None:
            self._socket = self._connect()
            self._socket.settimeout(PROGRESS_S)
            self._offset = self._sent = 0

    def write(self, lines: Sequence[bytes]) -> int:
        """As much as the receiver takes now. Raises OSError when it has hung up."""
        assert self._socket is not None
        _raise_if_hung_up(self._socket)
        frames = [self._frame(line) for line in lines]
        data = b"".join(frames)
        try:
            written = self._socket.send(memoryview(data)[self._offset :], socket.MSG_NOSIGNAL)
        except TimeoutError:
            return 0
        done, offset = whole(frames, self._offset + written, len(data))
        end = self._sent - self._offset
        for line, framed in zip(lines[:done], frames, strict=False):
            end += len(framed)
            self._on_their_way.append((end, line))
        self._sent += written
        self._offset = offset
        self._forget_acknowledged()
        return done

    def close(self) -> list[bytes]:
        """The lines that are not known to have arrived."""
        if self._socket is None:
            return []
        self._forget_acknowledged()
        self._socket.close()
        self._socket = None
        left = [line for _, line in self._on_their_way]
        self._on_their_way.clear()
        return left

    def _forget_acknowledged(self) -> None:
        assert self._socket is not None
        acknowledged = _acknowledged(self._socket)
        if acknowledged is None:
            self._on_their_way.clear()
            return
        while self._on_their_way and self._on_their_way[0][0] <= acknowledged:
            self._on_their_way.popleft()


def unix(path: str) -> Callable[[], socket.socket]:
    """Connects to a unix socket."""

    def connect() -> socket.socket:
        return _connected(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path)

    return connect


def tcp(host: str, port: int) -> Callable[[], socket.socket]:
    """Connects to a host, by any of its addresses."""

    def connect() -> socket.socket:
        try:
            one = socket.create_connection((host, port), PATIENCE_S)
        except socket.gaierror as error:
            raise OSError(f"{host} is not known ({error.strerror})") from error
        one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
        return one

    return connect


def _connected(one: socket.socket, path: str) -> socket.socket:
    try:
        one.settimeout(PATIENCE_S)
        one.connect(path)
    except OSError:
        one.close()
        raise
    return one


def _raise_if_hung_up(one: socket.socket) -> None:
    """The first write after the other end closed would be taken, and lost. What the other end says is of no interest."""
    while select.select([one], [], [], 0)[0]:
        if not one.recv(4096):
            raise ConnectionResetError("the receiver has closed the connection")


def _acknowledged(one: socket.socket) -> int | None:
    """How many of the bytes sent the other host has; None: that cannot be known."""
    if one.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
    if len(info) < _BYTES_ACKED.size:
        return None  # Linux 4.0 and before
    return int(_BYTES_ACKED.unpack(info)[0]) - _SYN
