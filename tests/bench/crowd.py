"""Very many connections on one host, both ends of each: idle, or stalled because their readers do not read.

A process may hold 20,000 descriptors here; more sockets are spread over more processes.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from tests.bench.progress import Progress
from tests.lab.actor import Actor, actor
from tests.lab.hosts import Host

PORT: Final = 1000
A_PROCESS: Final = 9_600
"""Connections of a pair of processes: within 20,000 descriptors each, and within the ports of one address."""
SMALL: Final = 4096
"""Buffers of connections that stall: what they hold is not the subject."""


class Crowd:
    """Connections of a host; they end with the stack that holds their processes."""

    def __init__(self, host: Host, stack: ExitStack, progress: Progress) -> None:
        self._host = host
        self._stack = stack
        self._progress = progress
        self._pairs = 0
        self.sockets = 0
        host.run("sh", "-c", "echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range")
        host.run("sh", "-c", "echo 0 > /proc/sys/net/ipv4/tcp_slow_start_after_idle")

    def grow(self, sockets: int) -> None:
        """More idle ones, until there are `sockets` in all."""
        while self.sockets < sockets:
            some = min(A_PROCESS, -(-(sockets - self.sockets) // 2))
            self._connect(some)
            self._progress.say(f"{self.sockets:,} of {sockets:,} sockets")

    def stall(self, connections: int) -> None:
        """Further connections whose reader does not read: both ends' windows are closed."""
        _, caller = self._connect(connections, SMALL)
        self._progress.say(f"filling {connections:,} connections")
        caller.do(
            "full = dict.fromkeys(held)\n"
            "for one in held: one.setblocking(False)\n"
            "while full:\n"
            "    for one in list(full):\n"
            "        try:\n"
            "            one.send(bytes(4096)); full[one] = None\n"
            "        except BlockingIOError:\n"
            "            full[one] = (full[one] or 0) + 1\n"
            "            if full[one] > 5: del full[one]\n"
            "    time.sleep(0.05)\n"
        )

    def _connect(self, some: int, size: int = 0) -> tuple[Actor, Actor]:
        self._pairs += 1
        ip = f"127.0.0.{self._pairs}"
        holder, caller = (
            self._stack.enter_context(actor(self._host, f"{role}-{self._pairs}")) for role in ("holder", "caller")
        )
        setting = "{0}.setsockopt(socket.SOL_SOCKET, socket.SO_{1}BUF, {2})" if size else "None"
        holder.do(
            "l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1);"
            f"{setting.format('l', 'RCV', size)}; l.bind(({ip!r}, {PORT})); l.listen(4096); held = []"
        )
        job = holder.begin(f"for _ in range({some}): held.append(l.accept()[0])", thread="accept")
        caller.do(
            f"held = []\nfor _ in range({some}):\n"
            f"    s = socket.socket(); {setting.format('s', 'SND', size)}\n"
            f"    s.connect(({ip!r}, {PORT})); held.append(s)"
        )
        holder.finish(job)
        self.sockets += 2 * some
        return holder, caller
