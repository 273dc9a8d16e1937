"""Any story, recorded and replayed, is told again word for word."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lab.replays import check, recorded
from tests.model.test_any_records import records
from tracer.model.selection import Selection
from tracer.model.tracker import Tracker
from tracer.sources.sockets import FARTHEST


def possible(record: Any) -> Any:
    """The record with timers that end in this age of the world; later ones are taken for a mistake."""
    sock = getattr(record, "sock", None)
    if sock is None:
        return record
    now = min(sock.jiffies, 1 << 63)
    armed = {name: min(now + FARTHEST, getattr(sock, name)) for name in ("write_expires", "keepalive_expires")}
    return record._replace(sock=sock._replace(jiffies=now, **armed))


@settings(max_examples=300, deadline=None)
@given(st.lists(records, max_size=60), st.booleans())
def test_it_is_the_same(story: list[object], everything: bool) -> None:
    tracker = Tracker(Selection(everything=everything))
    notices = []
    for record in story:
        notices += tracker.tick(record) if isinstance(record, int) else tracker.feed(possible(record))
    check(recorded(notices))
