"""What our programs cost the kernel per segment and per read of healthy connections, by its own count.

kernel.bpf_stats_enabled makes the kernel take the time around each run of a program; that includes its own clock. An empty
program on the same tracepoint shows how much of the time is such.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.bench import loads
from tests.bench.figures import Figure
from tests.bench.observers import observed, watch
from tests.bench.progress import Progress
from tests.lab import hosts
from tests.lab.hosts import Host
from tracer.kernel import paths

_SWITCH: Final = Path("/proc/sys/kernel/bpf_stats_enabled")
_EMPTY: Final = "int empty_probe(void *ctx) { return 0; } int empty_read(void *ctx) { return 0; }"
_PROGRAMS: Final = (
    # the kernel keeps 15 characters of a program's name
    ("on_tcp_probe", "empty_probe", "segment", 150.0),
    ("on_tcp_rcv_spac", "empty_read", "read", 60.0),
)
SECONDS: Final = 2


class Runs(NamedTuple):
    """How often a program ran, and for how long in all."""

    times: int
    ns: int


def measure(rounds: int, progress: Progress) -> Iterator[Figure]:
    """Two loads: a bulk stream, and requests with small answers."""
    with hosts.pair() as (client, server), loads.nginx(server), loads.iperf3(server), _counted(), _empty() as empty:
        for name, port, load in (
            ("bulk", loads.BULK_PORT, loads.bulk),
            ("requests", loads.WEB_PORT, loads.requests),
        ):
            costs = list(_costs(client, server, port, load, rounds, empty, progress))
            for program, nothing, title, most in _PROGRAMS:
                means = [cost[program].ns / cost[program].times for cost in costs]
                bare = [cost[nothing].ns / cost[nothing].times for cost in costs]
                runs = sum(cost[program].times for cost in costs)
                yield Figure(
                    f"BPF time per {title}, {name}",
                    "ns",
                    means,
                    most,
                    peers={"an empty program": bare},
                    note=f"mean of each round; {runs:,} runs in all",
                )


def _costs(
    client: Host,
    server: Host,
    port: int,
    load: Callable[[Host, Host, int], float],
    rounds: int,
    empty: int,
    progress: Progress,
) -> Iterator[dict[str, Runs]]:
    for number in range(rounds):
        progress.say(f"port {port}, round {number + 1} of {rounds}")
        with observed(watch, server, port) as child:
            assert child is not None
            before = _runs(child.pid) | _runs(empty)
            load(client, server, SECONDS)
            after = _runs(child.pid) | _runs(empty)
        yield {name: Runs(one.times - before[name].times, one.ns - before[name].ns) for name, one in after.items()}


@contextmanager
def _counted() -> Iterator[None]:
    was = _SWITCH.read_text(encoding="ascii")
    _SWITCH.write_text("1", encoding="ascii")
    try:
        yield
    finally:
        _SWITCH.write_text(was, encoding="ascii")


@contextmanager
def _empty() -> Iterator[int]:
    """Programs of this process that do nothing; its pid."""
    os.environ["BCC_KERNEL_SOURCE"] = str(paths.bpf_dir() / "stubs")
    from bcc import BPF

    bpf = BPF(text=_EMPTY, cflags=["-Wno-everything"])
    try:
        bpf.attach_raw_tracepoint(tp=b"tcp_probe", fn_name=b"empty_probe")
        bpf.attach_raw_tracepoint(tp=b"tcp_rcv_space_adjust", fn_name=b"empty_read")
        yield os.getpid()
    finally:
        bpf.cleanup()


def _runs(pid: int) -> dict[str, Runs]:
    """The programs that a process holds, by name, with what the kernel counted."""
    ids = set()
    for info in os.scandir(f"/proc/{pid}/fdinfo"):
        with suppress(FileNotFoundError):  # a descriptor that is closed meanwhile
            found = re.search(r"^prog_id:\t(\d+)$", Path(info.path).read_text(encoding="ascii"), re.MULTILINE)
            ids |= {int(found[1])} if found else set()
    listed = subprocess.run(["bpftool", "prog", "show", "-j"], capture_output=True, check=True).stdout
    shown: list[dict[str, Any]] = json.loads(listed)
    return {one["name"]: Runs(one.get("run_cnt", 0), one.get("run_time_ns", 0)) for one in shown if one["id"] in ids}
