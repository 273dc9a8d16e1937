"""Stories of readers: what they do while data waits, who of several it is, and how long those bear who wait for them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import NETNS, SECOND, START, Stage, jiffies, local_closed, peer_closed
from tracer.events.records import (
    Actor,
    Holder,
    Inspected,
    OwnersScanned,
    Process,
    Reset,
    Socket,
    SockFlag,
    State,
    TcpState,
    Thread,
    Window,
)
from tracer.model.findings import Phase, Verdict

BOTH = 3
READER = {"reader_tgid": 100, "reader_tid": 107, "readers": 1, "read_ns": START - SECOND}


def stalled_reader(stage: Stage, ns: int = START, **values: Any) -> None:
    last_data = jiffies(ns - SECOND)
    stage.feed(Socket(ns, local_closed(ns, **(READER | {"lrcvtime": last_data} | values))))
    stage.owned(ns, java=0xFFFF888000000001)


def thread(ns: int, cpu_s: float, state: str = "S", channel: str = "futex_wait_queue") -> Thread:
    return Thread(ns, 100, 107, "worker-1", state, channel, round(cpu_s * SECOND))


class TestCondition:
    @pytest.mark.parametrize(
        ("state", "cpu_s", "says"),
        [
            ("S", 10.0, "worker-1 is idle in futex"),
            ("R", 13.9, "worker-1 is busy at 98% of a CPU"),
            ("S", 13.2, "worker-1 is busy at 80% of a CPU"),
            ("R", 10.4, "worker-1 is running, at 10% of a CPU"),
            ("T", 10.0, "worker-1 is stopped"),
        ],
    )
    def test_idle_and_busy_are_different_diagnoses(self, state: str, cpu_s: float, says: str) -> None:
        stage = Stage()
        stalled_reader(stage)
        stage.feed(thread(START, 10.0, state))
        stage.tick(START + SECOND)
        stage.feed(thread(START + 4 * SECOND, cpu_s, state))
        view = stage.only(START + 5 * SECOND)
        assert says in view.verdict.evidence
        assert view.owner.cpu_share == pytest.approx((cpu_s - 10) / 4)

    def test_what_the_thread_used_before_the_stall_does_not_count(self) -> None:
        stage = Stage()
        stage.feed(thread(START - 100 * SECOND, 0.0))
        stalled_reader(stage)
        stage.feed(thread(START, 90.0))
        stage.tick(START + SECOND)
        stage.feed(thread(START + 4 * SECOND, 90.0))
        assert stage.only(START + 5 * SECOND).owner.cpu_share == 0

    def test_a_reader_that_is_too_slow_is_told_by_both_rates(self) -> None:
        stage = Stage()
        stalled_reader(stage)
        later = START + SECOND
        taken = {"copied_seq": 1000 + 2_000, "rcv_nxt": 1000 + 362_708 + 50_000, "rcv_wup": 1000 + 362_708 + 50_000}
        stage.feed(Socket(later, local_closed(later, **(READER | taken))))
        assert "reads 2.0 kB/s, 50.0 kB/s arrive" in stage.only(later).verdict.evidence


class TestSeveral:
    def test_of_several_threads_none_is_blamed_and_the_last_one_is_told(self) -> None:
        stage = Stage()
        stalled_reader(stage, readers=3)
        stage.feed(thread(START, 10.0))
        view = stage.only(START + 5 * SECOND)
        reader = view.verdict.slow_reader
        assert (reader.pid, reader.name, reader.thread_id, reader.thread_name) == (100, "java", None, None)
        assert view.verdict.summary.startswith("java[100] has not read")
        assert "3 threads read it, last worker-1, which is idle in futex" in view.verdict.evidence

    def test_of_several_processes_none_is_blamed(self) -> None:
        stage = Stage()
        stalled_reader(stage, readers=2, flags=int(SockFlag.SEVERAL))
        scanned = START + SECOND
        for pid in (100, 200):
            stage.feed(Holder(scanned, 0xFFFF888000000001, 1, pid, 3, NETNS, "java"))
        stage.feed(OwnersScanned(scanned, scanned))
        view = stage.only(START + 5 * SECOND)
        assert (view.owner.match, view.owner.holders) == ("shared", (100, 200))
        assert view.verdict.slow_reader.side == "local" and view.verdict.slow_reader.pid is None

    def test_a_process_that_passed_its_socket_on_is_not_its_reader_any_more(self) -> None:
        stage = Stage()
        stalled_reader(stage, readers=2, flags=int(SockFlag.SEVERAL))
        stage.feed(Holder(START, 0xFFFF888000000001, 1, 200, 3, NETNS, "java"), OwnersScanned(START, START))
        assert stage.only(START + 5 * SECOND).owner.pid == 200


class TestPatience:
    def play(self, stage: Stage, number: int, stalled_s: float, **values: Any) -> int:
        """nginx's connection to a peer stalls, and nginx closes it; when that is."""
        begin = START + number * 1000 * SECOND
        ends = begin + round(stalled_s * SECOND)
        self.stalls(stage, number)
        closes = {"state": TcpState.ESTABLISHED, "shutdown": BOTH, **values}
        found = peer_closed(ends, **self.names(number), **closes)
        stage.feed(State(ends, Actor(101, 101, "nginx"), found, TcpState.ESTABLISHED, TcpState.FIN_WAIT1))
        return ends

    def stalls(self, stage: Stage, number: int) -> None:
        begin = START + number * 1000 * SECOND
        found = peer_closed(begin, **self.names(number))
        stage.feed(Window(begin, None, found, "peer", 0), Inspected(begin + SECOND // 4, found))
        stage.feed(Process(begin, 101, "nginx", None, None, None), Holder(begin, 10 + number, 1, 101, 3, NETNS, "nginx"))
        stage.feed(OwnersScanned(begin, begin))

    @staticmethod
    def names(number: int) -> dict[str, Any]:
        return {"sk": 10 + number, "opened_by": 2, "peer": ("10.0.0.2", 40000 + number)}

    def forecast(self, stage: Stage, number: int, after_s: float) -> Verdict:
        now = START + number * 1000 * SECOND + round(after_s * SECOND)
        for view in stage.tracker.screen(now).connections:
            if view.peer.port == 40000 + number:
                return view.verdict
        raise AssertionError("not on the screen")

    def test_what_an_application_did_three_times_it_will_do_again(self) -> None:
        stage = Stage()
        for number, stalled_s in enumerate((60.1, 60.0)):
            self.play(stage, number, stalled_s)
        self.stalls(stage, 7)
        assert self.forecast(stage, 7, 43).forecast.outcome == "none"
        self.play(stage, 2, 59.9)
        self.stalls(stage, 8)
        verdict = self.forecast(stage, 8, 43)
        begin = START + 8 * 1000 * SECOND
        assert verdict.forecast.basis == "learned" and verdict.forecast.by == "application"
        assert verdict.forecast.at_ns == begin + 60 * SECOND
        assert verdict.forecast.habit is not None and verdict.forecast.habit.sightings == 3
        assert verdict.summary.endswith(
            "no kernel deadline; nginx has given up on such peers after 60 s (3 seen); that is in 17 s"
        )

    def test_one_that_outlives_the_habit_has_no_forecast_any_more(self) -> None:
        stage = Stage()
        for number in range(3):
            self.play(stage, number, 60)
        self.stalls(stage, 8)
        assert self.forecast(stage, 8, 60.5).forecast.basis == "learned"
        assert self.forecast(stage, 8, 62).forecast.basis == "none"

    def test_a_process_that_ends_gives_nobody_up(self) -> None:
        stage = Stage()
        for number in range(4):
            self.play(stage, number, 60, flags=int(SockFlag.EXITING))
        self.stalls(stage, 8)
        assert self.forecast(stage, 8, 43).forecast.basis == "none"

    def test_shutting_one_direction_down_is_no_end(self) -> None:
        stage = Stage()
        ends = self.play(stage, 0, 5)
        actions = stage.actions()
        assert "connection-closed" not in actions and "reset-sent" not in actions
        assert stage.tracker.screen(ends).by_phase[Phase.STALLED] == 1

    def test_resets_count_as_well(self) -> None:
        stage = Stage()
        for number in range(3):
            self.stalls(stage, number)
            at = START + number * 1000 * SECOND + 30 * SECOND
            found = peer_closed(at, state=TcpState.CLOSE, shutdown=BOTH, flags=int(SockFlag.LINGER), **self.names(number))
            stage.feed(Reset(at, Actor(101, 101, "nginx"), found, "sent", "TCP_STATE", True, False))
        self.stalls(stage, 8)
        forecast = self.forecast(stage, 8, 10).forecast
        assert (forecast.outcome, forecast.by, forecast.basis) == ("reset", "application", "learned")
