"""Text from hostile places made harmless, and the forms in which people read numbers.

A process may call itself anything: escape sequences, bytes that are no UTF-8, letters that reverse the line. All such text goes
through `printable` where it enters, so that nothing later has to think of it.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

LONGEST: Final = 4096
"""Characters kept of one text; a command line can be megabytes."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(raw: bytes | str) -> str:
    r"""The text with every control, format, separator, surrogate, private and unassigned character as a visible escape.

    Bytes that are no UTF-8 become \xNN. At most LONGEST characters; doing it twice changes nothing.

    >>> printable(b"ja\x1b[31mva\xff")
    'ja\\x1b[31mva\\xff'
    """
    text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else raw
    if not (text.isascii() and text.isprintable()):
        text = "".join(_escape(char) if unicodedata.category(char) in _HIDDEN else char for char in text[: LONGEST + 1])
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def count(number: int) -> str:
    """A number with its thousands apart: 362,708."""
    return f"{number:,}"


def duration(seconds: float) -> str:
    """A length of time in the two units that matter: 0.4 s, 43 s, 2 m 05 s, 3 h 12 m, 4 d 02 h."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} m {second:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} m"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours:02d} h"


def size(number: float) -> str:
    """A number of bytes in the unit that suits it: 940 B, 12.3 kB, 3.4 MB."""
    if number < 1000:
        return f"{number:.0f} B"
    for unit in ("kB", "MB"):
        number /= 1000
        if number < 1000:
            return f"{number:.1f} {unit}"
    return f"{number / 1000:.1f} GB"


def hostport(ip: str, port: int) -> str:
    """An address and a port, IPv6 in brackets."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def utc(epoch_ns: int) -> str:
    """A time in RFC 3339: UTC, microseconds, Z."""
    second, micro = divmod(epoch_ns // 1000, 1_000_000)
    return f"{_utc_second(second)}.{micro:06d}Z"


@lru_cache(256)
def _utc_second(second: int) -> str:
    """A stream's lines come many to a second."""
    return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
