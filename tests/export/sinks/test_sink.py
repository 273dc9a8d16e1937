"""A sink under a target that is slow, fails, comes back or is gone: what is said, what is kept, and what is counted."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.export.sinks.lines import Fake, sequences, stream, until
from tracer.export.sinks import sink as module
from tracer.export.sinks.backlog import RESERVE, Backlog
from tracer.export.sinks.sink import Sink


class Stage:
    """A sink, its target, and what it said."""

    def __init__(self, backlog: int = 1 << 20) -> None:
        self.target = Fake()
        self.said: list[str] = []
        self.sink = Sink(self.target, backlog, self.said.append)
        self.sink.start()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(module, "STEADY_S", 0.05)
    one = Stage()
    yield one
    one.target.hangs.clear()
    one.sink.close(2)


def test_lines_come_in_their_order_and_none_is_lost(stage: Stage) -> None:
    lines = stream(500)
    for line in lines:
        stage.sink.put([line])
    stage.sink.close(2)
    assert stage.target.taken == lines
    assert (stage.sink.written, stage.sink.lost, stage.said) == (500, 0, [])
    assert not stage.target.is_open


@pytest.mark.parametrize("bites", [1, 7, 1000, 4096])
def test_a_target_may_take_any_part_of_them(stage: Stage, bites: int) -> None:
    stage.target.bites = bites
    lines = stream(5)
    stage.sink.put(lines)
    stage.sink.close(5)
    assert stage.target.taken == lines


def test_a_failure_is_told_once_and_nothing_is_lost_that_has_room(stage: Stage) -> None:
    lines = stream(40)
    stage.target.fails = OSError(28, "No space left on device")
    for line in lines[:20]:
        stage.sink.put([line])
        time.sleep(0.005)
    until(lambda: stage.said)
    assert stage.sink.failing
    stage.target.fails = None
    for line in lines[20:]:
        stage.sink.put([line])
        time.sleep(0.01)
    until(lambda: len(stage.said) == 2)
    stage.sink.close(2)
    assert stage.said[0] == "fake: No space left on device; it is tried again, and what is lost meanwhile is counted"
    assert stage.said[1].startswith("fake: works again after 0.") and stage.said[1].endswith("; 0 lines were lost")
    assert stage.target.taken == lines
    assert not stage.sink.failing


def test_pauses_grow_and_differ(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(stage.sink._hurry, "wait", pauses.append)
    stage.target.fails = ConnectionRefusedError(111, "Connection refused")
    stage.sink.put(stream(1))
    until(lambda: len(pauses) > 14)
    for number, pause in enumerate(pauses[:14]):
        whole = min(30.0, 0.02 * 2**number)
        assert whole / 2 <= pause <= whole
    assert len(set(pauses)) > 10 and len(stage.said) == 1


def test_a_target_that_fails_after_each_opening_is_told_of_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEADY_S", 10.0)
    lines = stream(30)
    for number, line in enumerate(lines):
        stage.target.fails = ConnectionResetError(104, "Connection reset by peer") if number % 3 == 0 else None
        stage.sink.put([line])
        time.sleep(0.005)
    stage.target.fails = None
    stage.sink.close(2)
    assert len(stage.said) == 1
    assert stage.target.taken == lines


def test_what_a_connection_did_not_deliver_comes_again_first(stage: Stage) -> None:
    lines = stream(6)
    stage.sink.put(lines[:3])
    until(lambda: len(stage.target.taken) == 3)
    stage.target.undelivered = stage.target.taken[1:]
    stage.target.fails = BrokenPipeError(32, "Broken pipe")
    stage.sink.put(lines[3:])
    until(lambda: stage.said)
    stage.target.fails = None
    stage.sink.close(2)
    assert sequences(stage.target.taken) == [1, 2, 3, 2, 3, 4, 5, 6]
    assert stage.sink.written == 6


def test_whoever_puts_never_waits_for_a_target_that_hangs() -> None:
    stage = Stage(backlog=20_000)
    stage.target.hangs.set()
    lines = stream(200)
    began = time.monotonic()
    for line in lines:
        stage.sink.put([line])
    stage.sink.put_anyway(stream(1)[0])
    assert time.monotonic() - began < 1
    assert 150 < stage.sink.lost < 200 and stage.sink.behind
    stage.target.hangs.clear()
    stage.sink.close(2)
    # the oldest are kept; the one that tells of the losses has room
    kept = sequences(stage.target.taken)
    assert kept == [*range(1, len(kept)), 1]
    assert len(kept) + stage.sink.lost == 201
    assert stage.said == []


def test_the_end_does_not_wait_for_ever_and_says_what_is_lost(stage: Stage) -> None:
    stage.target.hangs.set()
    stage.sink.put(stream(5))
    until(lambda: not len(stage.sink._backlog))
    stage.sink.put(stream(2))
    began = time.monotonic()
    stage.sink.close(0.2)
    assert 0.2 <= time.monotonic() - began < 1
    assert stage.said == ["fake: 7 lines were not taken in time and are lost"]


def test_the_end_tries_a_failing_target_to_the_last(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 60.0)
    stage.target.fails = ConnectionRefusedError(111, "Connection refused")
    lines = stream(3)
    stage.sink.put(lines)
    until(lambda: stage.said)
    stage.sink.hurry()
    stage.target.fails = None
    stage.sink.close(2)
    assert stage.target.taken == lines


def test_a_target_that_is_gone_takes_nothing_more_and_all_is_counted(stage: Stage) -> None:
    stage.target.gone()
    stage.sink.put(stream(3))
    until(lambda: stage.sink.over)
    stage.sink.put(stream(4))
    stage.sink.close(1)
    assert (stage.sink.why_over, stage.said) == ("nobody reads it any more", [])
    assert (stage.sink.lost, stage.sink.written) == (7, 0)


def test_it_is_opened_anew_also_when_nothing_is_written(stage: Stage) -> None:
    stage.sink.put(stream(1))
    until(lambda: stage.target.taken)
    stage.sink.reopen()
    until(lambda: stage.target.opened == 2)
    stage.sink.put(stream(1))
    stage.sink.close(2)
    assert (stage.target.closed, len(stage.target.taken)) == (2, 2)


def test_a_backlog_is_bounded_also_for_lines_that_have_room() -> None:
    backlog = Backlog(100)
    backlog.put([b"x" * 60, b"y" * 60, b"z"])
    assert (len(backlog), backlog.lost) == (1, 2)
    for _ in range(RESERVE + 5):
        backlog.put_anyway(b"w" * 60)
    assert (len(backlog), backlog.lost) == (1 + RESERVE, 2 + 5)
    assert len(backlog.take()) == 1 + RESERVE
    backlog.put([b"v" * 100])
    backlog.put_anyway(b"u" * 60)
    assert (len(backlog), backlog.lost, backlog.drop(), backlog.lost) == (2, 7, 2, 9)
