"""Deadlines against numbers worked by hand from the kernel's handlers; each test says the arithmetic.

In jiffies, 250 a second: a timer fires at the next multiple of 8**level after it expires (the wheel), and its level is that of
the time for which it was set: 0 below 63 jiffies, 1 below 504, 2 below 4032, 3 below 32256, then times 8.
"""

from __future__ import annotations

import pytest

from tests.builders import DEAD, HZ, KEEPOPEN, SECOND, START, jiffies, peer_closed, sock
from tracer.events.records import SockState, TcpState
from tracer.model import deadlines, timers


def ticks(at: int | None) -> int:
    """Jiffies from START."""
    assert at is not None
    assert (at - START) * HZ % SECOND == 0
    return (at - START) * HZ // SECOND


def levels(write: int = 0, keepalive: int = 0) -> int:
    return write | keepalive << 4


NOW = jiffies(START)


def keepalive_sock(**values: int) -> SockState:
    return sock(flags=KEEPOPEN, keepalive_expires=NOW + 7200 * HZ, timer_levels=levels(keepalive=5), **values)


class TestKeepalive:
    def test_with_the_defaults_a_silent_peer_is_given_up_after_7875_s_and_what_the_wheel_adds(self) -> None:
        # 7200 s idle, which is 2050000 and so 63 * 8**5; then 9 probes 75 s apart, each 18750 and so 37 * 8**3
        found = ticks(deadlines.keepalive(keepalive_sock(), START, HZ))
        assert found == 63 * 8**5 - NOW + 9 * 37 * 8**3
        assert 7875 <= found / HZ <= 7875 * 1.02

    def test_probes_that_are_out_count(self) -> None:
        # the timer expires in 30 s, 257500, and so fires at 503 * 8**3; 3 of 9 are out: 6 more intervals
        silent = {"lrcvtime": NOW - 7500 * HZ & 0xFFFFFFFF, "rcv_tstamp": NOW - 7500 * HZ & 0xFFFFFFFF}
        found = sock(flags=KEEPOPEN, keepalive_expires=NOW + 30 * HZ, probes_out=3, timer_levels=levels(keepalive=3), **silent)
        assert ticks(deadlines.keepalive(found, START, HZ)) == 503 * 8**3 - NOW + 6 * 37 * 8**3

    def test_a_timer_that_fires_before_the_idle_time_is_over_only_waits_on(self) -> None:
        # data came 100 s ago; the timer fires in 50 s, but 7200 s of idleness are over only in 7100 s: 2025000, 62 * 8**5
        values = {"lrcvtime": NOW - 100 * HZ, "rcv_tstamp": NOW - 100 * HZ}
        found = sock(flags=KEEPOPEN, keepalive_expires=NOW + 50 * HZ, **values)
        assert ticks(deadlines.keepalive(found, START, HZ)) == 62 * 8**5 - NOW + 9 * 37 * 8**3

    def test_a_user_timeout_replaces_the_number_of_probes(self) -> None:
        # idle from now: first probe at 10 s (252500: 3946 * 64), then every 5 s (1250: 20 * 64); 22 s of idleness (5500)
        # are not over after 2 of those, but after 3
        found = sock(
            flags=KEEPOPEN,
            keepalive_time=10 * HZ,
            keepalive_intvl=5 * HZ,
            keepalive_expires=NOW + 10 * HZ,
            user_timeout=22_000,
            timer_levels=levels(keepalive=2),
        )
        assert ticks(deadlines.keepalive(found, START, HZ)) == 3946 * 64 - NOW + 3 * 20 * 64

    def test_a_user_timeout_shorter_than_the_idle_time_still_needs_one_probe(self) -> None:
        # first probe at 10 s; the firing after it, 5 s later, gives up
        found = sock(
            flags=KEEPOPEN,
            keepalive_time=10 * HZ,
            keepalive_intvl=5 * HZ,
            keepalive_expires=NOW + 10 * HZ,
            user_timeout=3_000,
            timer_levels=levels(keepalive=2),
        )
        assert ticks(deadlines.keepalive(found, START, HZ)) == 3946 * 64 - NOW + 20 * 64

    @pytest.mark.parametrize("blocked", [{"packets_out": 1}, {"write_seq": 2001}])
    def test_it_does_not_run_while_anything_waits_to_be_sent_or_acknowledged(self, blocked: dict[str, int]) -> None:
        assert deadlines.keepalive(keepalive_sock(**blocked), START, HZ) is None

    def test_without_so_keepalive_there_is_none(self) -> None:
        assert deadlines.keepalive(sock(keepalive_expires=NOW + HZ), START, HZ) is None


class TestPersist:
    def test_unanswered_probes_end_after_924_6_s_and_what_the_wheel_adds(self) -> None:
        # base 200 ms, doubling 15 times, at most 120 s: 0.2 * (2**10 - 1) + 6 * 120. The wheel makes of 50 jiffies 51, then
        # of 100, 200 and 400: 101, 208, 408; of 800, 1600, 3200: 816, 1664, 3264; of 6400, 12800, 25600: 6656, 13312, 26112;
        # and of each 30000: 59 * 8**3
        found = ticks(deadlines.persist(peer_closed(START, write_expires=NOW + HZ // 5), START, HZ))
        assert found == 51 + 101 + 208 + 408 + 816 + 1664 + 3264 + 6656 + 13312 + 26112 + 6 * 59 * 8**3
        assert 924.6 <= found / HZ <= 924.6 * 1.02

    def test_a_probe_that_is_answered_makes_no_deadline(self) -> None:
        assert deadlines.forecast(peer_closed(START, backoff=6, probes_out=0), START, HZ) is None

    def test_two_unanswered_ones_do(self) -> None:
        # M = 15, p = 13, b = 13: fires now, then 120 s (280001: 547 * 8**3), then 120 s: p reaches 15 at the third firing
        found = peer_closed(START, backoff=13, probes_out=13, write_expires=NOW)
        forecast = deadlines.forecast(found, START, HZ)
        assert forecast is not None
        assert (forecast.outcome, forecast.by) == ("timeout", "persist")
        assert ticks(forecast.at_ns) == 547 * 8**3 - NOW + 59 * 8**3

    @pytest.mark.parametrize(("heard_s", "silent"), [(3.4, True), (1.7, False)])
    def test_when_probes_come_no_less_often_any_more_the_last_answer_tells(self, heard_s: float, silent: bool) -> None:
        # the latest was sent 0.1 s ago; with retries2 at 3 the one before may have come 0.8 or 1.6 s earlier
        found = peer_closed(
            START,
            retries2=3,
            backoff=3,
            probes_out=2 if silent else 1,
            write_expires=NOW + HZ * 3 // 2,
            rcv_tstamp=NOW - round(heard_s * HZ),
            probes_tstamp=NOW - 6 * HZ,
        )
        assert (deadlines.forecast(found, START, HZ) is not None) == silent

    def test_the_first_probe_after_a_long_quiet_is_not_unanswered_yet(self) -> None:
        # what is written long after the last answer is probed for then, and the answer takes a round trip
        found = peer_closed(
            START,
            backoff=1,
            probes_out=1,
            write_expires=NOW + HZ * 2 // 5 - 3,
            rcv_tstamp=NOW - 60 * HZ,
            probes_tstamp=NOW - 3,
        )
        assert deadlines.forecast(found, START, HZ) is None

    def test_a_timer_that_the_user_timeout_shortened_does_not_say_how_long_it_has_run(self) -> None:
        # 28 s of 30 have passed; the probe that was just sent would be followed by one in 12.8 s, but the end comes in 2
        found = peer_closed(
            START,
            backoff=6,
            probes_out=1,
            user_timeout=30_000,
            write_expires=NOW + 2 * HZ,
            rcv_tstamp=NOW - HZ // 10,
            probes_tstamp=NOW - 28 * HZ,
        )
        assert not deadlines.probe_unanswered(found, HZ)

    def test_a_user_timeout_ends_it_though_probes_are_answered(self) -> None:
        # the first probe was due 4 s ago, at 249000; 30 s (7500) from there. Probes at 250051, 250152, 250360, 250768, 251584,
        # 253248; the next after 3200 jiffies, which is no more than is left, at 256512, is 7512 after the first
        found = peer_closed(START, user_timeout=30_000, probes_tstamp=(NOW - 4 * HZ) & 0xFFFFFFFF)
        forecast = deadlines.forecast(found, START, HZ)
        assert forecast is not None and forecast.by == "user-timeout"
        assert ticks(forecast.at_ns) == 6512

    def test_a_user_timeout_whose_clock_has_not_started_starts_with_the_next_probe(self) -> None:
        # at 250501; then at 250608, 250816, 251224, 252032, 253696, 256960: 1041 of 7500 jiffies are left, which end at 258048
        found = peer_closed(START, user_timeout=30_000, write_expires=NOW + 2 * HZ)
        assert ticks(deadlines.persist(found, START, HZ)) == 8048

    def test_an_orphan_gives_up_after_8_probes_while_the_backoff_is_short(self) -> None:
        # p = 7, b = 0, rto 0.2 s: one more probe in 1 s, then 0.4 s (250351: 31294 * 8) to the firing that finds 8
        found = peer_closed(START, flags=DEAD, probes_out=7, write_expires=NOW + HZ)
        assert ticks(deadlines.persist(found, START, HZ)) == 31294 * 8 - NOW


class TestRetransmission:
    @pytest.mark.parametrize(
        ("retries", "seconds_"),
        [(0, 0.2), (3, 3.0), (9, 204.6), (15, 924.6)],  # (2**(r+1) - 1) * 0.2, and 120 s for each after the ninth
    )
    def test_how_long_retries2_is(self, retries: int, seconds_: float) -> None:
        assert deadlines.retransmission_patience_ms(retries, 120_000) == pytest.approx(seconds_ * 1000)

    def test_it_ends_when_the_timer_fires_after_the_patience_is_over(self) -> None:
        # first sent 3 s ago; fires after 401 jiffies (elapsed 4.6 s) and, 800 later, at 251264 (8.1 s); retries2 = 4: 6.2 s
        found = sock(
            pending=1,
            packets_out=1,
            retransmits=3,
            rto=HZ * 16 // 10,
            write_expires=NOW + HZ * 16 // 10,
            retrans_stamp=(START // 1_000_000 - 3000) & 0xFFFFFFFF,
            retries2=4,
        )
        assert ticks(deadlines.retransmission(found, START, HZ)) == 1264

    def test_a_user_timeout_shortens_the_last_wait(self) -> None:
        # fires at 250251, 250352, 250560, 250968; 800 more jiffies would be too long: 782 are left of 10 s, and end at 251776
        found = sock(
            pending=1,
            packets_out=1,
            retransmits=2,
            write_expires=NOW + HZ,
            retrans_stamp=(START // 1_000_000 - 3000) & 0xFFFFFFFF,
            user_timeout=10_000,
        )
        assert ticks(deadlines.retransmission(found, START, HZ)) == 1776

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
        assert ticks(deadlines.retransmission(found, START, HZ)) == 1776

    def test_in_flight_into_a_closed_window_waits_for_as_long_as_acks_come(self) -> None:
        # the last ACK came 10 s ago: the first timer that expires 2 * 120 s after it, at 307500, is that of 332592, since the
        # one before expires at 302080
        found = sock(
            pending=1,
            packets_out=1,
            backoff=5,
            snd_wnd=0,
            write_expires=NOW + HZ,
            rcv_tstamp=(NOW - 10 * HZ) & 0xFFFFFFFF,
            retrans_stamp=(START // 1_000_000 - 60_000) & 0xFFFFFFFF,
        )
        assert ticks(deadlines.retransmission(found, START, HZ)) == 650 * 8**3 - NOW


def test_an_orphan_in_fin_wait2_ends_silently_after_its_timer_and_time_wait() -> None:
    # tcp_fin_timeout is 63 s: what is more than 60 s passes as FIN_WAIT2, and then as long again as TIME_WAIT
    orphan = {"state": TcpState.FIN_WAIT2, "flags": DEAD, "fin_timeout": 63 * HZ}
    found = sock(**orphan, keepalive_expires=NOW + 2 * HZ, timer_levels=levels(keepalive=2))
    forecast = deadlines.forecast(found, START, HZ)
    assert forecast is not None and (forecast.outcome, forecast.by) == ("timeout", "orphan")
    assert ticks(forecast.at_ns) == 3927 * 64 - NOW  # 250500: 3915 * 64; 750 more: 251310


def test_stamps_that_wrapped_are_read_right() -> None:
    found = sock(jiffies=(1 << 32) + 10, lrcvtime=0xFFFFFFF6)  # 20 jiffies before
    assert timers.last_data_ns(found, START, HZ) == START - 20 * SECOND // HZ


def test_an_idle_healthy_connection_has_no_forecast() -> None:
    assert deadlines.forecast(keepalive_sock(), START, HZ) is None
