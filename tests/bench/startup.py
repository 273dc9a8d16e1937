"""From the start of the process to attached programs, Python's own start included; and the memory that it then has."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench.figures import Figure
from tests.bench.observers import BPFTRACE_ATTACHED, bpftrace_command, memory_mb, stop
from tests.bench.progress import Progress
from tests.lab.trace import ROOT, tcptrace


def measure(rounds: int, progress: Progress) -> Iterator[Figure]:
    """Starts `watch --json` and waits for its first line, which it writes when all is attached; bpftrace turn by turn."""
    _attached()  # the first ones read files that are not in the page cache yet
    _bpftrace()
    ours, sizes, theirs, bare = [], [], [], []
    for number in range(rounds):
        progress.say(f"round {number + 1} of {rounds}")
        took, size = _attached()
        ours.append(took)
        sizes.append(size)
        theirs.append(_bpftrace())
        bare.append(_bare())
    peers = {"bpftrace, the same tracepoints": theirs, "python -c pass": bare}
    beats = {"bpftrace, the same tracepoints": 1.0}
    yield Figure("start to attached (watch --json --port 443)", "s", ours, 0.5, peers=peers, beats=beats)
    yield Figure("memory after 2 s (VmHWM)", "MB", sizes, 160)


def _attached() -> tuple[float, float]:
    began = time.perf_counter()
    child = subprocess.Popen(tcptrace("watch", "--json", "--port", "443"), cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline()
        took = time.perf_counter() - began
        time.sleep(2)
        return took, memory_mb(child.pid, "VmHWM")
    finally:
        child.terminate()
        child.communicate()


def _bpftrace() -> float:
    """With one-liners on the same tracepoints, until it says that they are attached."""
    began = time.perf_counter()
    child = subprocess.Popen(bpftrace_command(443), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
    try:
        assert child.stdout is not None
        while BPFTRACE_ATTACHED not in (line := child.stdout.readline()):
            assert line, "bpftrace did not start"
        return time.perf_counter() - began
    finally:
        stop(child)


def _bare() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began
