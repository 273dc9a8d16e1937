"""The story of the outage: told as it was arranged, and every lie in the trace found out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.builders import SECOND
from tests.views import NOW, RESET, proxied, reset_notice, verdict, view
from tracer.demo import story
from tracer.demo.incident import UPSTREAM_PORT, Cast
from tracer.demo.nginx import NginxError
from tracer.demo.story import MOST, Plot
from tracer.model.findings import ConnectionView, Endpoint, Notice, Owner, Phase, SlowReader

OFFSET = 1_700_000_000 * SECOND
CLIENT = Endpoint("172.28.72.119", 63132)
CAST = Cast(
    nginx_worker=13308,
    upstream=400,
    slow_client=32278,
    slow_thread=32301,
    quick_client=500,
    slow_end=CLIENT,
    quick_end=Endpoint("172.28.72.119", 63134),
)
RESET_AT = NOW - 3 * SECOND
LOGGED = NginxError(
    float((RESET_AT + OFFSET) // SECOND),
    104,
    "recv() failed (104: Connection reset by peer) while proxying upgraded connection",
    CLIENT.ip,
    "the line as nginx wrote it",
)
READER = SlowReader("local", CLIENT.ip, CLIENT.port, 32278, "java", 32301, "worker-1")


def judged(one: ConnectionView, **values: Any) -> Notice:
    return Notice("verdict-changed", NOW, replace(one, **values))


def at_client(reader: SlowReader = READER) -> Notice:
    return judged(view(), verdict=verdict(slow_reader=reader))


def at_proxy(reader: SlowReader = READER) -> Notice:
    return judged(proxied(), verdict=verdict(summary="the client does not read", slow_reader=reader))


def at_server(*chain: str, pid: int = 32278) -> Notice:
    reader = replace(READER, side="peer", pid=pid, chain=chain or ("nginx[13308] cannot write to 172.28.72.119:63132",))
    local, peer = Endpoint("172.28.72.77", UPSTREAM_PORT), Endpoint("172.28.72.117", 50000)
    owner = Owner("fd", 400, "ws-upstream", holders=(400,))
    return judged(view(), local=local, peer=peer, owner=owner, verdict=verdict(slow_reader=reader))


def sent(pid: int = 32278, **values: Any) -> Notice:
    client = view(owner=replace(view().owner, pid=pid), verdict=verdict(phase=Phase.RESET))
    return reset_notice(connection=client, reset=replace(RESET, **values))


def received(pid: int = 13308) -> Notice:
    worker = replace(proxied(), owner=Owner("fd", pid, "nginx"), verdict=verdict(phase=Phase.RESET))
    return Notice("reset-received", RESET_AT, worker, reset=replace(RESET, direction="received"))


def arranged(**others: Notice) -> list[Notice]:
    """All that a trace of the outage says, but for some notices."""
    acts = {
        "client": at_client(),
        "proxy": at_proxy(),
        "server": at_server(),
        "sent": sent(),
        "received": received(),
    }
    return list((acts | others).values())


def plot(*notices: Notice) -> Plot:
    one = Plot(CAST)
    one.take(notices)
    return one


def untrue(notices: list[Notice], *errors: NginxError) -> dict[str, str]:
    """What the story claims that was not arranged."""
    checks = story.verify(plot(*notices), errors, CAST, OFFSET)
    assert len(checks) == 9
    return {check.name: check.got for check in checks if not check.ok}


def told(notices: list[Notice], *errors: NginxError) -> list[str]:
    return story.tell(plot(*notices), errors, CAST, OFFSET)


def test_the_outage_as_it_was_arranged() -> None:
    assert untrue(arranged(), LOGGED) == {}


def test_the_story_names_who_what_when_and_the_line_of_the_log() -> None:
    who, there, proxy, consequence, reset, keepalive, line = told(arranged(), LOGGED)
    assert who == "Who was slow: java[32278]/worker-1, since 2023-11-14T22:30:00.000000Z."
    assert there.startswith("  On its host: java[32278]/worker-1 has not read for 43 s; 362,708 bytes unread")
    assert proxy == "  On nginx's host, nginx[13308]: the client does not read."
    assert consequence == (
        "A consequence, not a cause: ws-upstream[400] could not write 172.28.72.117:50000:"
        " nginx[13308] cannot write to 172.28.72.119:63132."
    )
    assert reset == (
        "Who sent the RST: java[32278]/worker-1, at 2023-11-14T22:30:40.000000Z, after 43 s of stall:"
        " close-with-unread-data (TCP_ABORT_ON_CLOSE), 362,708 bytes unread."
    )
    assert "Keepalive had no part in it" in keepalive
    assert line == "nginx's error log, explained: the line as nginx wrote it"


@pytest.mark.parametrize(
    ("others", "name", "got"),
    [
        ({"client": at_client(replace(READER, thread_id=1))}, "slow reader, seen from the client", "pid 32278 thread 1"),
        ({"client": at_client(replace(READER, pid=501))}, "slow reader, seen from the client", "pid 501 thread 32301"),
        ({"client": at_client(replace(READER, pid=None))}, "slow reader, seen from the client", "unknown"),
        ({"proxy": at_proxy(SlowReader("peer", CLIENT.ip, CLIENT.port))}, "slow reader, seen from nginx", "unknown"),
        ({"proxy": at_proxy(replace(READER, pid=13308))}, "slow reader, seen from nginx", "pid 13308"),
        ({"server": at_server(pid=13308)}, "slow reader, seen from the server", "pid 13308"),
        ({"server": at_server("nginx[1330] cannot write to 172.28.72.119:63132")}, "nginx is a victim", "no"),
        ({"server": at_server("ws-client[7] cannot write to 10.0.0.1:13308")}, "nginx is a victim", "no"),
        ({"more": at_client(replace(READER, pid=500)), "last": at_client()}, "the quick client is not blamed", "no"),
        ({"sent": sent(13308)}, "RST sent by", "pid 13308"),
        ({"sent": sent(cause="linger-zero")}, "RST sent because of", "linger-zero"),
        ({"received": received(400)}, "RST received by", "pid 400"),
    ],
)
def test_a_lie_is_found_out(others: dict[str, Notice], name: str, got: str) -> None:
    assert untrue(arranged(**others), LOGGED) == {name: got}


def test_a_trace_that_saw_nothing_proves_nothing() -> None:
    found = untrue([])
    assert found.keys() == {check.name for check in story.verify(plot(), (), CAST, OFFSET)} - {"the quick client is not blamed"}
    assert set(found.values()) == {"not seen", "no"}
    assert told([]) == [
        "The trace did not see the slow client stall.",
        "The trace saw no RST.",
        "nginx logged no line that matches.",
    ]


def test_other_connections_have_no_part_in_it() -> None:
    elsewhere = Endpoint("172.28.72.119", 63133)
    others = [
        judged(view(), local=elsewhere),
        judged(proxied(), peer=elsewhere),
        reset_notice(connection=view(local=elsewhere)),
        Notice("reset-sent", NOW, local=CLIENT, peer=elsewhere, reset=RESET),
    ]
    assert told(others, LOGGED) == told([])


def test_the_last_judgement_before_the_end_counts() -> None:
    early = judged(view(), verdict=verdict(phase=Phase.BACKLOGGED, slow_reader=replace(READER, pid=1)))
    guess = at_client(replace(READER, pid=2))
    after = judged(view(), verdict=verdict(phase=Phase.RESET, slow_reader=replace(READER, pid=3)))
    nobody = at_client(SlowReader("none"))
    assert untrue([early, guess, *arranged(), after, nobody], LOGGED) == {}


@pytest.mark.parametrize("late_s", [-1.0, 0.0, 1.0, 2.0])
def test_nginx_writes_whole_seconds_and_looks_a_little_later(late_s: float) -> None:
    line = replace(LOGGED, epoch_s=LOGGED.epoch_s + late_s)
    assert story.explained(plot(received()), [line], CAST, OFFSET) is line


@pytest.mark.parametrize(
    "lie",
    [
        lambda line: replace(line, client="172.28.72.118"),
        lambda line: replace(line, errno=110),
        lambda line: replace(line, errno=None),
        lambda line: replace(line, epoch_s=line.epoch_s - 1.1),
        lambda line: replace(line, epoch_s=line.epoch_s + 2.1),
    ],
)
def test_a_line_of_another_time_client_or_error_is_not_explained_by_it(lie: Callable[[NginxError], NginxError]) -> None:
    assert story.explained(plot(received()), [lie(LOGGED)], CAST, OFFSET) is None
    assert story.explained(plot(received()), [lie(LOGGED), LOGGED], CAST, OFFSET) is LOGGED


def test_only_a_rst_that_came_explains_a_line() -> None:
    assert story.explained(plot(sent()), [LOGGED], CAST, OFFSET) is None


def test_a_reset_of_unknown_reason_is_told_as_inferred() -> None:
    notice = sent(reason=None, reason_source="inferred", unread_bytes=None)
    (line,) = [line for line in told([notice]) if line.startswith("Who sent the RST")]
    assert line.endswith("close-with-unread-data (inferred), 0 bytes unread.")


def test_a_long_play_keeps_its_beginning_and_no_more() -> None:
    one = plot(*[at_client()] * MOST, sent())
    assert one.client_end() is not None
    assert one.reset("sent") is None
