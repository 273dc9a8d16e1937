"""Deadlines against numbers worked by hand from the kernel's formulas; each test says the arithmetic."""

from __future__ import annotations

import pytest

from tests.builders import DEAD, HZ, KEEPOPEN, SECOND, START, jiffies, peer_closed, sock
from tracer.events.records import SockState, TcpState
from tracer.model import deadlines


def seconds(at: int | None) -> float:
    assert at is not None
    return (at - START) / SECOND


NOW = jiffies(START)


def keepalive_sock(**values: int) -> SockState:
    return sock(flags=KEEPOPEN, keepalive_expires=NOW + 7200 * HZ, **values)


class TestKeepalive:
    def test_with_the_defaults_a_silent_peer_is_given_up_after_7875_s(self) -> None:
        # 7200 s idle, then 9 probes 75 s apart
        assert seconds(deadlines.keepalive(keepalive_sock(), START, HZ)) == 7200 + 9 * 75

    def test_probes_that_are_out_count(self) -> None:
        # the timer fires in 30 s; 3 of 9 are out: 6 more intervals
        found = sock(flags=KEEPOPEN, keepalive_expires=NOW + 30 * HZ, probes_out=3)
        assert seconds(deadlines.keepalive(found, START, HZ)) == 30 + 6 * 75

    def test_a_timer_that_fires_before_the_idle_time_is_over_only_waits_on(self) -> None:
        # data came 100 s ago; the timer fires in 50 s, but 7200 s of idleness are over only in 7100 s
        values = {"lrcvtime": NOW - 100 * HZ, "rcv_tstamp": NOW - 100 * HZ}
        found = sock(flags=KEEPOPEN, keepalive_expires=NOW + 50 * HZ, **values)
        assert seconds(deadlines.keepalive(found, START, HZ)) == 7100 + 9 * 75

    def test_a_user_timeout_replaces_the_number_of_probes(self) -> None:
        # idle from now: first probe at 10 s, then every 5 s; 22 s of idleness are first over at 10 + 3 * 5 = 25 s
        found = sock(
            flags=KEEPOPEN,
            keepalive_time=10 * HZ,
            keepalive_intvl=5 * HZ,
            keepalive_expires=NOW + 10 * HZ,
            user_timeout=22_000,
        )
        assert seconds(deadlines.keepalive(found, START, HZ)) == 25

    def test_a_user_timeout_shorter_than_the_idle_time_still_needs_one_probe(self) -> None:
        # first probe at 10 s; the firing after it, at 15 s, gives up
        found = sock(
            flags=KEEPOPEN,
            keepalive_time=10 * HZ,
            keepalive_intvl=5 * HZ,
            keepalive_expires=NOW + 10 * HZ,
            user_timeout=3_000,
        )
        assert seconds(deadlines.keepalive(found, START, HZ)) == 15

    @pytest.mark.parametrize("blocked", [{"packets_out": 1}, {"write_seq": 2001}])
    def test_it_does_not_run_while_anything_waits_to_be_sent_or_acknowledged(self, blocked: dict[str, int]) -> None:
        assert deadlines.keepalive(keepalive_sock(**blocked), START, HZ) is None

    def test_without_so_keepalive_there_is_none(self) -> None:
        assert deadlines.keepalive(sock(keepalive_expires=NOW + HZ), START, HZ) is None


class TestPersist:
    def test_unanswered_probes_end_after_924_6_s(self) -> None:
        # base 200 ms, doubling 15 times, at most 120 s: 0.2 * (2**10 - 1) + 6 * 120
        found = peer_closed(START, write_expires=NOW + HZ // 5)
        assert seconds(deadlines.persist(found, START, HZ)) == pytest.approx(924.6)

    def test_a_probe_that_is_answered_makes_no_deadline(self) -> None:
        assert deadlines.forecast(peer_closed(START, backoff=6, probes_out=0), START, HZ) is None

    def test_two_unanswered_ones_do(self) -> None:
        # M = 15, p = 13, b = 13: fires now, then 120 s, then 120 s: p reaches 15 at the third firing
        found = peer_closed(START, backoff=13, probes_out=13, write_expires=NOW)
        forecast = deadlines.forecast(found, START, HZ)
        assert forecast is not None
        assert (forecast.outcome, forecast.by) == ("timeout", "persist")
        assert seconds(forecast.at_ns) == 240

    def test_a_user_timeout_ends_it_though_probes_are_answered(self) -> None:
        # the first probe was due 4 s ago; 30 s from there
        found = peer_closed(START, user_timeout=30_000, probes_tstamp=(NOW - 4 * HZ) & 0xFFFFFFFF)
        forecast = deadlines.forecast(found, START, HZ)
        assert forecast is not None and forecast.by == "user-timeout"
        assert seconds(forecast.at_ns) == 26

    def test_a_user_timeout_whose_clock_has_not_started_starts_with_the_next_probe(self) -> None:
        found = peer_closed(START, user_timeout=30_000, write_expires=NOW + 2 * HZ)
        assert seconds(deadlines.persist(found, START, HZ)) == 32

    def test_an_orphan_gives_up_after_8_probes_while_the_backoff_is_short(self) -> None:
        # p = 7, b = 0, rto 0.2 s: one more probe in 1 s, then 0.4 s to the firing that finds 8
        found = peer_closed(START, flags=DEAD, probes_out=7, write_expires=NOW + HZ)
        assert seconds(deadlines.persist(found, START, HZ)) == pytest.approx(1.4)


class TestRetransmission:
    @pytest.mark.parametrize(
        ("retries", "seconds_"),
        [(0, 0.2), (3, 3.0), (9, 204.6), (15, 924.6)],  # (2**(r+1) - 1) * 0.2, and 120 s for each after the ninth
    )
    def test_how_long_retries2_is(self, retries: int, seconds_: float) -> None:
        assert deadlines.retransmission_patience_ms(retries, 120_000) == pytest.approx(seconds_ * 1000)

    def test_it_ends_when_the_timer_fires_after_the_patience_is_over(self) -> None:
        # first sent 3 s ago; fires in 1.6 s (elapsed 4.6) and with 3.2, 6.4 … after it: 4.6, 7.8 (retries2 = 4: 6.2 s)
        found = sock(
            pending=1,
            packets_out=1,
            retransmits=3,
            rto=HZ * 16 // 10,
            write_expires=NOW + HZ * 16 // 10,
            retrans_stamp=(START // 1_000_000 - 3000) & 0xFFFFFFFF,
            retries2=4,
        )
        assert seconds(deadlines.retransmission(found, START, HZ)) == pytest.approx(4.8)

    def test_a_user_timeout_is_met_exactly(self) -> None:
        found = sock(
            pending=1,
            packets_out=1,
            retransmits=2,
            write_expires=NOW + HZ,
            retrans_stamp=(START // 1_000_000 - 3000) & 0xFFFFFFFF,
            user_timeout=10_000,
        )
        assert seconds(deadlines.retransmission(found, START, HZ)) == 7

    def test_nothing_was_retransmitted_nothing_ends(self) -> None:
        assert deadlines.retransmission(sock(pending=1, packets_out=1), START, HZ) is None

    def test_microsecond_stamps_are_read_as_such(self) -> None:
        found = sock(
            pending=1,
            packets_out=1,
            retransmits=2,
            write_expires=NOW + HZ,
            retrans_stamp=(START // 1000 - 3_000_000) & 0xFFFFFFFF,
            user_timeout=10_000,
            flags=8,
        )
        assert seconds(deadlines.retransmission(found, START, HZ)) == 7

    def test_in_flight_into_a_closed_window_waits_for_as_long_as_acks_come(self) -> None:
        # the last ACK came 10 s ago: 2 * 120 s after it
        found = sock(
            pending=1,
            packets_out=1,
            retransmits=5,
            snd_wnd=0,
            write_expires=NOW + HZ,
            rcv_tstamp=(NOW - 10 * HZ) & 0xFFFFFFFF,
            retrans_stamp=(START // 1_000_000 - 60_000) & 0xFFFFFFFF,
        )
        assert seconds(deadlines.retransmission(found, START, HZ)) == 230


def test_an_orphan_in_fin_wait2_ends_silently_after_its_timer_and_time_wait() -> None:
    found = sock(state=TcpState.FIN_WAIT2, flags=DEAD, keepalive_expires=NOW + 5 * HZ)
    forecast = deadlines.forecast(found, START, HZ)
    assert forecast is not None and (forecast.outcome, forecast.by) == ("timeout", "orphan")
    assert seconds(forecast.at_ns) == 65


def test_stamps_that_wrapped_are_read_right() -> None:
    found = sock(jiffies=(1 << 32) + 10, lrcvtime=0xFFFFFFF6)  # 20 jiffies before
    assert deadlines.last_data_ns(found, START, HZ) == START - 20 * SECOND // HZ


def test_an_idle_healthy_connection_has_no_forecast() -> None:
    assert deadlines.forecast(keepalive_sock(), START, HZ) is None
