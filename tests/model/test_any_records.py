"""Any records in any order: the kernel side loses some, and sockets change while they are read. Nothing may crash or grow."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import START, sock
from tracer.events import records as rec
from tracer.events.records import SockState
from tracer.model.findings import Notice
from tracer.model.resets import SHOWN_AT_MOST
from tracer.model.selection import Selection
from tracer.model.tracker import Tracker
from tracer.sources.sockets import BOUNDS

sizes = {"local_addr": st.binary(min_size=16, max_size=16), "peer_addr": st.binary(min_size=16, max_size=16)}
small = {
    "sk": st.integers(1, 3),
    "state": st.integers(1, 11),
    "local_port": st.integers(1, 3),
    "peer_port": st.integers(1, 3),
    "netns": st.integers(1, 2),
    "hz": st.sampled_from([100, 250, 1000]),
}
times = st.integers(START, START + 10**11)
ids = st.integers(0, 3)


@st.composite
def socks(draw: st.DrawFn) -> SockState:
    names = draw(st.sets(st.sampled_from(SockState._fields), max_size=12))
    values: dict[str, object] = {}
    for name in names - {"local_addr", "peer_addr", "opened_by", "family"}:
        if name.endswith(("_tgid", "_tid")):
            values[name] = draw(ids)
        elif name.endswith("_ns"):
            values[name] = draw(times)
        else:
            values[name] = draw(small[name] if name in small else st.integers(*BOUNDS[name]))
    return sock(draw(times), sk=draw(st.integers(1, 3)))._replace(**values)  # type: ignore[arg-type]


actors = st.none() | st.builds(rec.Actor, ids, ids, st.just("a"))
sets = st.frozensets(st.sampled_from([1, 2, 4026531833]))
mechanisms = st.sampled_from(["keepalive", "zero-window"])
records = st.one_of(
    st.builds(rec.Socket, times, socks()),
    st.builds(rec.Inspected, times, socks()),
    st.builds(rec.Window, times, actors, socks(), st.sampled_from(["local", "peer"]), st.sampled_from([0, 5000])),
    st.builds(rec.Read, times, actors, socks()),
    st.builds(rec.Timer, times, socks(), mechanisms, st.integers(1, 15)),
    st.builds(rec.Probe, times, socks(), mechanisms),
    st.builds(rec.Retransmit, times, socks(), st.integers(-100, 0)),
    st.builds(rec.State, times, actors, socks(), st.integers(1, 11), st.integers(1, 11)),
    st.builds(
        rec.Reset,
        times,
        actors,
        socks(),
        st.sampled_from(["sent", "received"]),
        st.sampled_from([None, "TCP_STATE", "TCP_ABORT_ON_CLOSE", "SOMETHING_NEW"]),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(rec.Destroyed, times, socks()),
    st.builds(rec.Holder, times, st.integers(1, 3), times, ids, ids, ids, st.just("h")),
    st.builds(rec.OwnersScanned, times, times),
    st.builds(rec.ScanEnded, times, times, sets, st.integers(0, 9)),
    st.builds(rec.Process, times, ids, st.just("p"), st.none(), st.none(), st.none()),
    st.builds(rec.ProcessGone, times, ids),
    st.builds(rec.Thread, times, ids, ids, st.just("t"), st.sampled_from(["S", "R", "D", None]), st.none(), st.none()),
    st.builds(rec.Listener, times, ids, st.just(bytes(16)), ids, ids, ids, ids, ids),
    st.integers(START, START + 10**11),  # a tick
)


def check(notice: Notice) -> None:
    if notice.connection is None:
        assert notice.action in ("reset-sent", "events-lost")
        return
    view = notice.connection
    for value in (view.age_s, view.timer.expires_s, view.verdict.stalled_s, view.owner.last_read_s):
        assert value is None or value >= 0
    assert all(value >= 0 for value in dataclasses.astuple(view.queues))
    assert view.verdict.summary


@settings(max_examples=300, deadline=None)
@given(st.lists(records, max_size=60), st.booleans())
def test_nothing_crashes_and_every_view_makes_sense(story: list[object], everything: bool) -> None:
    tracker = Tracker(Selection(everything=everything))
    seen: set[str] = set()
    for record in story:
        notices = tracker.tick(record) if isinstance(record, int) else tracker.feed(record)  # type: ignore[arg-type]
        for notice in notices:
            check(notice)
            if notice.connection is None:
                continue
            if notice.action == "connection-seen":
                assert notice.connection.id not in seen
                seen.add(notice.connection.id)
            assert notice.connection.id in seen
    screen = tracker.screen(START + 10**11, everything=True)
    assert len(screen.connections) <= 3  # one a socket
    assert len(screen.resets) <= SHOWN_AT_MOST
    assert len({view.id for view in screen.connections}) == len(screen.connections)
