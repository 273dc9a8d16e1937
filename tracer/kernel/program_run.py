"""BPF_PROG_TEST_RUN: runs a loaded raw tracepoint program once, here and now, with an argument of ours.

bcc has no call for it. The union bpf_attr is laid out as in include/uapi/linux/bpf.h; raw tracepoints take it since Linux 5.10.
"""

from __future__ import annotations

import ctypes as ct
import platform
from typing import Final

_BPF_PROG_TEST_RUN: Final = 10
_SYSCALLS: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351, "loongarch64": 280}


class _Attr(ct.Structure):
    _fields_ = (
        ("prog_fd", ct.c_uint32),
        ("retval", ct.c_uint32),
        ("data_size_in", ct.c_uint32),
        ("data_size_out", ct.c_uint32),
        ("data_in", ct.c_uint64),
        ("data_out", ct.c_uint64),
        ("repeat", ct.c_uint32),
        ("duration", ct.c_uint32),
        ("ctx_size_in", ct.c_uint32),
        ("ctx_size_out", ct.c_uint32),
        ("ctx_in", ct.c_uint64),
        ("ctx_out", ct.c_uint64),
        ("flags", ct.c_uint32),
        ("cpu", ct.c_uint32),
    )


_libc = ct.CDLL(None, use_errno=True)


def run_raw_tracepoint(program_fd: int, argument: int) -> int | None:
    """What the program returned for args[0] = `argument`; None where the kernel cannot run it so."""
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        return None
    arguments = (ct.c_uint64 * 1)(argument)
    attr = _Attr(prog_fd=program_fd, ctx_size_in=ct.sizeof(arguments), ctx_in=ct.addressof(arguments))
    if _libc.syscall(ct.c_long(number), ct.c_long(_BPF_PROG_TEST_RUN), ct.byref(attr), ct.c_size_t(ct.sizeof(attr))):
        return None
    return int(attr.retval)
