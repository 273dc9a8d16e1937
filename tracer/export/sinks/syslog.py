"""Lines as syslog messages with the @cee: cookie, by which rsyslog's mmjsonparse knows that JSON follows.

Over TCP and to a socket of the user's choice they are RFC 5424's. What listens at /dev/log, rsyslog's imuxsock and journald
alike, knows only the form that syslog(3) writes, and takes the former for text.

Receivers cut messages at a limit, rsyslog's is 8 KiB, and JSON that is cut is no JSON. So a line that is longer is made shorter
here: it loses what only a replay needs, then its command line and other fields of free length, and names them in
`tcptrace.shortened`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
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
    ("tcptrace", "sample"),
    ("process", "command_line"),
    ("process", "executable"),
    ("tcptrace", "verdict", "evidence"),
    ("tcptrace", "verdict", "slow_reader", "chain"),
    ("tcptrace", "verdict", "summary"),
    ("tcptrace", "stream", "filters"),
    ("tcptrace", "stream", "missing"),
)
"""What a long line loses, in this order, until it is short enough."""


def message(line: bytes) -> bytes:
    """A line as RFC 5424 has it, without a newline."""
    document = orjson.loads(line)
    event = document["event"]
    host, action = _token(document["host"]["name"], 255), _token(event["action"], 32)
    header = f"<{_priority(event)}>1 {document['@timestamp']} {host} tcptrace {os.getpid()} {action} - @cee: "
    return _within_limit(header, document, line)


def local_message(line: bytes) -> bytes:
    """A line as syslog(3) writes it; the time is in the JSON."""
    document = orjson.loads(line)
    return _within_limit(f"<{_priority(document['event'])}>tcptrace[{os.getpid()}]: @cee: ", document, line)


def counted(line: bytes) -> bytes:
    """A message for a stream: its length comes first (RFC 6587, 3.4.1)."""
    framed = message(line)
    return b"%d %b" % (len(framed), framed)


class Datagrams:
    """A message a datagram, to a unix socket."""

    def __init__(self, name: str, path: str, form: Callable[[bytes], bytes] = message) -> None:
        self.name = name
        self.linger_s = LINGER_S
        self._path = path
        self._form = form
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
            self._socket.send(self._form(lines[0]))
        except TimeoutError:
            return 0
        return 1

    def close(self) -> list[bytes]:
        """A datagram is there or it is not."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        return []


def _priority(event: dict[str, Any]) -> int:
    return _DAEMON | _SEVERITIES.get(event["kind"], _SEVERITIES["state"])


def _within_limit(header: str, document: dict[str, Any], line: bytes) -> bytes:
    start, body = header.encode("ascii"), line.rstrip(b"\n")
    room = MESSAGE_BYTES - len(start)
    return start + (body if len(body) <= room else _shortened(document, room))


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
