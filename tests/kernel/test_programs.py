"""The programs' filter as C, what the compiler is told, what is counted as lost, and kernels that lack a tracepoint."""

from __future__ import annotations

import ctypes as ct
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab import hosts
from tests.lab.actor import actor, connect
from tracer.errors import TcptraceError
from tracer.events.wire import KIND_NAMES
from tracer.kernel import iterators, layouts, paths, programs
from tracer.kernel.btf import Btf
from tracer.kernel.checks import Missing
from tracer.kernel.layouts import Layout
from tracer.kernel.namespaces import entered
from tracer.kernel.program_run import CAST_CALL, load_typed, with_casts
from tracer.kernel.programs import LOST_WITHOUT, Options, Programs, compiler_flags, port_condition

pytestmark = pytest.mark.filterwarnings("ignore:not a bytes object:DeprecationWarning")  # bcc's own, of itself

PORT = 7843
NONE: Mapping[str, Missing] = {}
ANY_U16 = st.integers(0, 65535)
ranges = st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(lambda ends: range(min(ends), max(ends) + 1))


def matches(condition: str, port: int) -> bool:
    """What C makes of the condition for a port."""
    assert re.fullmatch(r"[()pu0-9=|<-]+", condition.replace("u16", "u"))
    python = re.sub(r"\(u16\)\(([^)]*\)-\d+)\)", r"((\1) & 0xffff)", condition).replace("||", " or ")
    return bool(eval(python, {"p": port}))


def defines(options: Options) -> dict[str, str]:
    """The macros that the compiler is given."""
    flags = compiler_flags(Layout({"OFF_RCV_NXT": "1380"}, {}, {}, {}), options, paths.bpf_dir())
    return dict(flag[2:].split("=", 1) for flag in flags if flag.startswith("-D"))


def counting(**tables: list[int]) -> Programs:
    """Programs whose maps hold these counts."""
    return Programs(
        {name: {slot: ct.c_ulonglong(count) for slot, count in enumerate(counts)} for name, counts in tables.items()}
    )


@pytest.mark.parametrize(
    ("ports", "condition"),
    [
        ([], "1"),
        ([range(443, 444)], "((p)==443)"),
        ([range(443, 444), range(80, 81)], "((p)==443||(p)==80)"),
        ([range(8000, 8002)], "(((u16)((p)-8000)<2))"),
        ([range(1, 65536)], "(((u16)((p)-1)<65535))"),
    ],
)
def test_the_filter_is_a_comparison_a_port_or_range(ports: list[range], condition: str) -> None:
    assert port_condition(ports) == condition


@given(st.lists(ranges, min_size=1, max_size=5), st.lists(ANY_U16, max_size=20))
def test_the_filter_takes_the_users_ports_and_no_others(ports: list[range], others: list[int]) -> None:
    edges = {edge for one in ports for edge in (one.start - 1, one.start, one.stop - 1, min(one.stop, 65535))}
    condition = port_condition(ports)
    for port in {0, 65535, *edges, *others}:
        assert matches(condition, port) == any(port in one for one in ports)


@given(ANY_U16)
def test_without_a_filter_all_ports_are_taken(port: int) -> None:
    assert matches(port_condition([]), port)


def test_the_compiler_is_told_what_was_asked_for_and_no_more() -> None:
    plain = defines(Options())
    assert (plain["OFF_RCV_NXT"], plain["PORT_MATCHES(p)"]) == ("1380", "1")
    assert not {"PORT_FILTER", "EVERYTHING"} & plain.keys()
    chosen = defines(Options([range(443, 444)], everything=True, ring_pages=8, tracks=99))
    assert chosen["PORT_MATCHES(p)"] == "((p)==443)"
    assert {"PORT_FILTER": "1", "EVERYTHING": "1", "RING_PAGES": "8", "TRACKS": "99"}.items() <= chosen.items()
    assert chosen.keys() - plain.keys() == {"PORT_FILTER", "EVERYTHING"}


def test_each_tracepoint_has_a_program_and_each_program_is_in_the_text() -> None:
    text = programs.source(paths.bpf_dir())
    assert [name for name in LOST_WITHOUT if not re.search(rf"\bon_{name}\b|RAW_TRACEPOINT_PROBE\({name}\)", text)] == []
    assert sorted(programs.SOURCES) == sorted(path.name for path in paths.bpf_dir().glob("*.[ch]"))


def test_what_is_lost_has_the_name_of_its_kind_or_table() -> None:
    counts = [0] * (len(KIND_NAMES) + 1)
    assert counting(lost=counts).losses() == ({}, {})
    counts[0], counts[len(KIND_NAMES) - 1], counts[-1] = 3, 5, 7
    assert counting(lost=counts).losses() == ({KIND_NAMES[0]: 3, KIND_NAMES[-1]: 5}, {"tracks": 7})


def test_what_was_scanned_is_counted_anew_each_time() -> None:
    one = counting(scanned=[42])
    assert [one.take_scanned(), one.take_scanned()] == [42, 0]


@contextmanager
def loaded(layout: Layout, options: Options = Options(), absent: Mapping[str, Missing] = NONE) -> Iterator[Programs]:
    """The programs at work on the running kernel."""
    one = programs.load(layout, options, paths.bpf_dir(), absent)
    try:
        yield one
    finally:
        one.close()


@pytest.fixture(scope="module")
def layout() -> Layout:
    return layouts.resolve(Btf.load())


@pytest.mark.kernel
def test_on_this_kernel_all_are_attached(layout: Layout) -> None:
    with loaded(layout) as one:
        assert (one.attached, one.missing) == (list(LOST_WITHOUT), {})
        assert len(one.typed_fds) == 3 * len(programs.TYPED)
        assert one.losses() == ({}, {})


@pytest.mark.kernel
@pytest.mark.parametrize("names", [["tcp_probe"], ["tcp_send_reset", "tcp_receive_reset"], list(LOST_WITHOUT)])
def test_a_kernel_without_some_tracepoints_still_has_the_others(layout: Layout, names: list[str]) -> None:
    absent = {name: Missing(f"the kernel has no {name}", "boot a newer one", LOST_WITHOUT[name]) for name in names}
    with loaded(layout, absent=absent) as one:
        assert one.missing == absent
        assert one.attached == [name for name in LOST_WITHOUT if name not in names]


@pytest.mark.kernel
def test_a_tracepoint_that_the_kernel_turns_out_not_to_have_costs_only_what_it_says(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = programs.source(paths.bpf_dir()) + "int on_frobnicated(void *ctx) { return 0; }\n"
    monkeypatch.setattr(programs, "source", lambda _: text)
    monkeypatch.setattr(programs, "LOST_WITHOUT", {"frobnicated": "frobs are not seen", "unwritten": "nothing", **LOST_WITHOUT})
    with loaded(layout) as one:
        assert one.attached == list(LOST_WITHOUT)
        assert one.missing.keys() == {"frobnicated", "unwritten"}
        assert one.missing["frobnicated"].why.startswith("frobnicated could not be attached")
        assert one.missing["frobnicated"].lost == "frobs are not seen"


def instruction(opcode: int, registers: int, offset: int, immediate: int) -> bytes:
    """One of struct bpf_insn."""
    return struct.pack("<BBhi", opcode, registers, offset, immediate)


def test_only_calls_of_a_cast_become_calls_of_the_kernels_function() -> None:
    move, helper, leave = instruction(0xBF, 0x16, 0, 0), instruction(0x85, 0, 0, 113), instruction(0x95, 0, 0, 0)
    number = instruction(0x18, 0, 0, CAST_CALL) + instruction(0, 0, 0, 0)  # a constant that happens to be the same
    cast, call = instruction(0x85, 0, 0, CAST_CALL), instruction(0x85, 0x20, 0, 4711)
    assert with_casts(move + helper + cast + number + cast + leave, 4711) == move + helper + call + number + call + leave


@pytest.mark.kernel
def test_what_runs_per_segment_and_per_read_costs_least_where_the_kernel_takes_it(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(name: str, code: bytes, btf_id: int, cast_id: int | None) -> int:
        asked.append((name, cast_id))
        return load_typed(name, code, btf_id, cast_id)

    monkeypatch.setattr(programs, "load_typed", ask)
    with loaded(layout) as one:
        assert len(one.typed_fds) == 3 * len(programs.TYPED)
        assert asked == [(name, layout.cast_id) for tp in programs.TYPED for name in ("on_emit", f"on_{tp}")]


@pytest.mark.kernel
@pytest.mark.parametrize("why", ["no casts", "refused"])
def test_a_kernel_without_casts_is_traced_by_typed_tracepoints(
    layout: Layout, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, code: bytes, btf_id: int, cast_id: int | None) -> int:
        if cast_id is not None:
            raise OSError(13, "Permission denied")
        return load_typed(name, code, btf_id)

    if why == "refused":
        monkeypatch.setattr(programs, "load_typed", refuse)
    else:
        layout = replace(layout, cast_id=None)
    with loaded(layout) as one:
        assert (one.attached, one.missing) == (list(LOST_WITHOUT), {})
        assert len(one.typed_fds) == 3 * len(programs.TYPED)
        iterators.Iterator(one.bpf, "tcp").close()


@pytest.mark.kernel
@pytest.mark.parametrize("why", ["no typed tracepoints", "refused"])
def test_a_kernel_without_typed_tracepoints_is_traced_by_raw_ones(
    layout: Layout, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(22, "Invalid argument")

    if why == "refused":
        monkeypatch.setattr(programs, "load_typed", refuse)
    else:
        layout = replace(layout, typed={})
    with loaded(layout) as one:
        assert (one.attached, one.missing, one.typed_fds) == (list(LOST_WITHOUT), {}, [])
        iterators.Iterator(one.bpf, "tcp").close()


@pytest.mark.kernel
def test_programs_that_do_not_compile_are_told_with_where_to_look(layout: Layout) -> None:
    broken = replace(layout, defines={**layout.defines, "OFF_RCV_NXT": "nowhere"})
    with pytest.raises(TcptraceError, match="the kernel refused the BPF programs") as raised, loaded(broken):
        pass
    assert "tcptrace doctor" in raised.value.remedy


def scanned(one: Programs, host: hosts.Host) -> int:
    """How many connections of a host pass the filter."""
    scan: Any = iterators.Iterator(one.bpf, "tcp")
    try:
        one.take_scanned()
        with entered(host.namespace):
            scan.read()
        return one.take_scanned()
    finally:
        scan.close()


@pytest.mark.kernel
@pytest.mark.slow
def test_the_kernel_filters_by_the_port_of_either_end(layout: Layout) -> None:
    with hosts.pair() as (here, there), actor(here, "lab-client") as client, actor(there, "lab-server") as server:
        own = connect(client, server, there.ip, PORT)
        for ports, passed in (
            ([], 1),
            ([range(PORT, PORT + 1)], 1),
            ([range(own, own + 1)], 1),
            ([range(PORT - 10, PORT)], 0),
            ([range(1, 2), range(PORT - 5, PORT + 5)], 1),
            ([range(PORT + 1, own)], 0),
        ):
            with loaded(layout, Options(ports)) as one:
                assert [scanned(one, here), scanned(one, there)] == [passed, passed], ports
