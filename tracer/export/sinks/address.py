"""What a user writes after --output, and the target that it names."""

from __future__ import annotations

import os
import re
import socket
from typing import Final

from tracer.errors import MISSING_PRECONDITION, USAGE, TcptraceError
from tracer.export.sinks import stream, syslog
from tracer.export.sinks.file import File, Rotation
from tracer.export.sinks.pipe import Stdout
from tracer.export.sinks.sink import reason
from tracer.export.sinks.target import Target

FORMS: Final = "FILE, -, unix:PATH, tcp:HOST:PORT, syslog, syslog:unix:PATH or syslog:tcp:HOST:PORT"
HIGHEST_PORT: Final = 65535
LONGEST_UNIX_PATH: Final = 107
_SCHEME: Final = re.compile("[A-Za-z][A-Za-z0-9+.-]*:")


def target(address: str, rotation: Rotation) -> Target:
    """The target, not opened but for a file: what cannot be written now is told now. Raises TcptraceError."""
    scheme, _, rest = address.partition(":")
    if address == "-":
        return Stdout()
    if address == "syslog":
        return syslog.Datagrams(address, syslog.DEVICE, syslog.local_message)
    if scheme == "syslog":
        return _syslog(address, rest)
    if scheme == "unix":
        return stream.Stream(address, stream.unix(_unix_path(address, rest)))
    if scheme == "tcp":
        return stream.Stream(address, stream.tcp(*_host_and_port(address, rest)))
    return _file(address, rotation)


def _syslog(address: str, rest: str) -> Target:
    scheme, _, where = rest.partition(":")
    if scheme == "unix":
        return syslog.Datagrams(address, _unix_path(address, where))
    if scheme == "tcp":
        return stream.Stream(address, stream.tcp(*_host_and_port(address, where)), syslog.counted)
    raise TcptraceError(f"{address!r} is no address of a syslog", f"an output is {FORMS}", USAGE)


def _file(path: str, rotation: Rotation) -> Target:
    if not path or "\0" in path:
        raise TcptraceError("an output without a name", f"an output is {FORMS}", USAGE)
    if _SCHEME.match(path):
        remedy = f"an output is {FORMS}; a file of that name is ./{path}"
        raise TcptraceError(f"{path!r} is no output that tcptrace knows", remedy, USAGE)
    if os.path.isdir(path):
        remedy = f"name a file in it: --output {os.path.join(path, 'events.ndjson')}"
        raise TcptraceError(f"{path} is a directory", remedy, USAGE)
    file = File(path, rotation)
    try:
        file.open()
    except OSError as error:
        remedy = "name a file that this user may write, in a directory that exists"
        raise TcptraceError(f"{path} cannot be written: {reason(error)}", remedy, MISSING_PRECONDITION) from error
    return file


def _unix_path(address: str, path: str) -> str:
    if not path:
        raise TcptraceError(f"{address!r} names no socket", "write unix:PATH, such as unix:/run/collector.sock", USAGE)
    if len(os.fsencode(path)) > LONGEST_UNIX_PATH or "\0" in path:
        raise TcptraceError(f"the path of a unix socket has at most {LONGEST_UNIX_PATH} bytes", "choose a shorter path", USAGE)
    return path


def _host_and_port(address: str, rest: str) -> tuple[str, int]:
    host, colon, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_ipv6(host):
            host = ""
    elif ":" in host:
        host = ""
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= HIGHEST_PORT:
        remedy = "write tcp:HOST:PORT, such as tcp:logs.example.com:5170 or tcp:[2001:db8::1]:5170"
        raise TcptraceError(f"{address!r} is no host with a port from 1 to {HIGHEST_PORT}", remedy, USAGE)
    return host, int(port)


def _is_ipv6(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, host)
    except OSError:
        return False
    return True
