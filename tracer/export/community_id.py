"""The community id of a connection, the same for both ends and in other tools (Corelight's specification, version 1)."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
from typing import Final

_TCP: Final = 6


def community_id(one_ip: str, one_port: int, other_ip: str, other_port: int) -> str:
    """The id of a TCP connection between the two ends, in either order."""
    ends = sorted(((_packed(one_ip), one_port), (_packed(other_ip), other_port)))
    (first, first_port), (second, second_port) = ends
    hashed = struct.pack("!H", 0) + first + second + struct.pack("!BBHH", _TCP, 0, first_port, second_port)
    return "1:" + base64.b64encode(hashlib.sha1(hashed, usedforsecurity=False).digest()).decode()


def _packed(ip: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip)
