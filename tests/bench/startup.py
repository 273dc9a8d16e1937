"""From the start of the process to attached programs, Python's own start included; and the memory that it then has."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Figure
from tests.lab.trace import ROOT, tcptrace


def measure(rounds: int) -> Iterator[Figure]:
    """Starts `watch --json` and waits for its first line, which it writes when all is attached."""
    _attached()  # the first one reads files that are not in the page cache yet
    times, sizes = zip(*(_attached() for _ in range(rounds)), strict=True)
    yield Figure("start to attached (watch --json --port 443)", times, "s", 0.6)
    yield Figure("resident memory after 2 s (VmHWM)", sizes, "MB", 160)
    yield Figure("of the start: Python alone (python -c pass)", [_bare() for _ in range(rounds)], "s")


def _attached() -> tuple[float, float]:
    began = time.perf_counter()
    child = subprocess.Popen(tcptrace("watch", "--json", "--port", "443"), cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None and child.stdout.readline()
        took = time.perf_counter() - began
        time.sleep(2)
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{child.pid}/status").read_text(encoding="ascii"))
        assert peak is not None
        return took, int(peak[1]) / 1000
    finally:
        child.terminate()
        child.communicate()


def _bare() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began
