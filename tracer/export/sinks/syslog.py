"""Lines as syslog messages (RFC 5424) with the @cee: cookie, by which rsyslog's mmjsonparse knows that JSON follows.

Receivers cut messages at a limit, rsyslog's is 8 KiB, and JSON that is cut is no JSON. So a line that is longer is made shorter
here: it loses its command line first, then other fields of free length, and names them in `tcptrace.shortened`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any, Final

import orjson

from tracer.export.sinks.stream import PATIENCE_S, PROGRESS_S

DEVICE: Final = "/dev/log"
MESSAGE_BYTES: Final = 8192
LINGER_S: Final = 0.01

_DAEMON: Final = 3 << 3
_SEVERITIES: Final = {"alert": 4, "event": 5, "state": 6}
"""Of the kinds of events: warning, notice, informational."""
_PRUNED: Final = (
    ("process", "command_line"),
    ("process", "executable"),
    ("tcptrace", "verdict", "evidence"),
    ("tcptrace", "verdict", "slow_reader", "chain"),
    ("tcptrace", "verdict", "summary"),
    ("tcptrace", "stream", "filters"),
    ("tcptrace", "stream", "missing"),
)
"""What a long line loses, in this order, until it is short enough."""


def message(line: bytes, limit: int = MESSAGE_BYTES) -> bytes:
    """A line as a message of at most `limit` bytes, without a newline."""
    document = orjson.loads(line)
    event = document["event"]
    header = "<{}>1 {} {} tcptrace {} {} - @cee: ".format(
        _DAEMON | _SEVERITIES.get(event["kind"], 6),
        document["@timestamp"],
        _token(document["host"]["name"], 255),
        os.getpid(),
        _token(event["action"], 32),
    ).encode("ascii")
    body = line.rstrip(b"\n")
    if len(header) + len(body) > limit:
        body = _shortened(document, limit - len(header))
    return header + body


def counted(line: bytes) -> bytes:
    """A message for a stream: its length comes first (RFC 6587, 3.4.1)."""
    framed = message(line)
    return b"%d %b" % (len(framed), framed)


class Datagrams:
    """A message a datagram, to a unix socket such as /dev/log."""

    def __init__(self, name: str, path: str = DEVICE) -> None:
        self.name = name
        self.linger_s = LINGER_S
        self._path = path
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Raises OSError: nobody listens there."""
        if self._socket is not None:
            return
        one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            one.settimeout(PATIENCE_S)
            one.connect(self._path)
        except OSError:
            one.close()
            raise
        one.settimeout(PROGRESS_S)
        self._socket = one

    def write(self, lines: Sequence[bytes]) -> int:
        """One; none while the receiver's queue is full."""
        assert self._socket is not None
        try:
            self._socket.send(message(lines[0]))
        except TimeoutError:
            return 0
        return 1

    def close(self) -> list[bytes]:
        """A datagram is there or it is not."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        return []


def _shortened(document: dict[str, Any], room: int) -> bytes:
    own = document["tcptrace"]
    own["shortened"] = []
    for *path, last in _PRUNED:
        part: Any = document
        for name in path:
            part = part.get(name) or {}
        if part.pop(last, None):
            own["shortened"].append(".".join([*path, last]))
            if len(orjson.dumps(document)) <= room:
                break
    return orjson.dumps(document)


def _token(text: str, length: int) -> str:
    """What RFC 5424 allows in a header: printable ASCII without spaces."""
    return "".join(char if "!" <= char <= "~" else "_" for char in text[:length]) or "-"
