"""As much of the WebSocket protocol (RFC 6455) as the demo's two ends need: the opening handshake, and frames in one piece."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LONGEST_HEADERS: Final = 16384
_LONGEST_FRAME: Final = 1 << 20


class ProtocolError(Exception):
    """The other end does not speak WebSocket, or not as much of it as we do."""


def accept_token(key: bytes) -> bytes:
    """What a server answers to a client's Sec-WebSocket-Key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest())


def connect(sock: socket.socket, host: str, path: str) -> None:
    """A client's side of the handshake. Raises ProtocolError, OSError."""
    key = base64.b64encode(os.urandom(16))
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    status, headers = _headers(sock)
    if b" 101 " not in status or headers.get(b"sec-websocket-accept") != accept_token(key):
        raise ProtocolError(f"no upgrade to WebSocket: {status!r}")


def accept(sock: socket.socket) -> None:
    """A server's side of the handshake. Raises ProtocolError, OSError."""
    _, headers = _headers(sock)
    key = headers.get(b"sec-websocket-key")
    if key is None:
        raise ProtocolError("no WebSocket client")
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_token(key) + b"\r\n\r\n"
    )


def frame(opcode: int, payload: bytes, *, masked: bool) -> bytes:
    """One frame with the FIN bit; a client masks its frames, a server does not."""
    length = len(payload)
    mask_bit = 0x80 if masked else 0
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, mask_bit | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, mask_bit | 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, mask_bit | 127, length)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + _mask(payload, mask)


def frames(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of each frame until the other end closes. Raises ProtocolError, OSError."""
    while True:
        head = _exactly(sock, 2)
        if head is None:
            return
        opcode, length = head[0] & 0x0F, head[1] & 0x7F
        if not head[0] & 0x80:
            raise ProtocolError("a frame in pieces")
        if length >= 126:
            size, form = (2, "!H") if length == 126 else (8, "!Q")
            extended = _exactly(sock, size)
            if extended is None:
                return
            (length,) = struct.unpack(form, extended)
        if length > _LONGEST_FRAME:
            raise ProtocolError(f"a frame of {length} bytes")
        mask = _exactly(sock, 4) if head[1] & 0x80 else None
        payload = _exactly(sock, length)
        if payload is None:
            return
        yield opcode, _mask(payload, mask) if mask else payload


def _mask(payload: bytes, mask: bytes) -> bytes:
    length = len(payload)
    repeated = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(length, "big")


def _exactly(sock: socket.socket, length: int) -> bytes | None:
    """That many bytes; None if the stream ends before."""
    data = bytearray()
    while len(data) < length:
        chunk = sock.recv(length - len(data))
        if not chunk:
            return None
        data += chunk
    return bytes(data)


def _headers(sock: socket.socket) -> tuple[bytes, dict[bytes, bytes]]:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)  # not one byte of the first frame too many
        if not byte or len(data) > _LONGEST_HEADERS:
            raise ProtocolError("the handshake broke off")
        data += byte
    status, *lines = data[:-4].split(b"\r\n")
    pairs = (line.partition(b":") for line in lines)
    return status, {name.strip().lower(): value.strip() for name, _, value in pairs}
