"""Records for tests: a socket with sane defaults, and a stage on which a story of records and ticks plays."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from tracer.events.records import (
    Calibrated,
    Holder,
    OwnersScanned,
    Process,
    Record,
    ScanEnded,
    SockFlag,
    SockState,
    TcpState,
    Thread,
)
from tracer.model.blame import SETTLED_NS
from tracer.model.findings import ConnectionView, Notice
from tracer.model.selection import Selection
from tracer.model.tracker import Tracker

HZ = 250
SECOND = 1_000_000_000
START = 1000 * SECOND
"""When the stories begin."""
NETNS = 4026531833


def jiffies(ns: int) -> int:
    """The jiffies at a time of the stories."""
    return ns * HZ // SECOND


def mapped(ip: str) -> bytes:
    """16 bytes of an address."""
    address = ip_address(ip)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def sock(ns: int = START, **values: Any) -> SockState:
    """A healthy idle connection at `ns`, but for `values`. `local` and `peer` are (ip, port)."""
    local = values.pop("local", ("10.0.0.1", 8443))
    peer = values.pop("peer", ("10.0.0.2", 40000))
    now = jiffies(ns)
    fields: dict[str, Any] = dict.fromkeys(SockState._fields, 0)
    fields |= {
        "sk": 0xFFFF888000000001,
        "jiffies": now,
        "local_addr": mapped(local[0]),
        "local_port": local[1],
        "peer_addr": mapped(peer[0]),
        "peer_port": peer[1],
        "netns": NETNS,
        "family": 2,
        "state": TcpState.ESTABLISHED,
        "retries2": 15,
        "keepalive_probes": 9,
        "keepalive_time": 7200 * HZ,
        "keepalive_intvl": 75 * HZ,
        "fin_timeout": 60 * HZ,
        "rcv_nxt": 1000,
        "copied_seq": 1000,
        "rcv_wup": 1000,
        "rcv_wnd": 65536,
        "write_seq": 2000,
        "snd_una": 2000,
        "snd_nxt": 2000,
        "snd_wnd": 65536,
        "max_window": 65536,
        "rcvbuf": 131072,
        "sndbuf": 87040,
        "rto": HZ // 5,
        "rcv_tstamp": now & 0xFFFFFFFF,
        "lrcvtime": now & 0xFFFFFFFF,
        "mss": 1448,
    }
    return SockState(**(fields | values))


def local_closed(ns: int, unread: int = 362_708, **values: Any) -> SockState:
    """Our receive window is closed: the reader does not read."""
    return sock(ns, **{"copied_seq": 1000, "rcv_nxt": 1000 + unread, "rcv_wup": 1000 + unread, "rcv_wnd": 0} | values)


def peer_closed(ns: int, unsent: int = 108_528, **values: Any) -> SockState:
    """The peer's window is closed and data waits: the probe timer is armed."""
    timer = {"pending": 3, "write_expires": jiffies(ns) + HZ // 5}
    return sock(ns, **{"snd_wnd": 0, "write_seq": 2000 + unsent, **timer} | values)


class Stage:
    """A tracker and the notices that it gave."""

    def __init__(self, selection: Selection = Selection()) -> None:
        self.tracker = Tracker(selection)
        self.notices: list[Notice] = []
        self.feed(Calibrated(START, jiffies(START), HZ))

    def feed(self, *records: Record) -> list[Notice]:
        """Records in; what they gave."""
        given = [notice for record in records for notice in self.tracker.feed(record)]
        self.notices += given
        return given

    def tick(self, ns: int) -> list[Notice]:
        """Time passes; what it gave."""
        given = self.tracker.tick(ns)
        self.notices += given
        return given

    def owned(self, ns: int, **holders: int) -> None:
        """A scan of the owners, as one that a stall at `ns` asks for: name=sk pairs, with pids 100, 101, … in order."""
        ns += SETTLED_NS
        for number, (name, sk) in enumerate(holders.items()):
            pid = 100 + number
            self.feed(Holder(ns, sk, 1, pid, 3, NETNS, name), Process(ns, pid, name, f"/usr/bin/{name}", name, None))
        self.feed(OwnersScanned(ns, ns))

    def thread(self, ns: int, pid: int, tid: int, name: str, state: str = "S", channel: str = "futex_wait_queue") -> None:
        """What /proc says of a thread."""
        self.feed(Thread(ns, pid, tid, name, state, channel, 0))

    def scanned(self, ns: int, established: int = 1) -> list[Notice]:
        """The end of a scan that began at `ns`."""
        return self.feed(ScanEnded(ns, ns, frozenset({NETNS}), established))

    def only(self, ns: int) -> ConnectionView:
        """The one connection on the screen."""
        (view,) = self.tracker.screen(ns, everything=True).connections
        return view

    def actions(self) -> list[str]:
        """What happened, by name."""
        return [notice.action for notice in self.notices]


KEEPOPEN = int(SockFlag.KEEPOPEN)
DEAD = int(SockFlag.DEAD)
OWNED = int(SockFlag.OWNED)
