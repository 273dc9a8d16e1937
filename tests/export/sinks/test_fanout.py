"""One stream into several sinks: the same lines and numbers in each, and every gap accounted for."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest  # noqa: TC002  pytest looks the fixtures' types up

from tests.builders import START
from tests.export.sinks.lines import Fake, sequences, until
from tests.lab import schema
from tests.views import reset_notice, view
from tracer.export.ecs import Documents
from tracer.export.sinks.fanout import Fanout
from tracer.export.sinks.sink import Sink
from tracer.model.findings import Notice

FACTS = {"version": "0", "kernel": "6", "boot_id": "9e2c12ed-5ea7-4134-96dc-2175f04f29a8", "clock_offset_ns": 0, "attached": []}
SEEN = Notice("connection-seen", START, view())


class Stage:
    """A fan-out into one sink that keeps up and one that may not."""

    def __init__(self) -> None:
        self.quick, self.slow = Fake(), Fake()
        self.slow.name = "slow"
        self.said: list[str] = []
        self.sinks = [Sink(self.quick, 1 << 22, self.said.append), Sink(self.slow, 20_000, self.said.append)]
        self.fanout = Fanout(Documents("web-1", 0), self.sinks, self.said.append)
        for sink in self.sinks:
            sink.start()
        self.fanout.start(START, FACTS)

    def end(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What either has got."""
        self.fanout.end(START, {"events": 1, "lost": 0})
        self.fanout.close(2)
        quick, slow = ([orjson.loads(line) for line in one.taken] for one in (self.quick, self.slow))
        for document in [*quick, *slow]:
            schema.check(document)
        return quick, slow


def losses(documents: list[dict[str, Any]]) -> list[int]:
    """What the events-lost lines say of the slow one."""
    lost = [one["tcptrace"]["lost"] for one in documents if one["event"]["action"] == "events-lost"]
    return [one["by_kind"]["sink slow"] for one in lost]


def test_each_sink_has_the_same_stream_without_a_gap() -> None:
    stage = Stage()
    stage.fanout.take([SEEN, reset_notice()])
    stage.fanout.take([])
    quick, slow = stage.end()
    assert quick == slow
    assert [one["event"]["sequence"] for one in quick] == [1, 2, 3, 4]
    assert [one["event"]["action"] for one in quick] == ["stream-started", "connection-seen", "reset-sent", "stream-ended"]
    assert quick[-1]["tcptrace"]["stream"]["sinks"].keys() == {"fake", "slow"}
    assert stage.said == []


def test_a_gap_in_a_slow_sink_is_told_in_all_and_is_nowhere_else() -> None:
    stage = Stage()
    stage.slow.hangs.set()
    for _ in range(200):
        stage.fanout.take([SEEN])
    stage.fanout._check_s = 0
    stage.fanout.take([SEEN])  # a second later
    stage.slow.hangs.clear()
    quick, slow = stage.end()
    numbers = sequences(stage.slow.taken)
    assert [one["event"]["sequence"] for one in quick] == list(range(1, len(quick) + 1))
    assert numbers == sorted(set(numbers))
    missing = set(range(1, numbers[-1] + 1)).difference(numbers)
    assert losses(slow)[-1] == losses(quick)[-1] == len(missing) > 100
    assert slow[-1]["event"]["action"] == "stream-ended"
    assert slow[-1]["tcptrace"]["stream"]["sinks"]["slow"]["lost"] == len(missing)
    assert len(stage.said) == 1 and stage.said[0].startswith("slow: does not keep up; ")


def test_losses_are_told_at_once_then_ever_less_often_and_when_it_has_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    stage.slow.hangs.set()
    now, real = time.monotonic(), time.monotonic
    told_s = []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for second in range(200):
        before = stage.fanout._documents._sequence
        stage.fanout.take([SEEN] * 20)
        if stage.fanout._documents._sequence - before > 20:
            told_s.append(second)
        now += 1.01
    assert told_s == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    monkeypatch.setattr(time, "monotonic", real)
    stage.slow.hangs.clear()
    until(lambda: not stage.sinks[1].behind)
    stage.fanout._check_s = stage.fanout._next_s = 0
    stage.fanout.take([])
    until(lambda: not len(stage.sinks[1]._backlog))
    assert losses([orjson.loads(line) for line in stage.slow.taken])[-1] == stage.sinks[1].lost
    stage.end()


def test_the_kernels_losses_stay_in_a_line_that_tells_of_a_sinks() -> None:
    stage = Stage()
    lost = {"ring_buffer": {"window": 3}, "table_full": {"tracks": 1}}
    stage.fanout.take([Notice("events-lost", START, lost=lost)])
    stage.slow.hangs.set()
    stage.fanout.take([SEEN] * 100)
    stage.slow.hangs.clear()
    quick, _ = stage.end()
    first, *_, last = (one["tcptrace"]["lost"] for one in quick if one["event"]["action"] == "events-lost")
    assert first == {"ring_buffer": 3, "table_full": 1, "by_kind": {"window": 3, "tracks": 1}}
    assert (last["ring_buffer"], last["table_full"]) == (3, 1)
    assert last["by_kind"].keys() == {"window", "tracks", "sink slow"}


def test_a_target_that_is_gone_is_told_where_others_go_on() -> None:
    stage = Stage()
    stage.slow.gone()
    stage.fanout.take([SEEN])
    until(lambda: stage.sinks[1].over)
    assert not stage.fanout.over
    stage.fanout._check_s = 0
    stage.fanout.take([SEEN])
    assert stage.said == ["slow: nobody reads it any more"]
    quick, _ = stage.end()
    assert losses(quick)
