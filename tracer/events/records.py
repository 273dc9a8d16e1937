"""The records that sources yield and the model takes in: facts, each with the time at which it was one.

The first part mirrors bpf/records.h (`tracer.events.wire` makes these from bytes); the second part is what user space adds
from /proc and from its own counters. All are immutable. Times named `ns` are CLOCK_MONOTONIC nanoseconds; fields that keep a
kernel name keep the kernel's unit, jiffies for timestamps and timeouts unless stated otherwise.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

Side: TypeAlias = Literal["local", "peer"]
Mechanism: TypeAlias = Literal["keepalive", "zero-window"]
OpenedBy: TypeAlias = Literal["unknown", "local", "peer"]


class TcpState(enum.IntEnum):
    """The states of include/net/tcp_states.h."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12


class SockFlag:
    """SOCK_STATE_* of bpf/records.h. Plain numbers: an IntFlag takes a microsecond for every question."""

    DEAD = 1
    KEEPOPEN = 2
    LINGER = 4
    USEC_TS = 8
    OWNED = 16
    UNACCEPTED = 32
    SEVERAL = 64
    EXITING = 128


_AFTER_FIN = frozenset({TcpState.TIME_WAIT, TcpState.CLOSE_WAIT, TcpState.LAST_ACK, TcpState.CLOSING})


class Pending(enum.IntEnum):
    """What the write timer is armed for: ICSK_TIME_* of include/net/inet_connection_sock.h."""

    NONE = 0
    RETRANS = 1
    PROBE0 = 3
    LOSS_PROBE = 5
    REO_TIMEOUT = 6


class Actor(NamedTuple):
    """The process that held the socket's lock when the record was made."""

    tgid: int
    tid: int
    comm: str


class SockState(NamedTuple):
    """One socket as it was: `struct sock_state`, field for field.

    A field that the running kernel does not have is 0. `sk` identifies the socket and is never shown or written.
    """

    sk: int
    jiffies: int
    write_expires: int
    keepalive_expires: int
    established_ns: int
    read_ns: int
    reader_tgid: int
    reader_tid: int
    creator_tgid: int
    creator_tid: int
    local_addr: bytes
    peer_addr: bytes
    netns: int
    local_port: int
    peer_port: int
    family: int
    state: int
    shutdown: int
    pending: int
    backoff: int
    retransmits: int
    probes_out: int
    retries2: int
    orphan_retries: int
    keepalive_probes: int
    opened_by: int
    syn_retries: int
    syn_linear_timeouts: int
    readers: int
    timer_levels: int
    flags: int
    rcv_nxt: int
    copied_seq: int
    rcv_wup: int
    rcv_wnd: int
    write_seq: int
    snd_una: int
    snd_nxt: int
    snd_wnd: int
    max_window: int
    packets_out: int
    rcvbuf: int
    sndbuf: int
    err: int
    rto: int
    rto_max: int
    user_timeout: int
    probes_tstamp: int
    retrans_stamp: int
    rcv_tstamp: int
    lrcvtime: int
    keepalive_time: int
    keepalive_intvl: int
    fin_timeout: int
    linger2: int
    lingertime: int
    mss: int
    srtt_us: int

    @property
    def recv_q(self) -> int:
        """Bytes received in order and not yet read, as ss and netstat count them."""
        return max(0, distance(self.copied_seq, self.rcv_nxt))

    @property
    def send_q(self) -> int:
        """Bytes written by the application and not yet acknowledged."""
        return max(0, distance(self.snd_una, self.write_seq))

    @property
    def unsent(self) -> int:
        """Bytes written and not sent even once."""
        return max(0, distance(self.snd_nxt, self.write_seq))

    @property
    def receive_window(self) -> int:
        """Bytes that the peer may still send: `tcp_receive_window()`, include/net/tcp.h."""
        return max(0, distance(self.rcv_nxt, self.rcv_wup) + self.rcv_wnd)

    @property
    def of_interest(self) -> bool:
        """Whether a scan writes it out, and who holds it: as bpf/sockets.c decides."""
        return bool(
            self.rcv_nxt != self.copied_seq
            or self.write_seq != self.snd_nxt
            or not self.snd_wnd
            or self.probes_out
            or self.retransmits
            or not self.receive_window
        )

    @property
    def unread(self) -> int:
        """Bytes of data that wait for the reader: recv_q without the FIN, which counts as one there."""
        return max(0, self.recv_q - (self.state in _AFTER_FIN))


def distance(first: int, second: int) -> int:
    """The signed distance from sequence number `first` to `second` (RFC 9293, 3.4: modulo 2**32)."""
    return ((second - first + 0x80000000) & 0xFFFFFFFF) - 0x80000000


# --- from the kernel -------------------------------------------------------------------------------------------------


class Socket(NamedTuple):
    """A socket of interest, met by a scan."""

    ns: int
    sock: SockState


class Listener(NamedTuple):
    """A listening socket, met by a scan. `addr` has 16 bytes, IPv4 as v4-mapped."""

    ns: int
    sk: int
    addr: bytes
    netns: int
    port: int
    family: int
    backlog: int
    max_backlog: int


class Holder(NamedTuple):
    """Process `tgid` holds the socket as file descriptor `fd`. `start_ns` (of CLOCK_BOOTTIME) tells a reused pid."""

    ns: int
    sk: int
    start_ns: int
    tgid: int
    fd: int
    netns: int
    comm: str


class Calibrated(NamedTuple):
    """How many jiffies a second has on this kernel (CONFIG_HZ), and which it was at `ns`."""

    ns: int
    jiffies: int
    hz: int


class Inspected(NamedTuple):
    """One socket looked at again because the source asked, for instance after its window seemed to close."""

    ns: int
    sock: SockState


class Window(NamedTuple):
    """A receive window closed (`window` is 0) or opened: the peer's as its segment says, ours as the socket has it."""

    ns: int
    actor: Actor | None
    sock: SockState
    side: Side
    window: int


class Read(NamedTuple):
    """A process took data out of a socket whose window had closed."""

    ns: int
    actor: Actor | None
    sock: SockState


class Timer(NamedTuple):
    """A keepalive or zero-window probe timer fired: the kernel now sends probe `number`, or gives up."""

    ns: int
    sock: SockState
    mechanism: Mechanism
    number: int


class Probe(NamedTuple):
    """The peer's keepalive or zero-window probe arrived."""

    ns: int
    sock: SockState
    mechanism: Mechanism


class Retransmit(NamedTuple):
    """The retransmission timer sent a segment again; `err` is 0 or the negative errno for which it could not."""

    ns: int
    sock: SockState
    err: int


class State(NamedTuple):
    """A connection changed state. `sock.state` is the old one, `sock.err` why it ended if it did."""

    ns: int
    actor: Actor | None
    sock: SockState
    old: int
    new: int


class Reset(NamedTuple):
    """A RST was sent or is about to be, or one was received (see KERNEL facts in bpf/reset.c for when that is untrue).

    `reason` is the kernel's name without its SK_RST_REASON_ prefix, None where this kernel gives none. `passive`: an answer
    to a segment that came in. Without a socket (`has_socket` False) only addresses, ports and netns of `sock` are known.
    """

    ns: int
    actor: Actor | None
    sock: SockState
    direction: Literal["sent", "received"]
    reason: str | None
    has_socket: bool
    passive: bool


class Destroyed(NamedTuple):
    """The kernel frees the socket; its `sk` may be another's from now on."""

    ns: int
    sock: SockState


# --- added by user space ---------------------------------------------------------------------------------------------


class ScanStarted(NamedTuple):
    """The sockets of the namespaces in `netns` (inode numbers) are about to be listed."""

    ns: int
    netns: frozenset[int]


class ScanEnded(NamedTuple):
    """All were listed. A socket of these namespaces that did not appear is of no interest any more, or gone.

    `established` counts the connections that passed the port filter, of interest or not.
    """

    ns: int
    started_ns: int
    netns: frozenset[int]
    established: int


class OwnersScanned(NamedTuple):
    """Every process was asked for its sockets after `started_ns`; a socket with no `Holder` since then has none."""

    ns: int
    started_ns: int


class Process(NamedTuple):
    """A process, from /proc. Text is made printable at the source; None is unknown (it may have ended)."""

    ns: int
    pid: int
    name: str
    executable: str | None
    command_line: str | None
    container: str | None


class Thread(NamedTuple):
    """A thread, from /proc/PID/task/TID. `state` is the letter of stat(5); `cpu_ns` the CPU time it has used so far.

    `siblings` counts the threads of its process, with itself. `call` is the system call in which it waits to write, to `fd`, or
    waits for events (`fd` is None then); None for any other.
    """

    ns: int
    pid: int
    tid: int
    name: str
    state: str | None
    wait_channel: str | None
    cpu_ns: int | None
    siblings: int | None = None
    call: str | None = None
    fd: int | None = None


class ThreadGone(NamedTuple):
    """Thread `tid` of process `pid` does not exist any more."""

    ns: int
    pid: int
    tid: int


class ProcessGone(NamedTuple):
    """Process `pid` does not exist any more."""

    ns: int
    pid: int


class Losses(NamedTuple):
    """Totals since the start of what could not be recorded, by record kind or table; `sinks`: by outputs of a recording."""

    ns: int
    ring_buffer: Mapping[str, int]
    table_full: Mapping[str, int]
    sinks: Mapping[str, int] = {}


KernelRecord: TypeAlias = (
    Socket | Listener | Holder | Calibrated | Inspected | Window | Read | Timer | Probe | Retransmit | State | Reset | Destroyed
)
Record: TypeAlias = (
    KernelRecord | ScanStarted | ScanEnded | OwnersScanned | Process | ProcessGone | Thread | ThreadGone | Losses
)
