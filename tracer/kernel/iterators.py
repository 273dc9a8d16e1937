"""BPF iterators, opened through bcc's library: the sockets of a network namespace, the processes that hold sockets."""

from __future__ import annotations

import ctypes as ct
import os
from typing import Any, Final

from tracer.errors import TcptraceError

_CHUNK: Final = 1 << 20


class Iterator:
    """One loaded iterator program. `read()` runs it once, in the calling thread's network namespace."""

    def __init__(self, bpf: Any, target: str) -> None:
        """`target` is the kernel's name: tcp, task_file. Raises TcptraceError where the kernel has no such iterator."""
        from bcc import BPF, lib

        self._lib = lib
        lib.bcc_iter_attach.argtypes = [ct.c_int, ct.c_void_p, ct.c_uint32]
        try:
            program = bpf.load_func(f"bpf_iter__{target}", BPF.TRACING)
        except Exception as error:
            raise _refused(target, str(error)) from error
        self._link_fd = lib.bcc_iter_attach(program.fd, None, 0)
        if self._link_fd < 0:
            raise _refused(target, os.strerror(-self._link_fd))
        self.target = target

    def read(self) -> bytes:
        """All that the program writes in one run. Raises OSError."""
        fd = self._lib.bcc_iter_create(self._link_fd)
        if fd < 0:
            raise OSError(-fd, f"the {self.target} iterator could not be opened")
        try:
            chunks = []
            while chunk := os.read(fd, _CHUNK):
                chunks.append(chunk)
        finally:
            os.close(fd)
        return b"".join(chunks)

    def close(self) -> None:
        """Gives the link back."""
        if self._link_fd >= 0:
            os.close(self._link_fd)
            self._link_fd = -1


def _refused(target: str, why: str) -> TcptraceError:
    return TcptraceError(
        f"the kernel refused the {target} iterator: {why}",
        "it needs Linux 5.11 or later with BTF; run `tcptrace doctor`",
    )
