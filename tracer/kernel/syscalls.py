"""The system calls in which a thread waits to write or waits for events, as /proc/PID/task/TID/syscall tells them: by number.

The numbers are those of arch/x86/entry/syscalls/syscall_64.tbl and of include/uapi/asm-generic/unistd.h (arm64, riscv64,
loongarch64). On other machines nothing is told, and a 32-bit program on a 64-bit kernel is mistaken for nothing that writes.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Final, NamedTuple


class Call(NamedTuple):
    """A system call: `fd` is the number of the argument that is the descriptor written to; None: it waits for events."""

    name: str
    fd: int | None = None


_X86_64: Final = {
    1: Call("write", 0),
    20: Call("writev", 0),
    40: Call("sendfile", 0),
    44: Call("sendto", 0),
    46: Call("sendmsg", 0),
    275: Call("splice", 2),
    307: Call("sendmmsg", 0),
    7: Call("poll"),
    23: Call("select"),
    232: Call("epoll_wait"),
    270: Call("pselect6"),
    271: Call("ppoll"),
    281: Call("epoll_pwait"),
    426: Call("io_uring_enter"),
    441: Call("epoll_pwait2"),
}
_GENERIC: Final = {
    64: Call("write", 0),
    66: Call("writev", 0),
    71: Call("sendfile", 0),
    76: Call("splice", 2),
    206: Call("sendto", 0),
    211: Call("sendmsg", 0),
    269: Call("sendmmsg", 0),
    22: Call("epoll_pwait"),
    72: Call("pselect6"),
    73: Call("ppoll"),
    426: Call("io_uring_enter"),
    441: Call("epoll_pwait2"),
}
_BY_MACHINE: Final[Mapping[str, Mapping[int, Call]]] = {
    "x86_64": _X86_64,
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
    "loongarch64": _GENERIC,
}


def parse(text: bytes, machine: str = platform.machine()) -> tuple[str, int | None] | None:
    """The call that a thread waits in and the descriptor that it writes to; None for any other, or where it runs.

    >>> parse(b"44 0x5 0x7f00 0x10000 0x0 0x0 0x0 0x7ffd 0x7f01", "x86_64")
    ('sendto', 5)
    """
    words = text.split()
    try:
        call = _BY_MACHINE.get(machine, {}).get(int(words[0]))
        if call is None:
            return None
        return call.name, None if call.fd is None else int(words[1 + call.fd], 16) & 0xFFFFFFFF
    except (IndexError, ValueError):
        return None  # "running", or nothing at all
