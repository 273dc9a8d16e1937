"""Reads from a socket through io_uring, by bare system calls. An actor runs this file's text, so it imports nothing of ours."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

_SETUP, _ENTER, _REGISTER = 425, 426, 427
_SQPOLL = 1 << 1
_GETEVENTS, _SQ_WAKEUP = 1 << 0, 1 << 1
_NEED_WAKEUP = 1 << 0
_OP_RECV = 27
_FIXED_FILE, _ASYNC = 1 << 0, 1 << 4
_OFFSET_SQES = 0x10000000
_SQE, _CQE = 64, 16

_syscall = ctypes.CDLL(None, use_errno=True).syscall


class Ring:
    """A ring of one entry (struct io_uring_params and its offsets, io_uring_setup(2))."""

    def __init__(self, *, sqpoll: bool = False) -> None:
        params = bytearray(struct.pack("IIII", 0, 0, _SQPOLL if sqpoll else 0, 0) + struct.pack("I", 5000) + bytes(100))
        self.fd = _checked(_SETUP, 1, (ctypes.c_char * len(params)).from_buffer(params))
        self._sqpoll = sqpoll
        words = struct.unpack("<30I", params)
        entries, completions = words[0], words[1]
        self._tail, self._flags, self._array = words[11], words[14], words[16]
        self._head, self._done, self._cqes = words[20], words[21], words[25]
        size = max(self._array + entries * 4, self._cqes + completions * _CQE)
        self._ring = mmap.mmap(self.fd, size, offset=0)
        self._sqes = mmap.mmap(self.fd, entries * _SQE, offset=_OFFSET_SQES)
        self._mask = completions - 1

    def register(self, fd: int) -> None:
        """Makes the ring hold the descriptor's file as its number 0."""
        _checked(_REGISTER, self.fd, 2, (ctypes.c_int * 1)(fd), 1)

    def recv(self, fd: int, size: int, *, fixed: bool = False, worker: bool = False) -> int:
        """Receives at most so many bytes; how many. `worker`: a worker thread of the kernel's does it (IOSQE_ASYNC)."""
        buffer = ctypes.create_string_buffer(size)
        flags = (_FIXED_FILE if fixed else 0) | (_ASYNC if worker else 0)
        entry = struct.pack("<BBHiQQIIQ", _OP_RECV, flags, 0, fd, 0, ctypes.addressof(buffer), size, 0, 1)
        self._sqes[:_SQE] = entry + bytes(_SQE - len(entry))
        self._write(self._array, 0)
        self._write(self._tail, self._read(self._tail) + 1)
        wakeup = _SQ_WAKEUP if self._sqpoll and self._read(self._flags) & _NEED_WAKEUP else 0
        _checked(_ENTER, self.fd, 0 if self._sqpoll else 1, 1, _GETEVENTS | wakeup, None, 0)
        head = self._read(self._head)
        assert head != self._read(self._done), "nothing was completed"
        (result,) = struct.unpack_from("<i", self._ring, self._cqes + (head & self._mask) * _CQE + 8)
        self._write(self._head, head + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        assert isinstance(result, int)
        return result

    def _read(self, offset: int) -> int:
        (value,) = struct.unpack_from("<I", self._ring, offset)
        assert isinstance(value, int)
        return value

    def _write(self, offset: int, value: int) -> None:
        struct.pack_into("<I", self._ring, offset, value & 0xFFFFFFFF)


def _checked(number: int, *arguments: object) -> int:
    result = _syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    assert isinstance(result, int)
    return result
