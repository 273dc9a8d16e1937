"""Stories: what the kernel tells, record by record, and the verdict that has to come of it."""

from __future__ import annotations

import errno
from ipaddress import ip_network
from typing import Any

import pytest

from tests.builders import (
    DEAD,
    HZ,
    KEEPOPEN,
    NETNS,
    SECOND,
    START,
    Stage,
    jiffies,
    local_closed,
    peer_closed,
    sock,
)
from tracer.events.records import (
    Actor,
    Destroyed,
    Holder,
    Inspected,
    Listener,
    Losses,
    OwnersScanned,
    Reset,
    Retransmit,
    Socket,
    SockFlag,
    SockState,
    State,
    TcpState,
    Thread,
    Timer,
    Window,
)
from tracer.model.findings import Phase
from tracer.model.judge import SEARCH_NS
from tracer.model.selection import Selection

MS = 1_000_000
CLIENT, NGINX_FRONT, NGINX_BACK, SERVER = 0xA1, 0xB1, 0xB2, 0xC1


def window_just_closed(stage: Stage, ns: int, side: str, **values: Any) -> SockState:
    """As the kernel tells it."""
    found = local_closed(ns, **values) if side == "local" else peer_closed(ns, **values)
    stage.feed(Window(ns, None, found, side, 0))  # type: ignore[arg-type]
    stage.feed(Inspected(ns + MS, found))
    return found


def window_closes(stage: Stage, ns: int, side: str, **values: Any) -> None:
    """And a look after 220 ms finds it closed still."""
    look(stage, ns + 220 * MS, window_just_closed(stage, ns, side, **values))


def look(stage: Stage, ns: int, found: SockState) -> None:
    """The same, later."""
    stage.feed(Inspected(ns, found._replace(jiffies=jiffies(ns))))


class TestStalls:
    def test_an_alert_does_not_wait_for_ever(self) -> None:
        stage = Stage()
        window_closes(stage, START, "local")
        assert stage.tick(START + SEARCH_NS - MS) == []
        (changed,) = stage.tick(START + SEARCH_NS)
        assert changed.action == "verdict-changed" and changed.connection is not None
        assert changed.connection.verdict.slow_reader.pid is None

    def test_a_closed_window_is_told_at_once_and_a_stall_after_200_ms(self) -> None:
        stage = Stage()
        window_just_closed(stage, START, "local")
        assert stage.actions() == ["connection-seen", "window-closed"]
        assert stage.notices[1].window_side == "local" and stage.notices[1].ns == START
        look(stage, START + 199 * MS, local_closed(START))
        assert stage.only(START + 199 * MS).verdict.phase is Phase.OK
        look(stage, START + 200 * MS, local_closed(START))
        assert stage.only(START + 200 * MS).verdict.phase is Phase.STALLED
        assert stage.tick(START + 200 * MS) == []  # an alert waits for the look at descriptors that finds the reader
        stage.owned(START, java=local_closed(START).sk)
        (changed,) = stage.tick(START + 400 * MS)
        assert changed.action == "verdict-changed" and changed.connection is not None
        assert changed.connection.verdict.phase is Phase.STALLED
        assert changed.connection.verdict.since_ns == START

    def test_a_reader_that_is_busy_but_drains_is_no_stall(self) -> None:
        stage = Stage()
        for step in range(20):
            at = START + step * 300 * MS
            window_just_closed(stage, at, "local")
            stage.tick(at + 100 * MS)
            open_again = sock(at + 150 * MS, rcv_nxt=9000 + step, copied_seq=9000 + step, rcv_wup=9000 + step)
            stage.feed(Inspected(at + 150 * MS, open_again))
            stage.tick(at + 250 * MS)
        assert "verdict-changed" not in stage.actions()
        assert stage.actions().count("window-opened") == 20

    def test_a_stall_that_nothing_shows_to_last_is_not_claimed(self) -> None:
        stage = Stage()
        window_just_closed(stage, START, "local")
        assert stage.only(START + SECOND).verdict.phase is Phase.OK

    def test_a_window_that_is_closed_before_a_reader_who_reads_on_is_no_stall(self) -> None:
        stage = Stage()
        window_just_closed(stage, START, "local")
        read = {"read_ns": START + SECOND - 100 * MS, "copied_seq": 300_000}
        look(stage, START + SECOND, local_closed(START + SECOND, **read))
        assert stage.only(START + SECOND).verdict.phase is Phase.OK

    def test_the_reader_is_named_by_process_and_thread_and_by_what_it_waits_for(self) -> None:
        stage = Stage()
        reader = {"reader_tgid": 100, "reader_tid": 107, "read_ns": START - SECOND}
        window_closes(stage, START, "local", unread=362_708, **reader)
        stage.owned(START, java=local_closed(START).sk)
        stage.thread(START, 100, 107, "worker-1")
        view = stage.only(START + 43 * SECOND)
        assert view.verdict.summary == (
            "java[100]/worker-1 has not read for 43 s; 362,708 bytes unread, window closed; worker-1 is idle in futex;"
            " if it closes now, the peer gets a RST"
        )
        assert (view.owner.match, view.owner.thread_state) == ("reader", "S")
        forecast = view.verdict.forecast
        assert (forecast.outcome, forecast.by, forecast.basis) == ("reset", "close-with-unread-data", "conditional")

    def test_a_peer_that_does_not_read_is_an_address_with_the_probes_counted_and_no_deadline_made_up(self) -> None:
        stage = Stage()
        window_closes(stage, START, "peer")
        for number in range(1, 7):
            at = START + number * SECOND
            stage.feed(Timer(at, peer_closed(at), "zero-window", 1))
        view = stage.only(START + 43 * SECOND)
        assert view.verdict.summary == (
            "10.0.0.2:40000 does not read: window closed for 43 s, 108,528 bytes unsent, zero-window probe 6 answered;"
            " no kernel deadline"
        )
        assert view.verdict.slow_reader.side == "peer" and view.verdict.slow_reader.pid is None
        assert view.verdict.forecast.outcome == "none"
        assert [n.probe_number for n in stage.notices if n.action == "probe-sent"] == [1, 2, 3, 4, 5, 6]

    def test_a_connection_that_stalled_before_we_came_is_stalled_in_the_first_scan(self) -> None:
        stage = Stage()
        stage.feed(Socket(START, local_closed(START, lrcvtime=jiffies(START - 43 * SECOND))))
        view = stage.only(START)
        assert view.verdict.phase is Phase.STALLED
        assert view.verdict.evidence[0] == "our window closed for at least 43 s"

    def test_a_scan_older_than_an_event_does_not_overwrite_it(self) -> None:
        stage = Stage()
        window_closes(stage, START, "local")
        stage.feed(Socket(START - MS, sock(START - MS)))
        assert stage.only(START + SECOND).verdict.phase is Phase.STALLED

    def test_lost_events_heal_with_the_next_scan(self) -> None:
        stage = Stage()
        window_closes(stage, START, "local")
        stage.feed(Socket(START + SECOND, sock(START + SECOND, rcv_nxt=363_708, copied_seq=363_708, rcv_wup=363_708)))
        assert stage.actions()[-1] == "window-opened"
        assert stage.only(START + SECOND).verdict.phase is Phase.OK


class TestBacklogs:
    def test_unread_data_that_waits_for_a_second_is_a_backlog(self) -> None:
        stage = Stage()
        stage.feed(Socket(START, sock(START, rcv_nxt=1500)))
        assert stage.only(START + SECOND).verdict.phase is Phase.OK  # it may have been read since
        look(stage, START + SECOND, sock(START, rcv_nxt=1500))
        assert stage.only(START + SECOND).verdict.phase is Phase.BACKLOGGED

    def test_a_reader_that_keeps_up_is_none_though_data_is_there_at_each_look(self) -> None:
        stage = Stage()
        for step in range(10):
            at = START + step * SECOND
            read = 1000 + step * 100_000
            stage.feed(Socket(at, sock(at, copied_seq=read, rcv_nxt=read + 2000, rcv_wup=read + 2000)))
            stage.tick(at)
        assert stage.notices == []

    def test_a_fin_that_nobody_has_read_is_no_data(self) -> None:
        stage = Stage()
        stage.feed(Socket(START, sock(START, state=TcpState.CLOSE_WAIT, rcv_nxt=1001)))
        assert stage.only(START + 60 * SECOND).verdict.phase is Phase.OK

    def test_unsent_data_behind_an_open_window_is_the_paths_affair(self) -> None:
        stage = Stage()
        for step in range(5):
            at = START + step * SECOND
            acked = 2000 + step * 50_000
            values = {"snd_una": acked, "snd_nxt": acked + 14480, "write_seq": acked + 500_000, "packets_out": 10}
            stage.feed(Socket(at, sock(at, **values)))
        assert stage.only(at).verdict.phase is Phase.OK


class TestUnanswered:
    def test_keepalive_probes_without_an_answer_have_a_deadline(self) -> None:
        stage = Stage()
        silent = jiffies(START) - 8000 * HZ & 0xFFFFFFFF
        values = {"flags": KEEPOPEN, "keepalive_intvl": 10 * HZ, "lrcvtime": silent, "rcv_tstamp": silent}
        found = sock(START, probes_out=2, keepalive_probes=5, **values)
        stage.feed(Timer(START, found, "keepalive", 3))
        view = stage.only(START)
        assert view.verdict.phase is Phase.UNANSWERED
        assert view.verdict.summary == (
            "no answer from 10.0.0.2:40000; 2 of 5 keepalive probes unanswered; RST by keepalive in 31 s"
        )

    def test_one_lost_segment_is_no_sign_but_two_retransmissions_are(self) -> None:
        stage = Stage()
        # in its handler the timer is not armed: pending is 0
        values = {"packets_out": 1, "snd_nxt": 3000, "write_seq": 3000, "retrans_stamp": START // MS & 0xFFFFFFFF}
        stage.feed(Retransmit(START, sock(START, retransmits=1, **values), 0))
        assert stage.only(START).verdict.phase is Phase.OK
        stage.feed(Retransmit(START + 1, sock(START, retransmits=2, **values), 0))
        view = stage.only(START + 1)
        assert view.verdict.phase is Phase.UNANSWERED
        assert (view.verdict.forecast.outcome, view.verdict.forecast.by) == ("timeout", "retransmission")
        assert view.timer.name == "retransmit" and view.timer.expires_s == pytest.approx(0.4)


def reset(direction: str, ns: int, reason: str | None = None, **values: object) -> Reset:
    actor = values.pop("actor", None)
    passive = bool(values.pop("passive", direction == "received"))
    return Reset(ns, actor, sock(ns, **values), direction, reason, True, passive)  # type: ignore[arg-type]


class TestEnds:
    def test_a_close_with_unread_data_is_one_reset_and_one_end(self) -> None:
        """As the kernel tells it: the state first, then the RST, then the socket is freed."""
        stage = Stage()
        window_closes(stage, START, "local")
        closer = Actor(100, 101, "java")
        at = START + SECOND
        end = {"rcv_nxt": 1500, "shutdown": 3, "flags": 16}
        stage.feed(State(at, closer, sock(at, **end), TcpState.ESTABLISHED, TcpState.CLOSE))
        stage.feed(reset("sent", at + 1, "TCP_ABORT_ON_CLOSE", state=TcpState.CLOSE, actor=closer, **end))
        stage.feed(Destroyed(at + 2, sock(at, state=TcpState.CLOSE)))
        assert stage.actions()[2:] == ["reset-sent", "connection-closed"]
        sent = stage.notices[2]
        assert sent.reset is not None and sent.connection is not None
        assert (sent.reset.cause, sent.reset.unread_bytes) == ("close-with-unread-data", 500)
        assert (sent.connection.owner.pid, sent.connection.owner.match) == (100, "fd")
        assert stage.notices[3].connection is not None
        assert stage.notices[3].connection.verdict.phase is Phase.RESET
        assert stage.notices[3].connection.totals.longest_stall_s == 1.0 + 1e-9
        assert stage.tick(at + SECOND) == []
        assert len(stage.tracker.screen(at + SECOND).resets) == 1

    def test_a_rst_from_a_process_of_this_host_has_its_cause_though_its_record_comes_later(self) -> None:
        stage = Stage()
        theirs = {"sk": 0xB, "local": ("10.0.0.2", 40000), "peer": ("10.0.0.1", 8443)}
        stage.feed(reset("received", START))
        assert stage.actions() == []
        stage.feed(reset("sent", START + 5, "TCP_ABORT_ON_CLOSE", state=TcpState.CLOSE, **theirs))
        assert [n.action for n in stage.notices if n.reset] == ["reset-sent", "reset-received"]
        assert {n.reset.cause for n in stage.notices if n.reset} == {"close-with-unread-data"}

    def test_a_rst_from_elsewhere_is_the_peers_after_a_short_wait(self) -> None:
        stage = Stage()
        stage.feed(reset("received", START))
        stage.tick(START + 49 * MS)
        assert stage.actions() == []
        stage.tick(START + 51 * MS)
        assert stage.actions()[:2] == ["connection-seen", "reset-received"]
        assert stage.notices[1].reset is not None and stage.notices[1].reset.cause == "peer"

    def test_data_after_close_is_a_rst_sent_and_none_received(self) -> None:
        """tcp_reset() fires tcp_receive_reset first, for a segment that was none."""
        stage = Stage()
        state: dict[str, Any] = {"state": TcpState.FIN_WAIT2, "shutdown": 3}
        stage.feed(reset("received", START, **state))
        stage.feed(State(START + 1, None, sock(START, **state), TcpState.FIN_WAIT2, TcpState.CLOSE))
        stage.feed(reset("sent", START + 2, "TCP_ABORT_ON_DATA", passive=True, **state))
        stage.tick(START + SECOND)
        assert [n.action for n in stage.notices if n.reset] == ["reset-sent"]
        assert stage.notices[-1].action == "connection-closed"

    def test_a_silent_abort_is_a_time_out_and_no_reset(self) -> None:
        stage = Stage()
        found = sock(START, err=errno.ETIMEDOUT, retransmits=15)
        stage.feed(State(START, None, found, TcpState.ESTABLISHED, TcpState.CLOSE))
        stage.tick(START + SECOND)
        end = stage.notices[-1]
        assert end.action == "connection-closed" and end.connection is not None
        assert end.connection.verdict.phase is Phase.TIMED_OUT
        assert end.connection.verdict.summary == "timed out: retransmissions stayed unanswered"
        (shown,) = stage.tracker.screen(START + SECOND).resets
        assert shown.reset is not None and (shown.reset.direction, shown.reset.cause) == (None, "retransmission-timeout")

    def test_what_crossed_a_rst_and_is_answered_without_a_socket_is_not_its_cause(self) -> None:
        stage = Stage()
        closer = {"local": ("10.0.0.2", 40000), "peer": ("10.0.0.1", 8443), "sk": 2}
        reset = sock(START, state=TcpState.CLOSE, shutdown=3, flags=int(SockFlag.LINGER), **closer)
        nobody = sock(START, **(closer | {"sk": 0}))
        stage.feed(Reset(START, None, reset, "sent", "TCP_STATE", True, False))
        stage.feed(Reset(START + 1, None, nobody, "sent", "NO_SOCKET", False, True))
        stage.feed(Reset(START - 1, None, sock(START - 1), "received", None, True, True))
        stage.tick(START + SECOND)
        (received,) = [one.reset for one in stage.notices if one.action == "reset-received"]
        assert received is not None and received.cause == "linger-zero"

    def test_nor_does_it_where_a_process_holds_the_socket_still(self) -> None:
        stage = Stage()
        window_closes(stage, START, "peer")
        ends = START + SECOND
        stage.feed(State(ends, None, sock(ends), TcpState.ESTABLISHED, TcpState.CLOSE))
        stage.tick(ends + SECOND // 10)
        assert stage.actions()[-1] == "connection-closed"
        stage.feed(Socket(ends - MS, peer_closed(ends - MS)))
        assert stage.actions()[-1] == "connection-closed"

    def test_a_scan_that_met_a_socket_before_its_end_does_not_bring_it_back(self) -> None:
        stage = Stage()
        window_closes(stage, START, "local")
        stage.feed(Destroyed(START + SECOND, sock(START + SECOND, state=TcpState.CLOSE)))
        stage.feed(Socket(START + SECOND - 1, local_closed(START + SECOND - 1)))
        assert stage.tracker.screen(START + SECOND).connections == ()

    def test_a_socket_used_again_is_another_connection(self) -> None:
        stage = Stage()
        window_closes(stage, START, "local")
        stage.feed(Socket(START + SECOND, local_closed(START + SECOND, peer=("10.0.0.2", 40001))))
        assert stage.only(START + 2 * SECOND).id == "c2"

    def test_a_stalled_connection_that_two_scans_miss_has_ended_unseen(self) -> None:
        stage = Stage()
        window_closes(stage, START, "local")
        stage.scanned(START + SECOND)
        assert stage.scanned(START + 2 * SECOND)[-1].action == "connection-closed"

    def test_a_rst_without_a_socket_is_told_by_its_ends(self) -> None:
        stage = Stage()
        record = Reset(START, None, sock(START, netns=NETNS), "sent", "NO_SOCKET", False, True)
        (notice,) = stage.feed(record)
        assert notice.connection is None and notice.local is not None and notice.reset is not None
        assert (notice.local.port, notice.reset.cause) == (8443, "no-socket")


def incident(stage: Stage, *, other_blocked: bool = False, call: tuple[Any, ...] = ("epoll_wait", None)) -> None:
    """Server → nginx → client on one host; the client stops reading, first one queue fills, then the other.

    `call` is what nginx's thread waits in, and the descriptor that it writes to.
    """
    client = {"sk": CLIENT, "local": ("10.0.1.2", 40000), "peer": ("10.0.1.1", 8443)}
    front = {"sk": NGINX_FRONT, "local": ("10.0.1.1", 8443), "peer": ("10.0.1.2", 40000)}
    back = {"sk": NGINX_BACK, "local": ("10.0.2.1", 50000), "peer": ("10.0.2.2", 8899)}
    server = {"sk": SERVER, "local": ("10.0.2.2", 8899), "peer": ("10.0.2.1", 50000)}
    # what one end has sent is what the other has received
    window_closes(stage, START, "local", unread=5000, snd_nxt=7000, snd_una=7000, write_seq=7000, **client)
    window_closes(stage, START, "peer", rcv_nxt=7000, copied_seq=7000, snd_una=6000, snd_nxt=6000, **front)
    later = START + 2 * SECOND
    window_closes(stage, later, "local", unread=5000, snd_nxt=7000, snd_una=7000, write_seq=7000, **back)
    window_closes(stage, later, "peer", rcv_nxt=7000, copied_seq=7000, snd_una=6000, snd_nxt=6000, **server)
    stage.owned(later, client=CLIENT, nginx=NGINX_FRONT, server=SERVER)
    sockets = {100: [CLIENT], 101: [NGINX_FRONT, NGINX_BACK], 102: [SERVER]}
    if other_blocked:
        another = {"sk": 0xB9, "local": ("10.0.1.1", 8443), "peer": ("10.0.1.9", 40009)}
        window_closes(stage, START, "peer", **another)
        sockets[101].append(0xB9)
    scanned = later + SECOND
    for pid, sks in sockets.items():
        for sk in sks:
            stage.feed(Holder(scanned, sk, 1, pid, sk & 0xFF, NETNS, "comm"))
    stage.feed(OwnersScanned(scanned, scanned))
    stage.feed(Thread(scanned, 101, 101, "nginx", "S", "ep_poll", 0, 1, *call))


class TestBlame:
    def test_the_chain_through_a_proxy_ends_at_the_client_that_does_not_read(self) -> None:
        stage = Stage()
        incident(stage)
        for view in stage.tracker.screen(START + 10 * SECOND).connections:
            assert (view.verdict.slow_reader.pid, view.verdict.slow_reader.name) == (100, "client"), view.local
        server = next(v for v in stage.tracker.screen(START + 10 * SECOND).connections if v.local.port == 8899)
        assert server.verdict.slow_reader.side == "peer"
        assert server.verdict.slow_reader.chain == (
            "nginx[101] cannot write to 10.0.1.2:40000",
            "client[100] does not read",
        )

    def test_with_two_blocked_clients_nobody_is_accused_not_even_the_proxy(self) -> None:
        stage = Stage()
        incident(stage, other_blocked=True)
        server = next(v for v in stage.tracker.screen(START + 10 * SECOND).connections if v.local.port == 8899)
        reader = server.verdict.slow_reader
        assert (reader.side, reader.pid, reader.chain) == ("peer", None, ())
        assert reader.doubt == "nginx[101] cannot write to 2 peers either, which may be why"
        assert reader.doubt in server.verdict.summary

    def test_of_two_the_one_that_its_thread_writes_to_is_the_cause(self) -> None:
        stage = Stage()
        incident(stage, other_blocked=True, call=("sendto", NGINX_FRONT & 0xFF))
        server = next(v for v in stage.tracker.screen(START + 10 * SECOND).connections if v.local.port == 8899)
        assert (server.verdict.slow_reader.pid, server.verdict.slow_reader.name) == (100, "client")

    def test_a_thread_that_writes_elsewhere_is_kept_by_none_of_them(self) -> None:
        stage = Stage()
        incident(stage, call=("write", 1))
        server = next(v for v in stage.tracker.screen(START + 10 * SECOND).connections if v.local.port == 8899)
        assert (server.verdict.slow_reader.pid, server.verdict.slow_reader.chain) == (101, ())

    def test_a_thread_that_waits_for_something_else_may_be_a_victim_or_not(self) -> None:
        stage = Stage()
        incident(stage, call=(None, None))
        server = next(v for v in stage.tracker.screen(START + 10 * SECOND).connections if v.local.port == 8899)
        reader = server.verdict.slow_reader
        assert (reader.pid, reader.doubt) == (None, "nginx[101] cannot write to 10.0.1.2:40000 either, which may be why")

    def test_who_passed_it_on_is_not_accused_while_nobody_holds_it_though_an_event_came_during_the_look(self) -> None:
        stage = Stage()
        window_closes(stage, START, "local", reader_tgid=100, reader_tid=107)
        started = START + SECOND
        look(stage, started + 5 * MS, local_closed(START, reader_tgid=100, reader_tid=107))
        stage.feed(OwnersScanned(started + 50 * MS, started))
        view = stage.only(START + 2 * SECOND)
        assert (view.owner.match, view.verdict.slow_reader.pid) == ("none", None)

    def test_nobody_is_accused_before_all_descriptors_were_looked_at(self) -> None:
        stage = Stage()
        window_closes(stage, START, "local", reader_tgid=100, reader_tid=107)
        assert stage.only(START + SECOND).verdict.slow_reader.pid is None
        assert stage.only(START + SECOND).owner.pid == 100
        stage.tick(START + SECOND)
        assert stage.tracker.seeks_owners(START + SECOND)
        stage.owned(START, java=local_closed(START).sk)
        assert stage.only(START + 2 * SECOND).verdict.slow_reader.pid == 100
        assert not stage.tracker.seeks_owners(START + 2 * SECOND)

    def test_the_holders_are_looked_for_anew_each_time_a_slow_reader_reads_a_little(self) -> None:
        stage = Stage()
        for step in range(4):
            at = START + 2 * step * SECOND
            waiting = {"rcv_nxt": 31_000, "rcv_wup": 31_000, "copied_seq": 1000 + step, "read_ns": at}
            look(stage, at, sock(at, **waiting))
            look(stage, at + SECOND + 200 * MS, sock(at, **waiting))
            stage.tick(at + SECOND + 200 * MS)
            assert stage.only(at + SECOND + 200 * MS).verdict.phase is Phase.BACKLOGGED
            assert stage.tracker.seeks_owners(at + SECOND + 200 * MS)
            stage.owned(at + SECOND, java=sock().sk)
            assert not stage.tracker.seeks_owners(at + SECOND + 300 * MS)

    def test_a_process_that_holds_both_ends_is_not_its_own_victim(self) -> None:
        stage = Stage()
        ours = {"sk": 1, "local": ("127.0.0.1", 8443), "peer": ("127.0.0.1", 40000)}
        theirs = {"sk": 2, "local": ("127.0.0.1", 40000), "peer": ("127.0.0.1", 8443)}
        window_closes(stage, START, "local", unread=5000, snd_nxt=7000, snd_una=7000, write_seq=7000, **ours)
        window_closes(stage, START, "peer", rcv_nxt=7000, copied_seq=7000, snd_una=6000, snd_nxt=6000, **theirs)
        stage.feed(*(Holder(START, sk, 1, 100, sk, NETNS, "both") for sk in (1, 2)))
        stage.feed(OwnersScanned(START + SECOND, START + SECOND))
        for view in stage.tracker.screen(START + SECOND).connections:
            assert view.verdict.slow_reader.chain == ()
            assert view.verdict.slow_reader.pid == 100

    def test_ends_whose_sequence_numbers_do_not_match_are_strangers(self) -> None:
        """The same addresses in another namespace: a container network used twice."""
        stage = Stage()
        window_closes(stage, START, "peer", sk=1)
        swapped = {"local": ("10.0.0.2", 40000), "peer": ("10.0.0.1", 8443)}
        window_closes(stage, START, "local", sk=2, **swapped, copied_seq=3 << 30, rcv_nxt=3 << 30, rcv_wup=3 << 30)
        view = next(v for v in stage.tracker.screen(START + SECOND).connections if v.local.port == 8443)
        assert view.peer_owner is None

    def test_a_socket_that_several_processes_hold_is_shared_and_nobodys(self) -> None:
        stage = Stage()
        window_closes(stage, START, "local")
        sk = local_closed(START).sk
        stage.feed(*(Holder(START, sk, 1, pid, 3, NETNS, "worker") for pid in (7, 8)), OwnersScanned(START, START))
        view = stage.only(START + SECOND)
        assert (view.owner.match, view.owner.pid, view.owner.holders) == ("shared", None, (7, 8))
        assert view.verdict.slow_reader.pid is None
        assert view.verdict.summary.startswith("one of 2 processes has not read")


class TestSelection:
    def test_other_peers_are_left_out_of_stream_and_screen(self) -> None:
        stage = Stage(Selection(peers=(ip_network("10.9.0.0/16"),)))
        window_closes(stage, START, "local")
        assert stage.notices == [] and stage.tracker.screen(START + SECOND).connections == ()

    def test_a_pid_is_waited_for_until_the_owner_is_known(self) -> None:
        stage = Stage(Selection(pids=frozenset({100})))
        window_closes(stage, START, "local")
        assert stage.notices == []
        stage.owned(START, java=local_closed(START).sk)
        stage.tick(START + SECOND)
        assert stage.actions() == ["connection-seen", "verdict-changed"]

    def test_everything_shows_the_healthy_too(self) -> None:
        stage = Stage(Selection(everything=True))
        stage.feed(Socket(START, sock(START)))
        assert stage.actions() == ["connection-seen"]


def test_news_are_told_once_and_not_every_tick() -> None:
    stage = Stage()
    window_closes(stage, START, "local")
    for step in range(1, 100):
        stage.tick(START + step * SECOND)
    assert stage.actions().count("verdict-changed") == 1


def test_losses_are_told_when_they_rise() -> None:
    stage = Stage()
    stage.feed(Losses(START, {}, {}), Losses(START, {"window": 3}, {}), Losses(START, {"window": 3}, {}))
    assert stage.actions() == ["events-lost"]
    assert stage.tracker.screen(START).ring_buffer_lost == 3


def test_a_listener_tells_who_opened_a_connection_that_was_there_before() -> None:
    stage = Stage()
    stage.feed(Listener(START, 0xFF, bytes(16), NETNS, 8443, 2, 0, 128))
    stage.feed(Socket(START, local_closed(START)))
    stage.scanned(START)
    assert stage.only(START).opened_by == "peer"


def test_the_header_counts_all_the_rest() -> None:
    stage = Stage()
    window_closes(stage, START, "local")
    stage.scanned(START, established=1205)
    assert stage.tracker.screen(START + SECOND).by_phase == {Phase.STALLED: 1, Phase.OK: 1204}


def test_the_timer_is_the_one_that_idiag_timer_names() -> None:
    stage = Stage()
    armed = {"flags": KEEPOPEN, "keepalive_expires": jiffies(START) + 60 * HZ}
    stage.feed(Socket(START, peer_closed(START, **armed)))
    assert stage.only(START).timer.name == "persist"  # which hides the keepalive
    stage = Stage(Selection(everything=True))
    stage.feed(Socket(START, sock(START, **armed)))
    assert (stage.only(START).timer.name, stage.only(START + SECOND).timer.expires_s) == ("keepalive", 59.0)


def test_an_orphan_belongs_to_nobody() -> None:
    stage = Stage()
    stage.feed(Socket(START, peer_closed(START, flags=DEAD)))
    stage.owned(START + 1)
    assert stage.only(START + SECOND).owner.match == "none"
