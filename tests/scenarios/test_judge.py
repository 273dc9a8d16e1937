"""The judge of the scenarios: what is right passes, and every kind of mistake is found out."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from tests.lab.trace import Event
from tests.scenarios.judge import Result, judge
from tests.scenarios.report import report
from tests.scenarios.scenario import NOBODY, NOTHING, Expected, Slow, Truth
from tests.scenarios.steps import (
    CONDITIONAL,
    KEEPALIVE,
    chain_says,
    every,
    never_blamed,
    no_chain,
    no_thread,
    not_withdrawn,
    owned_by,
    shared,
    without_countdown,
)
from tracer.text import utc

END, PEER_END = 20000, 33000
READER, SENDER, STRANGER = 100, 200, 300
PIDS = {READER, SENDER}
SECOND = 1_000_000_000
ENDED = 50.0
"""Seconds, as `Truth.ended`; the stories' clock and UTC are the same here."""


def event(action: str = "verdict-changed", at: float = 40.0, **values: Any) -> Event:
    """A line about the reader's end: its window is closed, by READER. `reader`, `forecast` and others change what it says."""
    reader = {"side": "local", "ip": "10.0.0.2", "port": END, "pid": READER, "thread_id": 101, "chain": []}
    forecast = {"outcome": "reset", "by": "close-with-unread-data", "basis": "conditional", "at": None}
    own: dict[str, Any] = {
        "connection": {
            "netns": values.get("netns", 1),
            "local": {"ip": "10.0.0.2", "port": values.get("end", END)},
            "peer": {"ip": "10.0.0.1", "port": PEER_END},
        },
        "verdict": {
            "phase": values.get("phase", "stalled"),
            "summary": "it does not read",
            "slow_reader": reader | values.get("reader", {}),
            "forecast": forecast | values.get("forecast", {}),
        },
        "owner": {"match": values.get("match", "reader")},
    }
    if "cause" in values:
        own["reset"] = {"cause": values["cause"]}
    process = {"pid": values.get("pid", READER)}
    return {"@timestamp": utc(round(at * SECOND)), "event": {"action": action}, "process": process, "tcptrace": own}


def ended(cause: str = "close-with-unread-data") -> Event:
    """Its end by a RST."""
    return event("reset-sent", ENDED, phase="reset", cause=cause, reader={"side": "none", "pid": None})


def timed(at: float, told: float = 40.0, by: str = "keepalive") -> Event:
    """A countdown."""
    forecast = {"outcome": "reset", "by": by, "basis": "kernel-timer", "at": utc(round(at * SECOND))}
    return event(at=told, phase="unanswered", forecast=forecast, reader={"side": "none", "pid": None, "thread_id": None})


STALLED = Truth(END, "close-with-unread-data", Slow("local", READER, 101, "10.0.0.2", END), CONDITIONAL)
COUNTED = Truth(END, "keepalive-timeout", forecast=KEEPALIVE, ended=ENDED, steady=30.0)


def wrong(truth: Truth, *events: Event) -> str:
    return "; ".join(judge("story", truth, list(events), PIDS, 0.0).wrong)


def test_what_is_right_passes() -> None:
    assert wrong(STALLED, event(), ended()) == ""
    assert wrong(COUNTED, timed(50.2), ended("keepalive-timeout")) == ""


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ([event(), ended("peer")], "cause peer"),
        ([event()], "cause none"),
        ([event(reader={"side": "peer"}), ended()], "blamed side peer"),
        ([event(reader={"pid": SENDER}), ended()], f"slow reader's pid {SENDER}; process {SENDER} has nothing to do with it"),
        ([event(reader={"pid": None}), ended()], "slow reader's pid None"),
        ([event(reader={"thread_id": 102}), ended()], "slow reader's tid 102"),
        ([event(reader={"ip": "10.0.0.9"}), ended()], "slow reader's ip 10.0.0.9"),
        ([event(reader={"port": 9}), ended()], "slow reader's port 9"),
        ([event(forecast={"by": "persist"}), ended()], "forecast reset by persist (conditional)"),
        ([event(forecast={"basis": "learned"}), ended()], "forecast reset by close-with-unread-data (learned)"),
        ([event(pid=STRANGER), ended()], f"process {STRANGER} has nothing to do with it"),
        ([ended()], "blamed side none"),
    ],
)
def test_each_mistake_is_found_out(events: list[Event], found: str) -> None:
    assert found in wrong(STALLED, *events)


def test_a_process_that_was_wrongly_blamed_only_for_a_moment_is_found_out() -> None:
    assert wrong(STALLED, event(at=39, reader={"pid": SENDER}), event(), ended()) == (
        f"process {SENDER} has nothing to do with it"
    )
    early = Truth(END, STALLED.cause, STALLED.slow, STALLED.forecast, also=frozenset({SENDER}))
    assert wrong(early, event(at=39, reader={"pid": SENDER}), event(), ended()) == ""


def test_a_process_blamed_at_the_other_end_only_is_found_out() -> None:
    assert "process 200" in wrong(STALLED, event(), ended(), event(end=PEER_END, reader={"side": "peer", "pid": SENDER}))


def test_unknown_is_right_only_where_the_kernel_gives_no_way() -> None:
    nobody = event(reader={"pid": None, "thread_id": None})
    excused = Truth(END, STALLED.cause, STALLED.slow, STALLED.forecast, unknown="no scan yet")
    assert wrong(excused, nobody, ended()) == ""
    assert "pid" in wrong(STALLED, nobody, ended())
    assert "process 200" in wrong(excused, event(reader={"pid": SENDER}), ended()), "that is no excuse for a wrong one"


def test_a_process_may_not_be_named_where_none_can_be_known() -> None:
    truth = Truth(END, STALLED.cause, Slow("local"), CONDITIONAL, unknown="several hold it")
    assert f"process {READER}" in wrong(truth, event(), ended())


@pytest.mark.parametrize(("told", "at", "right"), [(40, 50.3, True), (40, 50.4, False), (40, 49.6, False), (30.5, 50.35, True)])
def test_a_forecast_has_to_be_within_300_ms_or_2_percent(told: float, at: float, right: bool) -> None:
    assert ("forecast off" not in wrong(COUNTED, timed(at, told), ended("keepalive-timeout"))) == right


def test_every_forecast_counts_not_only_the_last() -> None:
    assert "forecast off by 9.00 s" in wrong(COUNTED, timed(59, 31), timed(50, 45), ended("keepalive-timeout"))


def test_a_forecast_from_before_things_were_steady_does_not_count() -> None:
    assert wrong(COUNTED, timed(59, 29), timed(50, 45), ended("keepalive-timeout")) == ""


def test_a_forecast_that_gives_no_time_is_found_out() -> None:
    told = event(
        phase="unanswered",
        forecast={"by": "keepalive", "basis": "kernel-timer"},
        reader={"side": "none", "pid": None, "thread_id": None},
    )
    assert "forecast without a time" in wrong(COUNTED, told, ended("keepalive-timeout"))


def test_an_alarm_on_a_healthy_connection_is_found_out_at_either_end() -> None:
    healthy = Truth(END, quiet=True)
    assert wrong(healthy) == ""
    alarm = event(phase="backlogged", end=PEER_END, reader={"side": "none", "pid": None})
    assert wrong(healthy, alarm) == "alarm: it does not read"
    assert wrong(healthy, event("window-closed", phase="ok", end=PEER_END, reader={"side": "none", "pid": None})) == ""


def test_a_namespace_tells_ends_with_the_same_port_apart() -> None:
    truth = Truth(END, STALLED.cause, STALLED.slow, STALLED.forecast, netns=1)
    other = event("reset-sent", ENDED, netns=2, cause="peer", phase="reset")
    assert wrong(truth, event(netns=1), ended(), other) == ""
    assert "cause peer" in wrong(STALLED, event(netns=1), ended(), other)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (chain_says("a", "c"), {"reader": {"chain": ["a", "b", "c"]}}, {"reader": {"chain": ["c", "b", "a"]}}),
        (no_chain, {}, {"reader": {"chain": ["a"]}}),
        (never_blamed(SENDER), {}, {"reader": {"pid": SENDER}}),
        (owned_by(READER), {}, {"pid": SENDER}),
        (shared, {"match": "shared"}, {"match": "fd"}),
        (no_thread, {"reader": {"thread_id": None}}, {}),
        (without_countdown, {}, {"forecast": {"at": utc(0)}}),
        (every(no_chain, owned_by(READER)), {}, {"pid": SENDER}),
    ],
)
def test_what_is_particular_to_a_story_is_found_out(check: Any, good: dict[str, Any], bad: dict[str, Any]) -> None:
    assert check([event(**good)]) == ""
    assert check([event(**bad)]) != ""


def test_a_forecast_that_is_withdrawn_is_found_out() -> None:
    nothing = event(at=45, phase="unanswered", forecast={"outcome": "none"})
    assert not_withdrawn([nothing, timed(50)]) == ""
    assert not_withdrawn([timed(50), nothing]) == "the forecast was withdrawn 1 times: verdict-changed"


def test_the_report_counts_what_is_wrong_and_tells_its_story() -> None:
    right = judge("right", STALLED, [event(), ended()], PIDS, 0.0)
    bad = judge("bad", STALLED, [event(reader={"pid": SENDER}), ended("peer")], PIDS, 0.0)
    broken = Result("broken", None, wrong=("it could not be played",), story="Traceback")
    console = Console(width=160, color_system=None)
    with console.capture() as captured:
        console.print(report([right, bad, broken]))
    text = captured.get()
    assert "scenarios        1 of 3 right" in text
    assert "causes           1 of 2" in text
    assert "wrong processes  1" in text
    assert "close-with-unread-data, got peer" in text
    assert "Traceback" in text


def test_nothing_is_expected_of_a_connection_that_is_well() -> None:
    assert (Truth(END).slow, Truth(END).forecast) == (NOBODY, NOTHING)
    assert Expected("none") == NOTHING
