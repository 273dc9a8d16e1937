"""The BPF programs of bpf/: compiled by bcc without kernel headers, loaded, attached to raw tracepoints, and read from."""

from __future__ import annotations

import ctypes as ct
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tracer.errors import TcptraceError
from tracer.events.wire import KIND_NAMES
from tracer.kernel.checks import Missing
from tracer.kernel.layouts import Layout
from tracer.kernel.program_run import CAST_CALL, attach_typed, load_typed, run_raw_tracepoint

SOURCES: Final = (
    "records.h",
    "maps.h",
    "sock.h",
    "sock_state.h",
    "emit.c",
    "reset.c",
    "window.c",
    "timer.c",
    "read.c",
    "state.c",
    "retransmit.c",
    "sockets.c",
    "owners.c",
)
"""In the order in which the loader joins them: bcc only sees programs and maps in its main text."""

LOST_WITHOUT: Final[Mapping[str, str]] = {
    "tcp_probe": "window updates and received probes are seen at the next scan only",
    "tcp_send_reset": "resets that this host sends are not seen",
    "tcp_receive_reset": "resets that this host receives are not seen",
    "timer_expire_entry": "probes that this host sends are not seen one by one",
    "tcp_rcv_space_adjust": "the thread that reads is not known",
    "inet_sock_set_state": "silent ends (time-outs) are not told from others",
    "tcp_retransmit_skb": "retransmissions are seen at the next scan only",
    "tcp_destroy_sock": "the timers cannot be told apart, and a socket's end is seen at the next scan only",
}
"""The raw tracepoints that we attach to, each with what is lost without it. The program is called on_NAME."""

TYPED: Final[Mapping[str, str]] = {"tcp_probe": "probe_tails", "tcp_rcv_space_adjust": "read_tails"}
"""Those that run per segment and per read, attached to typed tracepoints where that can be; each with the table in which its
program finds on_emit()."""

RING_PAGES: Final = 2048
TRACKS: Final = 131072


@dataclass(frozen=True, slots=True)
class Options:
    """What is compiled into the programs. No `ports`: all. `everything`: healthy connections are scanned out as well."""

    ports: Sequence[range] = ()
    everything: bool = False
    ring_pages: int = RING_PAGES
    tracks: int = TRACKS


@dataclass(slots=True)
class Programs:
    """The programs at work. `attached` and `missing` name raw tracepoints; `close()` leaves nothing behind."""

    bpf: Any
    attached: list[str] = field(default_factory=list)
    missing: dict[str, Missing] = field(default_factory=dict)
    inspect_fd: int = -1
    typed_fds: list[int] = field(default_factory=list)
    _pending: list[bytes] = field(default_factory=list)

    @property
    def ring_fd(self) -> int:
        """Readable (for epoll) when records wait."""
        return int(self.bpf["records"].map_fd)

    def consume(self) -> list[bytes]:
        """The records that wait in the ring buffer, oldest first."""
        self.bpf.ring_buffer_consume()
        pending, self._pending = self._pending, []
        return pending

    def inspect(self, sk: int) -> bool:
        """Asks for an INSPECTED record of one socket. False: it is not tracked any more."""
        return run_raw_tracepoint(self.inspect_fd, sk) == 1

    def losses(self) -> tuple[dict[str, int], dict[str, int]]:
        """Records that found the ring buffer full, by kind, and entries that found a table full, by table; since the start."""
        counts = [int(value.value) for value in self.bpf["lost"].values()]
        ring_buffer = {name: count for name, count in zip(KIND_NAMES, counts, strict=False) if count}
        tables = {"tracks": counts[len(KIND_NAMES)]} if counts[len(KIND_NAMES)] else {}
        return ring_buffer, tables

    def take_scanned(self) -> int:
        """How many connections passed the port filter in the scan since the last call."""
        table = self.bpf["scanned"]
        count = int(table[0].value)
        table[0] = ct.c_ulonglong(0)
        return count

    def close(self) -> None:
        """Detaches and unloads all."""
        for fd in self.typed_fds:
            os.close(fd)
        self.typed_fds.clear()
        self.bpf.cleanup()

    def collect(self, _context: object, data: int, size: int) -> int:
        """What the ring buffer calls for each record."""
        self._pending.append(ct.string_at(data, size))
        return 0


def source(directory: Path) -> str:
    """The programs' text, as bcc gets it."""
    return "\n".join((directory / name).read_text(encoding="utf-8") for name in SOURCES)


def port_condition(ports: Iterable[range]) -> str:
    """The C expression that says whether port p is one of the user's, for -DPORT_MATCHES(p)=…

    >>> port_condition([range(443, 444), range(8000, 8100)])
    '((p)==443||((u16)((p)-8000)<100))'
    """
    terms = [f"(p)=={r.start}" if len(r) == 1 else f"((u16)((p)-{r.start})<{len(r)})" for r in ports]
    return f"({'||'.join(terms)})" if terms else "1"


def compiler_flags(layout: Layout, options: Options, directory: Path, *, typed: bool = False, casts: bool = False) -> list[str]:
    """What clang is told: where the stubs are, the kernel's offsets, the user's filter."""
    # bcc asks for debug information, which serves nobody here, and has LLVM optimise once more after clang did:
    # without the one and the other's first pass the compiler takes a third less
    flags = ["-I" + str(directory / "stubs" / "include"), "-Wno-everything", "-g0", "-Xclang", "-disable-llvm-passes"]
    defines = {
        **layout.defines,
        "PORT_MATCHES(p)": port_condition(options.ports),
        "RING_PAGES": str(options.ring_pages),
        "TRACKS": str(options.tracks),
    }
    if options.ports:
        defines["PORT_FILTER"] = "1"
    if typed:
        defines["TYPED"] = "1"
    if casts:
        defines |= {"CASTS": "1", "CAST_CALL": str(CAST_CALL)}
    if options.everything:
        defines["EVERYTHING"] = "1"
    return flags + [f"-D{name}={value}" for name, value in defines.items()]


def load(layout: Layout, options: Options, directory: Path, absent: Mapping[str, Missing]) -> Programs:
    """Compiles, loads and attaches; `absent` names the tracepoints that this kernel has not or has in another form.

    Raises TcptraceError if the kernel refuses the programs altogether; a tracepoint that cannot be attached only costs what
    LOST_WITHOUT says.
    """
    os.environ["BCC_KERNEL_SOURCE"] = str(directory / "stubs")
    try:
        programs = _load_cheapest(layout, options, directory, absent)
        programs.bpf["records"].open_ring_buffer(programs.collect)
    except Exception as error:
        raise TcptraceError(
            f"the kernel refused the BPF programs: {error}", "run `tcptrace doctor`: it names what is missing"
        ) from error
    from bcc import BPF

    bpf = programs.bpf
    for name, lost in LOST_WITHOUT.items():
        if name in absent:
            programs.missing[name] = absent[name]
            continue
        if name in programs.attached:
            continue
        try:
            bpf.load_func(f"on_{name}", BPF.RAW_TRACEPOINT)
            bpf.attach_raw_tracepoint(tp=name.encode(), fn_name=f"on_{name}".encode())
        except Exception as error:
            programs.missing[name] = Missing(f"{name} could not be attached: {error}", "see dmesg for why", lost)
            continue
        programs.attached.append(name)
    programs.attached.sort(key=list(LOST_WITHOUT).index)
    _give_memory_back()
    return programs


def _give_memory_back() -> None:
    """What the compiler has freed, the allocator would keep: 6 MB of it at the heap's end go back (malloc_trim is glibc's)."""
    trim = getattr(ct.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _load_cheapest(layout: Layout, options: Options, directory: Path, absent: Mapping[str, Missing]) -> Programs:
    """Of the forms that the programs have, which tell the same, the one that costs least where the kernel takes it."""
    typed = {name: layout.typed[name] for name in TYPED if name in layout.typed and name not in absent}
    if typed:
        for cast_id in dict.fromkeys((layout.cast_id, None)):
            with suppress(Exception), _unsaid():
                return _load(layout, options, directory, typed, cast_id)
    return _load(layout, options, directory, {})


@contextmanager
def _unsaid() -> Iterator[None]:
    """What libbcc and the compiler print, past Python, of a form that is only tried goes nowhere: another one will do."""
    if sys.stderr is not None:
        sys.stderr.flush()
    with Path(os.devnull).open("w", encoding="ascii") as nowhere:
        was = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(was, 2)
            os.close(was)


def _load(layout: Layout, options: Options, directory: Path, typed: Mapping[str, int], cast_id: int | None = None) -> Programs:
    """Compiles, and loads all but what is attached to raw tracepoints; those named in `typed` are attached already."""
    from bcc import BPF

    class Bpf(BPF):  # type: ignore[misc]
        def _trace_autoload(self) -> None:
            """bcc would look for programs to attach by their names, and reads all of kallsyms for it: 50 ms."""

    bpf = Bpf(
        text=source(directory), cflags=compiler_flags(layout, options, directory, typed=bool(typed), casts=cast_id is not None)
    )
    programs = Programs(bpf)
    try:
        emit = bpf.load_func("on_emit", BPF.RAW_TRACEPOINT)
        programs.inspect_fd = bpf.load_func("inspect", BPF.RAW_TRACEPOINT).fd
        # the first program put in decides what type the others of a table are
        for table in {"tails", *TYPED.values()} - {TYPED[name] for name in typed}:
            bpf[table][0] = ct.c_int(emit.fd)
        if typed:
            for target in ("tcp", "task_file"):  # of the same form: where they are refused, so are all
                bpf.load_func(f"bpf_iter__{target}", BPF.TRACING)
        for name, btf_id in typed.items():
            _attach_typed(programs, name, btf_id, cast_id)
    except BaseException:
        programs.close()
        raise
    return programs


def _attach_typed(programs: Programs, name: str, btf_id: int, cast_id: int | None) -> None:
    # a program may only go on as one of the same type and tracepoint, so each has an on_emit() of its own
    bpf = programs.bpf
    for function in ("on_emit", f"on_{name}"):
        programs.typed_fds.append(load_typed(function, bpf.dump_func(function.encode()), btf_id, cast_id))
    bpf[TYPED[name]][0] = ct.c_int(programs.typed_fds[-2])
    programs.typed_fds.append(attach_typed(programs.typed_fds[-1]))
    programs.attached.append(name)


def calibrate() -> None:
    """Opens a socket and closes it: the kernel side learns from it what every TCP socket starts with (bpf/state.c)."""
    socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
