"""A TCP end whose every segment a test decides: an address behind a TUN device, where no kernel has a socket to interfere."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from tests.lab.hosts import Host
from tracer.kernel.namespaces import entered

HERE: Final = "198.18.110.1"
"""The host's address on the device."""
THERE: Final = "198.18.110.2"
"""The scripted end's."""
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
START: Final = 1_000_000
SCALE: Final = 7
MSS: Final = 1460

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_U32: Final = 0xFFFFFFFF


class Segment(NamedTuple):
    """A segment that the host sent. `window` is as it stands in the header, `at` CLOCK_MONOTONIC seconds."""

    source: int
    target: int
    seq: int
    ack: int
    flags: int
    window: int
    data: bytes
    at: float

    @property
    def end(self) -> int:
        """The sequence number after it."""
        return (self.seq + len(self.data) + bool(self.flags & SYN) + bool(self.flags & FIN)) & _U32


class Peer:
    """One end of one connection at a time, `port` here and `their_port` at the host.

    It answers in the background by `answer`: `behave` or a test's own. Windows are scaled by SCALE; there are no timestamps
    and no SACK. One that behaves opens with a window of `opening` bytes (at most 65535), takes data for which there is `room`,
    reads nothing, and acknowledges, `delay` seconds later, what a receiver must. With less room than it opened with, its
    window shrinks.
    """

    def __init__(self, device: int) -> None:
        self.ip, self.port, self.their_port = THERE, 0, 0
        self.snd_nxt, self.rcv_nxt = START, 0
        self.opening, self.room, self.delay = 65535, 65535, 0.0
        self.answer: Callable[[Segment], None] = self.behave
        self._device = device
        self._heard: list[Segment] = []
        self._taken = 0
        self._news = threading.Condition(threading.RLock())

    def listen(self, port: int, *, opening: int = 65535, room: int | None = None) -> None:
        """Waits for the host to connect; `behave` lets it."""
        self.port, self.opening, self.room = port, opening, opening if room is None else room

    def connect(self, port: int, target: int) -> None:
        """Connects from its `port` to the host's `target`. Raises AssertionError if nobody answers."""
        self.port, self.their_port = port, target
        self.send(SYN)
        self.next(lambda one: one.flags & (SYN | ACK) == SYN | ACK)

    def send(
        self,
        flags: int = ACK,
        data: bytes = b"",
        *,
        seq: int | None = None,
        ack: int | None = None,
        window: int | None = None,
        source: int | None = None,
        target: int | None = None,
    ) -> None:
        """Sends a segment; what is not given follows from the connection. `window` is in bytes; that of a SYN is not scaled.

        Only segments whose `seq` is left out move `snd_nxt` on.
        """
        with self._news:
            opens = bool(flags & SYN)
            size = min(65535, self.opening if opens else self.room) if window is None else window
            options = struct.pack("!BBHBBBx", 2, 4, MSS, 3, 3, SCALE) if opens else b""
            header = struct.pack(
                "!HHIIBBHHH",
                self.port if source is None else source,
                self.their_port if target is None else target,
                self.snd_nxt if seq is None else seq & _U32,
                (self.rcv_nxt if ack is None else ack & _U32) if flags & ACK else 0,
                (20 + len(options)) << 2,
                flags,
                size if opens else size >> SCALE,
                0,
                0,
            )
            if seq is None:
                self.snd_nxt = (self.snd_nxt + len(data) + opens + bool(flags & FIN)) & _U32
            os.write(self._device, _packet(header + options + data))

    def next(self, where: Callable[[Segment], bool] = lambda _: True, seconds: float = 5.0) -> Segment:
        """The next such segment, answered, after the one that this gave last. Raises AssertionError with what came instead."""
        deadline = time.monotonic() + seconds
        with self._news:
            first = self._taken
            while True:
                while self._taken < len(self._heard):
                    self._taken += 1
                    if where(self._heard[self._taken - 1]):
                        return self._heard[self._taken - 1]
                if not self._news.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                    raise AssertionError(f"no such segment within {seconds} s; there were {self._heard[first:]}")

    def fall_silent(self) -> float:
        """Answers nothing from now on, which is returned: CLOCK_MONOTONIC seconds."""
        with self._news:
            self.answer = lambda _: None
            return time.monotonic()

    def behave(self, got: Segment) -> None:
        """What a receiver must say to a segment."""
        if got.flags & RST:
            return
        if got.flags & SYN:
            self.their_port, self.rcv_nxt = got.source, got.end
            if not got.flags & ACK:
                self.snd_nxt = START
            self.send(ACK if got.flags & ACK else SYN | ACK)
            return
        expected = got.seq == self.rcv_nxt
        if expected:
            taken = min(len(got.data), self.room)
            self.rcv_nxt, self.room = (self.rcv_nxt + taken) & _U32, self.room - taken
            self.rcv_nxt += bool(got.flags & FIN) and taken == len(got.data)
        if got.data or got.flags & FIN or not expected:
            self.send()

    def hear(self, stop: int) -> None:
        """Takes in what the host sends until `stop` is readable."""
        while stop not in select.select([self._device, stop], [], [])[0]:
            got = _segment(os.read(self._device, 65536))
            if got is None:
                continue
            time.sleep(self.delay)
            with self._news:
                if got.target == self.port:
                    self.answer(got)
                self._heard.append(got)
                self._news.notify_all()


@contextmanager
def peer(host: Host) -> Iterator[Peer]:
    """A scripted end at THERE, as the host sees it from HERE. Both end with the block."""
    with entered(host.namespace):
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"scripted", _IFF_TUN | _IFF_NO_PI))
    stop, stopper = os.pipe()
    one = Peer(device)
    thread = threading.Thread(target=one.hear, args=(stop,), daemon=True)
    try:
        host.run("ip", "address", "add", HERE, "peer", THERE, "dev", "scripted")
        host.run("ip", "link", "set", "scripted", "up")
        thread.start()
        yield one
    finally:
        os.close(stopper)
        if thread.ident is not None:
            thread.join()
        os.close(stop)
        os.close(device)


def _packet(segment: bytes) -> bytes:
    """The segment with its checksum, in an IPv4 packet."""
    ends = socket.inet_aton(THERE) + socket.inet_aton(HERE)
    checked = segment[:16] + _checksum(ends + struct.pack("!HH", socket.IPPROTO_TCP, len(segment)) + segment) + segment[18:]
    header = struct.pack("!BBHIBBH", 0x45, 0, 20 + len(segment), 0, 64, socket.IPPROTO_TCP, 0) + ends
    return header[:10] + _checksum(header) + header[12:] + checked


def _segment(packet: bytes) -> Segment | None:
    """The TCP segment in an IPv4 packet; None for what else comes, such as IPv6's own."""
    if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
        return None
    segment = packet[(packet[0] & 15) * 4 : int.from_bytes(packet[2:4], "big")]
    source, target, seq, ack, offset, flags, window = struct.unpack_from("!HHIIBBH", segment)
    return Segment(source, target, seq, ack, flags, window, segment[(offset >> 4) * 4 :], time.monotonic())


def _checksum(data: bytes) -> bytes:
    """RFC 1071"""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
