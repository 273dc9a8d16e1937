"""The kernel's timer wheel: when a timer really fires, which is late by up to an eighth of the time it was set for.

Since 4.8 timers are not sorted by when they expire but put into buckets, finer for near ones and coarser for far ones; a bucket
is emptied when its end is reached (kernel/time/timer.c, calc_wheel_index()). Times are jiffies.
"""

from __future__ import annotations

from typing import Final

_SHIFT: Final = 3
"""Each level's buckets are this many bits coarser than those of the one before."""
_BUCKETS: Final = 64
_LAST: Final = 8


def level(delta: int) -> int:
    """The level of a timer that is set to expire in `delta` jiffies."""
    found = 0
    while found < _LAST and delta >= (_BUCKETS - 1) << (_SHIFT * found):
        found += 1
    return found


def fires(expires: int, at_level: int) -> int:
    """When the bucket is emptied that a timer of that level, which expires at `expires`, is in."""
    shift = _SHIFT * at_level
    return ((expires >> shift) + 1) << shift


def set_at(now: int, delta: int) -> int:
    """When a timer fires that is set at `now` to expire in `delta`."""
    return fires(now + delta, level(delta))
