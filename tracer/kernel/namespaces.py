"""The network namespaces of this host, named and unnamed. A BPF iterator sees the one of the thread that opens it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

PROC: Final = Path("/proc")
NAMED: Final = Path("/run/netns")
"""Where `ip netns add` keeps them."""

_CLONE_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace(NamedTuple):
    """A network namespace: its inode number, and a path through which it can be entered while that exists."""

    inode: int
    path: str


def discover(proc: Path = PROC, named: Path = NAMED) -> dict[int, Namespace]:
    """Every network namespace that a process is in or that has a name, by inode number."""
    found: dict[int, Namespace] = {}
    own = f"{proc}/thread-self/ns/net"
    _note(found, own)
    try:
        for entry in os.scandir(proc):
            if entry.name.isdigit():
                _note(found, f"{proc}/{entry.name}/ns/net")
    except OSError:
        pass
    try:
        for entry in os.scandir(named):
            # `ip netns` leaves plain files where it was interrupted, or ran in another mount namespace
            if _device(entry.path) == _device(own):
                _note(found, entry.path)
    except OSError:
        pass  # nobody has named any
    return found


@contextmanager
def entered(namespace: Namespace) -> Iterator[None]:
    """The calling thread is in the namespace for as long as the block runs. Raises OSError if it may not, or it is gone."""
    own = "/proc/thread-self/ns/net"
    if _inode(own) == namespace.inode:
        yield
        return
    there = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        back = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(there).st_ino != namespace.inode:
                raise FileNotFoundError(f"namespace {namespace.inode} is gone")
            _setns(there)
            try:
                yield
            finally:
                _setns(back)
        finally:
            os.close(back)
    finally:
        os.close(there)


def _note(found: dict[int, Namespace], path: str) -> None:
    inode = _inode(path)
    if inode is not None and inode not in found:
        found[inode] = Namespace(inode, path)


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None  # the process ended, or is a zombie


def _device(path: str) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
