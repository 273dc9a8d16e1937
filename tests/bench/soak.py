"""Memory over time: the live table beside connections that come, stall and go; the slope by least squares."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from tests.bench.figures import Figure
from tests.bench.observers import memory_mb
from tests.bench.progress import Progress
from tests.bench.scale import on_terminal
from tests.lab import hosts
from tests.lab.actor import actor

PORT = 7644
WARM_S = 15.0

_CHURN = """
import random
end = time.monotonic() + {seconds}
def churn():
    while time.monotonic() < end:
        some = []
        for _ in range(20):
            s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            s.connect(({ip!r}, {port})); s.setblocking(False)
            try:
                for _ in range(20): s.send(bytes(4096))
            except BlockingIOError: pass
            some.append(s)
        time.sleep(0.5)
        for s in some: s.close()
churn()
"""
_HOLD = """
l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096); l.bind(('', {port})); l.listen(64)
def hold():
    held = []
    while True:
        held.append(l.accept()[0])
        if len(held) > 40: held.pop(0).close()
threading.Thread(target=hold, daemon=True).start()
"""


def measure(seconds: float, progress: Progress) -> Iterator[Figure]:
    """Forty connections a second open, fill, stall and are reset, for as long as asked."""
    with hosts.alone() as host, actor(host, "soak-holder") as holder, actor(host, "soak-caller") as caller:
        holder.do(_HOLD.format(port=PORT))
        job = caller.begin(_CHURN.format(ip=host.ip, port=PORT, seconds=WARM_S + seconds + 5), thread="churn")
        with on_terminal("watch") as (child, _):
            time.sleep(WARM_S)
            began = time.monotonic()
            at, sizes = [], []
            while time.monotonic() - began < seconds:
                at.append((time.monotonic() - began) / 3600)
                sizes.append(memory_mb(child.pid))
                progress.say(f"{time.monotonic() - began:.0f} of {seconds:.0f} s, {sizes[-1]:.1f} MB")
                time.sleep(1)
        caller.finish(job)
    slope, _ = statistics.linear_regression(at, sizes)
    yield Figure(f"soak of {seconds:.0f} s, connections that stall and are reset: memory", "MB", sizes)
    growth = sizes[-1] - sizes[0]
    yield Figure("  its slope, in an hour", "MB", [slope], note=f"{growth:+.2f} MB from the first to the last sample")
