"""A scan of very many sockets with their owners, beside ss on the same sockets, turn by turn."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

from tests.bench.figures import Figure
from tests.lab import hosts
from tests.lab.actor import Actor, actor
from tests.lab.hosts import Host
from tracer.cli.options import Filters
from tracer.cli.tracing import attached
from tracer.model.selection import Selection
from tracer.sources.scanner import Scanner

A_PROCESS = 9_600
"""Connections of a pair of processes: within 20,000 descriptors each, and within the ports of one address."""


def measure(rounds: int, sockets: int) -> Iterator[Figure]:
    """Makes so many sockets, both ends on one host, and looks at them."""
    with ExitStack() as stack:
        host = stack.enter_context(hosts.alone())
        host.run("sh", "-c", "echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range")
        for number in range(-(-sockets // 2 // A_PROCESS)):
            some = min(A_PROCESS, sockets // 2 - number * A_PROCESS)
            holder, caller = (stack.enter_context(actor(host, f"{role}-{number}")) for role in ("holder", "caller"))
            _connect(holder, caller, f"127.0.0.{number + 1}", some)
        name = f"{sockets:,} sockets"
        with attached(Filters((), Selection())) as tracing:
            scanner = Scanner(tracing.programs, tracing.layout.reasons)
            ours, theirs = [], []
            for _ in range(rounds):
                scanner.forget_owners()
                began = time.perf_counter()
                scanner.scan()
                ours.append(time.perf_counter() - began)
                theirs.append(_ss(host))
            scanner.close()
        yield Figure(f"{name}: a scan with owners, all healthy", ours, "s", 0.5)
        with attached(Filters((), Selection(everything=True))) as tracing:
            scanner = Scanner(tracing.programs, tracing.layout.reasons)
            whole = []
            for _ in range(rounds):
                scanner.forget_owners()
                began = time.perf_counter()
                scanner.scan()
                whole.append(time.perf_counter() - began)
            scanner.close()
        yield Figure(f"{name}: a scan with owners, --all: every socket decoded", whole, "s")
        yield Figure(f"{name}: ss -tnpieom", theirs, "s")


def _connect(holder: Actor, caller: Actor, ip: str, number: int) -> None:
    holder.do(f"l = socket.create_server(({ip!r}, 1000), backlog=4096); held = []")
    job = holder.begin(f"for _ in range({number}): held.append(l.accept()[0])", thread="accept")
    caller.do(f"held = [socket.create_connection(({ip!r}, 1000)) for _ in range({number})]")
    holder.finish(job)


def _ss(host: Host) -> float:
    began = time.perf_counter()
    subprocess.run(
        ["ip", "netns", "exec", host.name, "ss", "-tnpieomH"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - began
