"""The Python layouts against what a C compiler makes of bpf/records.h, and hostile bytes."""

from __future__ import annotations

import contextlib
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.events import wire
from tracer.events.records import Actor, Reset, Socket, SockState, Window

ROOT = Path(__file__).resolve().parents[2]

TYPES = """
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64; typedef int32_t s32;
#include "records.h"
"""


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Every size and offset that we rely on, as the C compiler sees it."""
    fields = {f"sock_state.{name}": f"offsetof(struct sock_state, {name})" for name in SockState._fields}
    structs = "record actor sock_state socket_record event_record listener_record owner_record calibrated_record"
    sizes = {f"sizeof {name}": f"sizeof(struct {name})" for name in structs.split()}
    others = {
        "socket_record.actor": "offsetof(struct socket_record, actor)",
        "socket_record.sock": "offsetof(struct socket_record, sock)",
        "event_record.sock": "offsetof(struct event_record, sock)",
        "event_record.detail": "offsetof(struct event_record, detail)",
        "RESET_HAS_SOCKET": "(size_t)RESET_HAS_SOCKET",
        "RESET_PASSIVE": "(size_t)RESET_PASSIVE",
        "RESET_HAS_REASON": "(size_t)RESET_HAS_REASON",
        "owner_record.comm": "offsetof(struct owner_record, comm)",
        "listener_record.port": "offsetof(struct listener_record, port)",
        "RECORD_KINDS": "(size_t)RECORD_KINDS",
    }
    lines = "".join(f'printf("{k}=%zu\\n", {v});\n' for k, v in {**fields, **sizes, **others}.items())
    work = tmp_path_factory.mktemp("layout")
    source = work / "layout.c"
    source.write_text(TYPES + "int main(void) {\n" + lines + "return 0; }\n")
    subprocess.run(["gcc", "-I", ROOT / "bpf", "-o", work / "layout", source], check=True)
    text = subprocess.run([work / "layout"], check=True, capture_output=True, text=True).stdout
    return {key: int(value) for key, value in (line.split("=") for line in text.splitlines())}


def offsets(layout: struct.Struct) -> list[int]:
    """The offset of each value of a packed format."""
    out, at = [], 0
    for code in _codes(layout.format):
        out.append(at)
        at += struct.calcsize("<" + code)
    return out


def _codes(text: str) -> list[str]:
    codes, count = [], ""
    for char in text.lstrip("<").replace(" ", ""):
        if char.isdigit():
            count += char
        elif char == "s":
            codes.append(count + "s")
            count = ""
        elif char == "x":
            count = ""  # what the compiler puts behind the last field
        else:
            codes += [char] * int(count or 1)
            count = ""
    return codes


def test_sock_state_fields_stand_where_the_compiler_puts_them(compiled: dict[str, int]) -> None:
    assert [compiled[f"sock_state.{name}"] for name in SockState._fields] == offsets(wire.SOCK_STATE)
    assert compiled["sizeof sock_state"] == wire.SOCK_STATE.size


def test_records_have_the_sizes_the_compiler_gives_them(compiled: dict[str, int]) -> None:
    assert compiled["sizeof record"] == wire.HEADER.size
    assert compiled["sizeof actor"] == wire.ACTOR.size
    assert compiled["socket_record.actor"] == wire.HEADER.size
    assert compiled["socket_record.sock"] == wire.PREFIX
    assert compiled["sizeof socket_record"] == wire.TAIL
    assert compiled["sizeof listener_record"] == wire.LISTENER.size
    assert compiled["sizeof owner_record"] == wire.OWNER.size
    assert compiled["sizeof calibrated_record"] == wire.CALIBRATED.size
    assert compiled["event_record.sock"] == wire.PREFIX
    assert compiled["event_record.detail"] == wire.TAIL
    assert compiled["sizeof event_record"] == wire.TAIL + wire.DETAIL.size
    assert compiled["owner_record.comm"] == offsets(wire.OWNER)[-1]
    assert compiled["listener_record.port"] == offsets(wire.LISTENER)[6]


def test_the_bits_of_a_reset_are_the_headers(compiled: dict[str, int]) -> None:
    for name in ("RESET_HAS_SOCKET", "RESET_PASSIVE", "RESET_HAS_REASON"):
        assert compiled[name] == getattr(wire, name)


def test_every_kind_has_a_name_and_a_decoder(compiled: dict[str, int]) -> None:
    assert compiled["RECORD_KINDS"] == len(wire.KIND_NAMES)
    for kind in range(1, len(wire.KIND_NAMES)):
        wire.decode(wire.HEADER.pack(kind, 400, 1) + bytes(400), {})


def record(kind: str, tail: bytes = b"", *, actor: bytes = bytes(24), **values: Any) -> bytes:
    sock = SockState._make(bytes(16) if name.endswith("_addr") else 0 for name in SockState._fields)
    body = actor + wire.SOCK_STATE.pack(*sock._replace(**values)) + tail
    return wire.HEADER.pack(wire.KIND_NAMES.index(kind), wire.HEADER.size + len(body), 77) + body


def test_a_socket_record_comes_back_field_for_field() -> None:
    decoded = wire.decode(record("socket", rcv_nxt=9, copied_seq=4, linger2=-1, local_port=443, srtt_us=8), {})
    assert isinstance(decoded, Socket)
    assert (decoded.ns, decoded.sock.recv_q, decoded.sock.linger2) == (77, 5, -1)
    assert (decoded.sock.local_port, decoded.sock.srtt_us) == (443, 8)


def test_a_reset_is_named_by_the_running_kernels_enum() -> None:
    actor = wire.ACTOR.pack(12, 13, b"ja\x1bva\0garbage")
    decoded = wire.decode(
        record("reset-sent", wire.DETAIL.pack(11, wire.RESET_HAS_SOCKET | wire.RESET_HAS_REASON), actor=actor),
        {11: "TCP_ABORT_ON_CLOSE"},
    )
    assert isinstance(decoded, Reset)
    assert (decoded.direction, decoded.reason, decoded.has_socket) == ("sent", "TCP_ABORT_ON_CLOSE", True)
    assert decoded.actor == Actor(12, 13, r"ja\x1bva")


def test_without_an_enum_the_reason_is_unknown_rather_than_zeros_name() -> None:
    decoded = wire.decode(record("reset-sent", wire.DETAIL.pack(0, wire.RESET_HAS_SOCKET)), {0: "NOT_SPECIFIED"})
    assert isinstance(decoded, Reset) and decoded.reason is None


def test_an_iterators_output_is_cut_at_the_records_own_sizes() -> None:
    window = record("window", wire.DETAIL.pack(2, 1024))
    first, second = wire.decode_all(window + record("socket"), {})
    assert isinstance(first, Window) and (first.side, first.window) == ("peer", 1024)
    assert isinstance(second, Socket)


@pytest.mark.parametrize(
    "data",
    [b"", b"\1\0\0\0", wire.HEADER.pack(99, 16, 0), wire.HEADER.pack(1, 16, 0), wire.HEADER.pack(1, 400, 0)],
)
def test_foreign_bytes_are_refused_with_a_wire_error(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(data, {})


@given(st.binary(max_size=400))
def test_any_bytes_give_records_or_a_wire_error(data: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        list(wire.decode_all(data, {}))
