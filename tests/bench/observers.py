"""Those that watch connections while something else is measured: tcptrace, what it replaces, and nobody."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.lab.hosts import Host
from tests.lab.trace import ROOT, tcptrace

ONE_LINERS: Final = (
    "tracepoint:tcp:tcp_send_reset {{ @sent[args->state] = count(); }}",
    "tracepoint:tcp:tcp_receive_reset {ports} {{ @received[args->dport] = count(); }}",
    "tracepoint:tcp:tcp_probe {ports} {{ @windows[args->dport] = min(args->snd_wnd); }}",
    "tracepoint:timer:timer_expire_entry {{ @timers = count(); }}",
    "tracepoint:tcp:tcp_rcv_space_adjust {ports} {{ @reader[args->dport] = tid; }}",
    "tracepoint:sock:inet_sock_set_state {ports} {{ @state[args->newstate] = count(); }}",
    "tracepoint:tcp:tcp_retransmit_skb {ports} {{ @retransmitted[args->dport] = count(); }}",
    "tracepoint:tcp:tcp_destroy_sock {ports} {{ @destroyed = count(); }}",
)
"""What a person would ask of our tracepoints by bpftrace (0.17 cannot attach to them raw)."""

NOBODY: Final = "no tracer"
TCPTRACE: Final = "tcptrace"

Observer = Callable[[Host, int], "subprocess.Popen[bytes]"]


def watch(host: Host, port: int) -> subprocess.Popen[bytes]:
    """`tcptrace watch --json` on a port, attached."""
    return _ready(tcptrace("watch", "--json", "--port", str(port)), b"stream-started")


def tcpdump(host: Host, port: int) -> subprocess.Popen[bytes]:
    """Every packet of the port to /dev/null."""
    command = ["tcpdump", "-i", "any", "-w", "/dev/null", f"tcp port {port}"]
    return _ready([*_inside(host), *command], b"listening on")


def tshark(host: Host, port: int) -> subprocess.Popen[bytes]:
    """The incident's question as tshark puts it: closed windows, probes and resets of the port."""
    shown = "tcp.analysis.zero_window || tcp.analysis.keep_alive || tcp.flags.reset == 1"
    command = ["tshark", "-i", "any", "-l", "-f", f"tcp port {port}", "-Y", shown]
    return _ready([*_inside(host), *command], b"Capture started")


def bpftrace(host: Host, port: int) -> subprocess.Popen[bytes]:
    """One-liners on the same tracepoints, with the same filter."""
    return _ready(bpftrace_command(port), BPFTRACE_ATTACHED)


def bpftrace_command(port: int) -> list[str]:
    """In a mount namespace of its own, for tracefs may not be mounted here."""
    ports = f"/args->sport == {port} || args->dport == {port}/"
    probes = " ".join(ONE_LINERS).format(ports=ports)
    mounts = "mount -t debugfs none /sys/kernel/debug 2>/dev/null; mount -t tracefs none /sys/kernel/tracing 2>/dev/null"
    # BEGIN runs before anything is attached; the program of -c is started when all is
    return ["unshare", "--mount", "sh", "-c", f'{mounts}; exec bpftrace -c "/usr/bin/tail -f /proc/version" -e "$0"', probes]


BPFTRACE_ATTACHED: Final = b"Linux version"

OBSERVERS: Final[dict[str, Observer | None]] = {
    NOBODY: None,
    TCPTRACE: watch,
    "tcpdump": tcpdump,
    "tshark": tshark,
    "bpftrace": bpftrace,
}


@contextmanager
def observed(observer: Observer | None, host: Host, port: int) -> Iterator[subprocess.Popen[bytes] | None]:
    """The observer is at work for as long as the block runs, and its output is drained."""
    if observer is None:
        yield None
        return
    child = observer(host, port)
    try:
        yield child
    finally:
        stop(child)


def stop(child: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def cpu_s(pid: int) -> float:
    """The CPU time that a process has used, its threads' together, in seconds (schedstat's nanoseconds)."""
    total = 0
    for task in os.scandir(f"/proc/{pid}/task"):
        total += int(Path(f"{task.path}/schedstat").read_text(encoding="ascii").split()[0])
    return total / 1e9


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """Resident memory; VmHWM: the most there was."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1000


def _inside(host: Host) -> list[str]:
    return ["ip", "netns", "exec", host.name]


def _ready(command: Sequence[str], words: bytes, seconds: float = 20.0) -> subprocess.Popen[bytes]:
    """Starts it and waits until it says so. Raises AssertionError with what it said instead."""
    child = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    )
    assert child.stdout is not None
    said, deadline = b"", time.monotonic() + seconds
    while words not in said:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
            break
        chunk = os.read(child.stdout.fileno(), 65536)
        if not chunk:
            break
        said += chunk
    if words not in said:
        child.kill()
        child.wait()
        raise AssertionError(f"{command[0]} did not start: {said.decode(errors='replace')[-500:]}")
    threading.Thread(target=_drain, args=(child,), daemon=True).start()
    return child


def _drain(child: subprocess.Popen[bytes]) -> None:
    """A full pipe would hold it up."""
    assert child.stdout is not None
    while os.read(child.stdout.fileno(), 1 << 20):
        pass
    child.stdout.close()
