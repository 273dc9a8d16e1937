"""The reader of BTF: synthetic and hostile blobs, and the running kernel's against what bpftool says of it."""

from __future__ import annotations

import contextlib
import json
import signal
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.kernel.btf_blobs import (
    DECL_TAG,
    ENUM64,
    FLOAT,
    HEADER,
    RESTRICT,
    TYPE_TAG,
    VAR,
    VOLATILE,
    Blob,
    Kernel,
    Member,
)
from tracer.kernel import layouts
from tracer.kernel.btf import Btf, BtfError, Field
from tracer.kernel.checks import Missing, Ok

PATHS = sorted({path for member in layouts.MEMBERS for path in member.paths})


def sample() -> Blob:
    """Some of everything."""
    blob = Blob()
    u32, u8 = blob.integer("u32", 4), blob.integer("u8", 1)
    blob.forward("sock")
    pointer = blob.pointer(blob.forward("peer"))
    blob.struct("sock", 0)
    inner = blob.struct("", 12, Member("deep", u32, 32), Member("flags", u8, 64, 3))
    choice = blob.union("", 12, Member("", inner), Member("other", u32))
    named = blob.struct("timer", 16, Member("expires", blob.typedef("jiffies_t", blob.const(u32)), 32))
    blob.struct(
        "sock",
        128,
        Member("state", u8),
        Member("timer", named, 64),
        Member("", choice, 256),
        Member("wmem", blob.array(pointer, 5), 384),
        Member("shutdown", u32, 709, 4),
    )
    for kind, name in ((VOLATILE, ""), (RESTRICT, ""), (TYPE_TAG, "rcu"), (FLOAT, "f")):
        blob.add(kind, name, u32)
    blob.add(VAR, "v", u32, [0])
    blob.add(DECL_TAG, "tag", u32, [0])
    blob.enum("sock_flags", {"SOCK_DEAD": 0, "SOCK_DONE": 1})
    blob.enum64("wide", {"A": 1, "B": 1 << 40})
    blob.tracepoint("probe", blob.pointer(blob.const(blob.struct("sk_buff", 4, Member("len", u32)))), u32)
    return blob


def ask_all(data: bytes) -> list[object]:
    """Everything that the reader can be asked."""
    btf = Btf(data)
    return [
        *map(
            btf.member, ("sock.state", "sock.timer.expires", "sock.deep", "sock.flags", "sock.wmem", "sock.shutdown", "sock.no")
        ),
        *map(btf.enum, ("sock_flags", "wide", "none")),
        *map(btf.tracepoint_arguments, ("probe", "none")),
        *map(btf.struct_id, ("sock", "peer", "none")),
        btf.function_id("none"),
    ]


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Ends what takes longer with a TimeoutError."""

    def end(*_: object) -> None:
        raise TimeoutError(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_all_of_the_sample_is_found() -> None:
    assert ask_all(sample().build()) == [
        Field(0, 1),
        Field(12, 4),
        Field(36, 4),
        Field(40, 1, 0, 3),
        Field(48, 40),
        Field(88, 2, 5, 4),
        None,
        {0: "SOCK_DEAD", 1: "SOCK_DONE"},
        {1: "A", 1 << 40: "B"},
        {},
        ["sk_buff *", "u32"],
        None,
        13,
        None,
        None,
        None,
    ]


def test_a_member_of_a_member_adds_the_offsets() -> None:
    blob = Blob()
    inner = blob.struct("ns_common", 16, Member("stashed", blob.integer("u64", 8)), Member("inum", blob.integer("u32", 4), 64))
    blob.struct("net", 64, Member("ns", blob.const(blob.typedef("ns_t", inner)), 128))
    btf = Btf(blob.build())
    assert btf.member("net.ns.inum") == Field(24, 4)
    assert btf.member("net.ns") == Field(16, 16)
    assert btf.member("net.inum") is None


def test_anonymous_structs_and_unions_are_looked_through_at_every_depth() -> None:
    blob = Blob()
    shape = blob.struct("", 8, Member("wanted", blob.integer("u32", 4), 32))
    for _ in range(5):
        shape = blob.union("", 16, Member("", shape, 0))
        shape = blob.struct("", 16, Member("", shape, 64))
    blob.struct("outer", 64, Member("", shape, 64))
    assert Btf(blob.build()).member("outer.wanted") == Field(8 + 5 * 8 + 4, 4)


def test_a_member_after_an_anonymous_one_is_found_too() -> None:
    blob = Blob()
    u32 = blob.integer("u32", 4)
    blob.struct("s", 12, Member("", blob.union("", 4, Member("a", u32), Member("b", u32)), 32), Member("c", u32, 64))
    btf = Btf(blob.build())
    assert [btf.member(f"s.{name}") for name in "abc"] == [Field(4, 4), Field(4, 4), Field(8, 4)]


@pytest.mark.parametrize("name", ["sta", "states", "tate", ""])
def test_a_part_of_a_name_is_not_the_name(name: str) -> None:
    blob = Blob()
    blob.struct("sock", 4, Member("state", blob.integer("u32", 4)))
    assert Btf(blob.build()).member(f"sock.{name}") is None


@pytest.mark.parametrize(
    ("at", "bits", "field"),
    [
        (0, 4, Field(0, 1, 0, 4)),
        (4, 4, Field(0, 1, 4, 4)),
        (17, 7, Field(2, 1, 1, 7)),
        (22, 4, Field(2, 2, 6, 4)),
        (31, 1, Field(3, 1, 7, 1)),
        (8, 32, Field(1, 4, 0, 32)),
        (12, 30, Field(1, 5, 4, 30)),
    ],
)
def test_both_encodings_of_a_bitfield_say_the_same(at: int, bits: int, field: Field) -> None:
    newer, older = Blob(), Blob()
    newer.struct("s", 16, Member("f", newer.integer("u64", 8), at, bits))
    older.struct("s", 16, Member("f", older.typedef("u64", older.integer("long", 8, bits)), at))
    assert Btf(newer.build()).member("s.f") == field
    assert Btf(older.build()).member("s.f") == field


def test_the_older_encoding_may_keep_a_part_of_the_offset_in_the_int() -> None:
    blob = Blob()
    blob.struct("s", 8, Member("f", blob.integer("int", 4, bits=3, shift=5), 16))
    assert Btf(blob.build()).member("s.f") == Field(2, 1, 5, 3)


def test_a_whole_member_among_bitfields_is_none() -> None:
    blob = Blob()
    u32 = blob.integer("u32", 4)
    blob.struct("s", 8, Member("f", u32, 0, 4), Member("whole", u32, 32))
    assert Btf(blob.build()).member("s.whole") == Field(4, 4)


def test_a_bitfield_keeps_its_place_through_an_anonymous_struct() -> None:
    blob = Blob()
    inner = blob.struct("", 4, Member("f", blob.integer("u32", 4), 9, 4))
    blob.struct("s", 16, Member("", inner, 64))
    assert Btf(blob.build()).member("s.f") == Field(9, 1, 1, 4)


def test_nothing_is_inside_a_bitfield() -> None:
    blob = Blob()
    inner = blob.struct("", 4, Member("f", blob.integer("u32", 4)))
    blob.struct("s", 4, Member("bits", inner, 0, 4))
    assert Btf(blob.build()).member("s.bits.f") is None


def test_sizes_of_arrays_and_pointers() -> None:
    blob = Blob()
    char = blob.integer("char", 1)
    pointer = blob.pointer(blob.forward("nowhere"))
    kinds = {
        "comm": blob.array(char, 16),
        "matrix": blob.array(blob.array(blob.integer("u16", 2), 3), 5),
        "pointers": blob.array(pointer, 4),
        "pointer": blob.const(pointer),
        "to_array": blob.pointer(blob.array(char, 16)),
        "flexible": blob.array(char, 0),
        "typedefs": blob.array(blob.typedef("t", blob.array(blob.const(char), 6)), 2),
    }
    blob.struct("s", 100, *(Member(name, kind) for name, kind in kinds.items()))
    btf = Btf(blob.build())
    found = {name: field.size for name in kinds if (field := btf.member(f"s.{name}"))}
    assert found == {"comm": 16, "matrix": 30, "pointers": 32, "pointer": 8, "to_array": 8, "flexible": 0, "typedefs": 12}


def test_what_has_no_size_says_so() -> None:
    blob = Blob()
    blob.struct("s", 8, Member("ahead", blob.forward("ahead")), Member("function", blob.prototype()))
    btf = Btf(blob.build())
    for name in ("ahead", "function"):
        with pytest.raises(BtfError, match="has no size"):
            btf.member(f"s.{name}")


def test_a_path_ends_at_a_pointer_or_an_array() -> None:
    blob = Blob()
    inner = blob.struct("inner", 4, Member("x", blob.integer("u32", 4)))
    blob.struct("s", 16, Member("to", blob.pointer(inner)), Member("many", blob.array(inner, 2), 64))
    btf = Btf(blob.build())
    assert btf.member("s.to.x") is None and btf.member("s.many.x") is None


def test_a_typedef_that_bites_its_tail_leads_nowhere() -> None:
    blob = Blob()
    blob.struct("s", 4, Member("x", 3))
    blob.typedef("a", 3)
    blob.typedef("b", 2)
    with pytest.raises(BtfError, match="leads nowhere"):
        Btf(blob.build()).member("s.x")


def test_a_forward_declaration_and_an_empty_struct_are_none_of_that_name() -> None:
    blob = Blob()
    blob.forward("sock")
    blob.struct("sock", 0)
    assert Btf(blob.build()).struct_id("sock") is None
    blob.struct("sock", 4, Member("state", blob.integer("u32", 4)))
    btf = Btf(blob.build())
    assert btf.struct_id("sock") is not None and btf.member("sock.state") == Field(0, 4)


def test_a_union_typedef_or_function_of_the_name_is_no_struct() -> None:
    blob = Blob()
    u32 = blob.integer("u32", 4)
    blob.union("sock", 4, Member("state", u32))
    blob.typedef("sock", u32)
    blob.add(12, "sock", blob.prototype(), length=1)
    btf = Btf(blob.build())
    assert btf.struct_id("sock") is None and btf.member("sock.state") is None
    assert btf.function_id("sock") is not None


def test_what_the_kernel_lacks_is_none() -> None:
    btf = Btf(sample().build())
    assert btf.member("socket.sk") is None
    assert btf.member("sock") is None
    assert btf.member("sock.state.more") is None
    assert btf.member("sock_flags.SOCK_DEAD") is None
    assert btf.enum("sock") == {} and btf.tracepoint_arguments("sock") is None
    assert btf.function_id("sock") is None


def test_names_expected_together_are_those_asked_for_one_by_one() -> None:
    btf = Btf(sample().build())
    btf.expect({"sock", "wide", "btf_trace_probe", "none"})
    assert btf.member("sock.state") == Field(0, 1)
    assert btf.enum("wide") == {1: "A", 1 << 40: "B"}
    assert btf.tracepoint_arguments("probe") == ["sk_buff *", "u32"]
    assert btf.struct_id("none") is None


def test_arguments_are_spelled_without_qualifiers_and_tags() -> None:
    blob = Blob()
    sock = blob.struct("sock", 4, Member("state", blob.integer("u8", 1)))
    reason = blob.enum("sk_rst_reason", {"A": 0})
    blob.tracepoint(
        "each",
        blob.pointer(blob.const(sock)),
        blob.const(blob.add(TYPE_TAG, "rcu", blob.pointer(blob.pointer(sock)))),
        blob.pointer(blob.const(0)),
        blob.const(reason),
        blob.pointer(blob.forward("peer")),
        blob.typedef("u_int", blob.integer("unsigned int", 4)),
        0,
    )
    blob.tracepoint("none")
    btf = Btf(blob.build())
    assert btf.tracepoint_arguments("each") == [
        "sock *",
        "sock **",
        "void *",
        "sk_rst_reason",
        "peer *",
        "unsigned int",
        "void",
    ]
    assert btf.tracepoint_arguments("none") == []


def test_a_tracepoint_that_is_no_function_says_so() -> None:
    blob = Blob()
    blob.typedef("btf_trace_odd", blob.pointer(blob.integer("int", 4)))
    with pytest.raises(BtfError, match="no function"):
        Btf(blob.build()).tracepoint_arguments("odd")


def test_a_pointer_that_never_ends_says_so() -> None:
    blob = Blob()
    blob.tracepoint("odd", blob.pointer(1))
    with pytest.raises(BtfError, match="never ends"):
        Btf(blob.build()).tracepoint_arguments("odd")


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"magic": 0x9FEB}, "byte order"),
        ({"version": 2}, "version 2"),
        ({"types_length": 6}, "too soon"),
        ({"types_length": 0xFFFFFFFC}, "too soon"),
        ({"types": 0xFFFFFFFC}, "too soon"),
        ({"names": 0xFFFFFFFF}, "too soon"),
        ({"names_length": 0}, "no end"),
        ({"names_length": 3}, "no end"),
        ({"length": 0xFFFFFFFF}, "too soon"),
    ],
)
def test_a_header_that_lies_is_refused(header: dict[str, int], why: str) -> None:
    with pytest.raises(BtfError, match=why):
        Btf(sample().build(**header))


def test_types_may_stand_behind_a_longer_header() -> None:
    data = sample().build(length=HEADER.size + 8)
    assert ask_all(data[: HEADER.size] + bytes(8) + data[HEADER.size :]) == ask_all(sample().build())


@pytest.mark.parametrize("kind", [0, 20, 31])
def test_a_kind_of_type_that_nobody_knows_is_refused(kind: int) -> None:
    blob = sample()
    blob.add(kind, "new", 0)
    with pytest.raises(BtfError, match="kind"):
        Btf(blob.build())


def test_a_last_type_with_more_members_than_bytes_is_refused() -> None:
    blob = sample()
    blob.add(ENUM64, "short", 8, [0, 0], length=1)
    with pytest.raises(BtfError, match="too soon"):
        Btf(blob.build())


def test_a_name_outside_of_the_names_is_refused() -> None:
    blob = Blob()
    blob.enum("flags", {"A": 0})
    data = bytearray(blob.build())
    struct.pack_into("=I", data, HEADER.size + 12, 1 << 20)
    with pytest.raises(BtfError, match="lies outside"):
        Btf(bytes(data)).enum("flags")


def test_every_truncation_is_refused() -> None:
    whole = sample().build()
    for length in range(len(whole)):
        with pytest.raises(BtfError):
            Btf(whole[:length])


def test_every_truncation_of_the_types_alone_is_refused_or_read() -> None:
    whole = sample().build()
    (length,) = struct.unpack_from("=I", whole, 12)
    for kept in range(4, length, 4):
        with contextlib.suppress(BtfError):
            ask_all(sample().build(types_length=kept))


SAMPLE = sample().build()
changes = st.tuples(st.integers(HEADER.size, len(SAMPLE) - 1), st.integers(0, 255))


# No more changes than three: see the anonymous members that contain themselves, below
@settings(max_examples=300, deadline=None)
@given(st.lists(changes, min_size=1, max_size=3))
def test_changed_bytes_are_refused_or_read(changed: list[tuple[int, int]]) -> None:
    data = bytearray(SAMPLE)
    for at, value in changed:
        data[at] = value
    with within(20), contextlib.suppress(BtfError):
        ask_all(bytes(data))


@settings(deadline=None)
@given(st.binary(max_size=HEADER.size), st.binary(max_size=64))
@example(HEADER.pack(0xEB9F, 1, 0, 0, 0, 0, 0, 24), b"")
def test_any_header_is_refused_or_read(header: bytes, rest: bytes) -> None:
    with contextlib.suppress(BtfError):
        ask_all(header + rest)


@st.composite
def graphs(draw: st.DrawFn) -> bytes:
    """Sound records that refer to whatever there is or is not. A struct has at most one anonymous member: see below."""
    count = draw(st.integers(1, 12))
    ids, sizes = st.integers(0, count + 1), st.sampled_from([0, 1, 8, 709, 0xFFFFFF])
    names = st.sampled_from(["", "sock", "timer", "sock_flags", "wide", "btf_trace_probe", "sk_buff"])
    inner = st.sampled_from(["state", "timer", "expires", "deep", "flags", "wmem", "shutdown"])
    blob = Blob()
    for _ in range(count):
        kind, name, third = draw(st.integers(1, 19)), draw(names), draw(ids)
        if kind in {4, 5}:
            members = [
                Member(draw(inner), draw(ids), draw(sizes), draw(st.integers(0, 255))) for _ in range(draw(st.integers(0, 3)))
            ]
            members += [Member("", draw(ids), draw(sizes))] * draw(st.integers(0, 1))
            blob.struct(name, draw(sizes), *members, kind=kind)
        elif kind == 13:
            blob.prototype(*draw(st.lists(ids, max_size=4)))
        else:
            each = {6: 2, 15: 3, 19: 3}.get(kind, 0)
            length = draw(st.integers(0, 3)) if each else 0
            fixed = {1: 1, 3: 3, 14: 1, 17: 1}.get(kind, 0)
            blob.add(
                kind, name, third, [draw(ids) for _ in range(fixed + each * length)], length=length, flag=draw(st.booleans())
            )
    return blob.build()


@settings(max_examples=300, deadline=None)
@given(graphs())
def test_any_graph_of_types_is_refused_or_read(data: bytes) -> None:
    with within(20), contextlib.suppress(BtfError):
        ask_all(data)


def test_a_name_without_types_is_nobodys() -> None:
    blob = Blob()
    blob.name("sock")
    assert Btf(blob.build()).struct_id("sock") is None


def test_void_has_no_size() -> None:
    with pytest.raises(BtfError, match="has no size"):
        Btf(sample().build()).size(0)


def test_a_tracepoint_that_is_void_says_so() -> None:
    blob = Blob()
    blob.prototype(0, 0)
    blob.typedef("btf_trace_odd", 0)
    with pytest.raises(BtfError):
        Btf(blob.build()).tracepoint_arguments("odd")


def test_anonymous_members_that_contain_themselves_end_soon() -> None:
    blob = Blob()
    blob.struct("s", 8, *[Member("", 1)] * 4)
    btf = Btf(blob.build())
    with within(1), contextlib.suppress(BtfError):
        assert btf.member("s.x") is None


@pytest.mark.parametrize("wide", [False, True])
def test_a_declared_enum_does_not_hide_the_one_with_values(wide: bool) -> None:
    blob = Blob()
    blob.enum("flags", {})
    (blob.enum64 if wide else blob.enum)("flags", {"A": 1})
    assert Btf(blob.build()).enum("flags") == {1: "A"}


class Witness:
    """The running kernel's types as bpftool tells them."""

    def __init__(self, types: list[dict[str, Any]]) -> None:
        self._by_id = {one["id"]: one for one in types}
        self._by_name: dict[tuple[str, str], dict[str, Any]] = {}
        for one in types:
            if one.get("vlen", 1):
                self._by_name.setdefault((one["kind"], one.get("name", "")), one)

    def named(self, kind: str, name: str) -> dict[str, Any] | None:
        return self._by_name.get((kind, name))

    def behind(self, type_id: int) -> dict[str, Any]:
        one = self._by_id[type_id]
        while one["kind"] in {"TYPEDEF", "CONST", "VOLATILE", "RESTRICT", "TYPE_TAG"}:
            one = self._by_id[one["type_id"]]
        return one

    def size(self, one: dict[str, Any]) -> int:
        if one["kind"] == "ARRAY":
            return int(one["nr_elems"]) * self.size(self.behind(one["type_id"]))
        return 8 if one["kind"] == "PTR" else int(one["size"])

    def flat(self, one: dict[str, Any], base: int = 0) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Name, bit and member of all members, in anonymous ones too."""
        for member in one.get("members", ()):
            at = base + member["bits_offset"]
            if member["name"] == "(anon)":
                yield from self.flat(self.behind(member["type_id"]), at)
            else:
                yield member["name"], at, member

    def member(self, path: str) -> Field | None:
        first, *rest = path.split(".")
        holder, at, bits = self.named("STRUCT", first), 0, 0
        for name in rest:
            found = [(bit, member) for text, bit, member in self.flat(holder or {}) if text == name]
            if not found:
                return None
            ((bit, member),) = found
            at, bits, holder = at + bit, member.get("bitfield_size", 0), self.behind(member["type_id"])
        assert holder is not None
        if not bits:
            return Field(at // 8, self.size(holder))
        return Field(at // 8, len({bit // 8 for bit in range(at, at + bits)}), at % 8, bits)

    def arguments(self, tracepoint: str) -> list[str] | None:
        one = self.named("TYPEDEF", f"btf_trace_{tracepoint}")
        if one is None:
            return None
        function = self.behind(self.behind(one["type_id"])["type_id"])
        return [self.spelled(parameter["type_id"]) for parameter in function["params"][1:]]

    def spelled(self, type_id: int) -> str:
        one = self.behind(type_id)
        return f"{self.behind(one['type_id'])['name']} *" if one["kind"] == "PTR" else str(one["name"])


@pytest.fixture(scope="module")
def witness() -> Witness:
    command = ["bpftool", "-j", "btf", "dump", "file", "/sys/kernel/btf/vmlinux", "format", "raw"]
    return Witness(json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["types"])


@pytest.fixture(scope="module")
def running() -> Btf:
    return Btf.load()


@pytest.mark.kernel
@pytest.mark.parametrize("path", PATHS)
def test_the_running_kernels_members_are_where_bpftool_sees_them(path: str, running: Btf, witness: Witness) -> None:
    assert running.member(path) == witness.member(path)


@pytest.mark.kernel
@pytest.mark.parametrize("name", layouts.TRACEPOINTS)
def test_the_running_kernels_tracepoints_take_what_bpftool_sees(name: str, running: Btf, witness: Witness) -> None:
    assert running.tracepoint_arguments(name) == witness.arguments(name)


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["sk_rst_reason", *layouts.ENUMERATORS])
def test_the_running_kernels_enums_have_the_values_that_bpftool_sees(name: str, running: Btf, witness: Witness) -> None:
    seen = witness.named("ENUM", name) or {"values": []}
    assert running.enum(name) == {one["val"]: one["name"] for one in seen["values"]}


@pytest.mark.kernel
def test_the_running_kernel_resolves(witness: Witness) -> None:
    layout = layouts.resolve(Btf.load())
    for member in layouts.MEMBERS:
        assert (f"OFF_{member.name}" in layout.defines) != (member.name in layout.missing)
    assert all(value.isdigit() for value in layout.defines.values())
    sock = witness.named("STRUCT", "sock")
    assert sock is not None and int(layout.defines["OFF_SK_ERR"]) < sock["size"]
    assert all(isinstance(found, Ok | Missing) for found in layout.tracepoints.values())
    assert layout.tracepoints["tcp_probe"] == Ok("(sock *, sk_buff *)")


def test_a_saved_blob_loads_and_one_that_is_none_does_not(tmp_path: Path) -> None:
    saved = tmp_path / "vmlinux"
    saved.write_bytes(Kernel().blob().build())
    assert Btf.load(saved).struct_id("tcp_sock") is not None
    saved.write_bytes(b"\x7fELF" + bytes(60))
    with pytest.raises(BtfError, match="byte order"):
        Btf.load(saved)
    with pytest.raises(FileNotFoundError):
        Btf.load(tmp_path / "none")
