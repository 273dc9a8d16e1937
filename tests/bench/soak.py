"""Memory over time: the live table beside a crowd, and connections that come, stall and go; the slope by least squares."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from tests.bench.crowd import Crowd
from tests.bench.figures import Figure
from tests.bench.observers import memory_mb
from tests.bench.progress import Progress
from tests.bench.scale import on_terminal
from tests.lab import hosts
from tests.lab.actor import actor

PORT: Final = 7644
WARM_S: Final = 15.0
LONG_S: Final = 1_800.0
"""A shorter soak has a slope, but that is noise by the hour."""
FLAT_MB: Final = 2.0

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


def measure(seconds: float, progress: Progress, sockets: int, stalled: int = 1_000) -> Iterator[Figure]:
    """A crowd, some of which stall for good, and beside them forty connections a second that open, fill, stall and end."""
    with ExitStack() as stack:
        host = stack.enter_context(hosts.alone())
        crowd = Crowd(host, stack, progress)
        crowd.grow(sockets - 2 * stalled)
        crowd.stall(stalled)
        holder, caller = (stack.enter_context(actor(host, f"soak-{role}")) for role in ("holder", "caller"))
        holder.do(_HOLD.format(port=PORT))
        job = caller.begin(_CHURN.format(ip=host.ip, port=PORT, seconds=WARM_S + seconds + 5), thread="churn")
        hours, sizes = _watched(seconds, progress)
        caller.finish(job)
    what = f"{crowd.sockets:,} connections, {stalled:,} stalled, 40 a second come and go"
    third = max(1, len(sizes) // 3)
    growth = statistics.median(sizes[-third:]) - statistics.median(sizes[:third])
    yield Figure(f"memory for {seconds:.0f} s, {what}", "MB", sizes, 180.0, share=1.0)
    slope, _ = statistics.linear_regression(hours, sizes)
    most = FLAT_MB if seconds >= LONG_S else None
    yield Figure("  its slope, in an hour", "MB", [slope], most, note=f"{growth:+.2f} MB from the first third to the last")


def _watched(seconds: float, progress: Progress) -> tuple[list[float], list[float]]:
    """When memory was looked at, in hours, and what it was, once a second."""
    hours, sizes = [], []
    with on_terminal("watch") as (child, _):
        time.sleep(WARM_S)
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            hours.append(passed / 3600)
            sizes.append(memory_mb(child.pid))
            progress.say(f"{passed:.0f} of {seconds:.0f} s, {sizes[-1]:.1f} MB")
            time.sleep(1)
    return hours, sizes
