"""A line of text per change, and the summary at the end."""

from __future__ import annotations

from tests.builders import START
from tests.views import NOW, RESET, reset_notice, screen, verdict, view
from tracer.model.findings import Endpoint, Notice, Phase, SlowReader, Totals
from tracer.view.ending import Tally
from tracer.view.lines import line

OFFSET = 1_795_000_000_000_000_000 - START


def test_a_verdict() -> None:
    assert line(Notice("verdict-changed", START, view()), OFFSET) == (
        "2026-11-18T11:06:40.000000Z verdict-changed   172.28.72.119:63132 > 172.28.72.117:8443 java[32278]/worker-1: stalled:"
        " java[32278]/worker-1 has not read for 43 s; 362,708 bytes unread, window closed; worker-1 is idle in futex;"
        " if it closes now, the peer gets a RST"
    )


def test_a_window_a_probe_and_a_reset() -> None:
    notices = [
        Notice("window-closed", START, view(), window_side="local"),
        Notice("probe-sent", START, view(), probe_kind="zero-window", probe_number=6),
        reset_notice(),
    ]
    assert [line(notice, OFFSET).split(": ", 1)[1] for notice in notices] == [
        "local window",
        "zero-window probe 6",
        "close-with-unread-data (TCP_ABORT_ON_CLOSE)",
    ]


def test_a_rst_without_a_socket_and_losses() -> None:
    ends = {"local": Endpoint("10.0.0.1", 81), "peer": Endpoint("2001:db8::1", 4000)}
    nobody = Notice("reset-sent", START, **ends, reset=RESET)  # type: ignore[arg-type]
    assert "10.0.0.1:81 > [2001:db8::1]:4000 -: close-with-unread-data" in line(nobody, OFFSET)
    lost = Notice("events-lost", START, lost={"ring_buffer": {"window": 1200}})
    assert line(lost, OFFSET).endswith("events-lost       ring_buffer window 1,200")


def test_the_summary_tells_what_nobody_may_have_seen() -> None:
    tally = Tally()
    tally.add([Notice("verdict-changed", START, view()), reset_notice(), reset_notice()])
    assert tally.lines(screen(), 75.0) == [
        "watched for 75 s: 1,234 events, 0 lost; 1 stalls, 2 resets",
        "longest stall 43 s: java[32278]/worker-1 on 172.28.72.119:63132 > 172.28.72.117:8443",
        "2 sent: close-with-unread-data, java[32278]/worker-1",
    ]
    assert NOW > START


def test_a_stall_that_lasts_is_as_long_as_on_the_last_screen() -> None:
    tally = Tally()
    tally.add([Notice("verdict-changed", START, view(verdict=verdict(stalled_s=0.2), totals=Totals()))])
    assert tally.lines(screen(view(totals=Totals())), 60.0)[1].startswith("longest stall 43 s: java[32278]/worker-1 on ")


def test_who_was_slow_is_still_known_when_nobody_is_any_more() -> None:
    nobody = verdict(phase=Phase.OK, stalled_s=None, slow_reader=SlowReader("none"))
    opened = Notice("window-opened", NOW, view(verdict=nobody, totals=Totals(1, 6, 50.0)), window_side="local")
    tally = Tally()
    tally.add([Notice("verdict-changed", START, view()), opened])
    assert tally.lines(screen(), 60.0)[1].startswith("longest stall 50 s: java[32278]/worker-1 on ")
    unseen = Tally()
    unseen.add([opened])
    assert unseen.lines(screen(), 60.0)[1] == "longest stall 50 s: 172.28.72.119:63132 > 172.28.72.117:8443"
