"""What bcc has no calls for: running a raw tracepoint program once, and loading one for a typed tracepoint.

The union bpf_attr is laid out as in include/uapi/linux/bpf.h. BPF_PROG_TEST_RUN takes raw tracepoints since Linux 5.10; typed
ones (BPF_TRACE_RAW_TP, whose arguments the verifier knows the types of) came with 5.5.
"""

from __future__ import annotations

import ctypes as ct
import os
import platform
import struct
from typing import Final

CAST_CALL: Final = 0x7FF00001
"""Stands in a compiled program for bpf_rdonly_cast(); no helper has that number."""

_BPF_PROG_LOAD: Final = 5
_BPF_PROG_TEST_RUN: Final = 10
_BPF_RAW_TRACEPOINT_OPEN: Final = 17
_BPF_PROG_TYPE_TRACING: Final = 26
_BPF_TRACE_RAW_TP: Final = 23
_INSTRUCTION: Final = 8
_CODE: Final = struct.Struct("<BBhi")
_CALL: Final = 0x85
_PSEUDO_KFUNC_CALL: Final = 2
_LONGEST_NAME: Final = 15
_SYSCALLS: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351, "loongarch64": 280}


class _Load(ct.Structure):
    _fields_ = (
        ("prog_type", ct.c_uint32),
        ("insn_cnt", ct.c_uint32),
        ("insns", ct.c_uint64),
        ("license", ct.c_uint64),
        ("log_level", ct.c_uint32),
        ("log_size", ct.c_uint32),
        ("log_buf", ct.c_uint64),
        ("kern_version", ct.c_uint32),
        ("prog_flags", ct.c_uint32),
        ("prog_name", ct.c_char * 16),
        ("prog_ifindex", ct.c_uint32),
        ("expected_attach_type", ct.c_uint32),
        ("prog_btf_fd", ct.c_uint32),
        ("func_info_rec_size", ct.c_uint32),
        ("func_info", ct.c_uint64),
        ("func_info_cnt", ct.c_uint32),
        ("line_info_rec_size", ct.c_uint32),
        ("line_info", ct.c_uint64),
        ("line_info_cnt", ct.c_uint32),
        ("attach_btf_id", ct.c_uint32),
    )


class _Run(ct.Structure):
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


class _Open(ct.Structure):
    _fields_ = (("name", ct.c_uint64), ("prog_fd", ct.c_uint32), ("reserved", ct.c_uint32))


_libc = ct.CDLL(None, use_errno=True)


def run_raw_tracepoint(program_fd: int, argument: int) -> int | None:
    """What the program returned for args[0] = `argument`; None where the kernel cannot run it so."""
    arguments = (ct.c_uint64 * 1)(argument)
    run = _Run(prog_fd=program_fd, ctx_size_in=ct.sizeof(arguments), ctx_in=ct.addressof(arguments))
    try:
        _bpf(_BPF_PROG_TEST_RUN, run)
    except OSError:
        return None
    return int(run.retval)


def with_casts(code: bytes, cast_id: int) -> bytes:
    """The program with its calls of CAST_CALL made calls of the kernel's function of that BTF id.

    bcc's C has no way to write them, and the kernel puts a move in the place of each. (struct bpf_insn: the opcode, two
    registers, an offset, and what is called.)
    """
    instructions = bytearray(code)
    for at in range(0, len(code), _INSTRUCTION):
        opcode, registers, offset, called = _CODE.unpack_from(code, at)
        if opcode == _CALL and called == CAST_CALL:
            _CODE.pack_into(instructions, at, opcode, registers & 0x0F | _PSEUDO_KFUNC_CALL << 4, offset, cast_id)
    return bytes(instructions)


def load_typed(name: str, code: bytes, btf_id: int, cast_id: int | None = None) -> int:
    """A descriptor of the program, loaded for the tracepoint whose btf_trace_… has that id; with `cast_id` it may have casts.

    Raises OSError.
    """
    if cast_id is not None:
        code = with_casts(code, cast_id)
    instructions, gpl = ct.create_string_buffer(code), ct.create_string_buffer(b"GPL")
    load = _Load(
        prog_type=_BPF_PROG_TYPE_TRACING,
        insn_cnt=len(code) // _INSTRUCTION,
        insns=ct.addressof(instructions),
        license=ct.addressof(gpl),
        prog_name=name.encode()[:_LONGEST_NAME],
        expected_attach_type=_BPF_TRACE_RAW_TP,
        attach_btf_id=btf_id,
    )
    return _bpf(_BPF_PROG_LOAD, load)


def attach_typed(program_fd: int) -> int:
    """Attaches it to its tracepoint for as long as the descriptor that is returned is open. Raises OSError."""
    return _bpf(_BPF_RAW_TRACEPOINT_OPEN, _Open(prog_fd=program_fd))


def _bpf(command: int, attr: ct.Structure) -> int:
    number = _SYSCALLS.get(platform.machine())
    if number is None:
        raise OSError(f"the number of bpf() on {platform.machine()} is not known")
    result = int(_libc.syscall(ct.c_long(number), ct.c_long(command), ct.byref(attr), ct.c_size_t(ct.sizeof(attr))))
    if result < 0:
        code = ct.get_errno()
        raise OSError(code, os.strerror(code))
    return result
