"""What several stories do and check: options, scripted ends, moments of the kernel's, and what no verdict may say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from tests.lab.actor import Actor, fill
from tests.lab.hosts import Host
from tests.lab.segments import RST, THERE, Peer, Segment, peer
from tests.lab.trace import Event
from tests.scenarios.judge import OVER
from tests.scenarios.scenario import Expected, Lab, Slow, local_port, now, phase

TCP_SYNCNT: Final = 7
TCP_USER_TIMEOUT: Final = 18
TCP_RTO_MAX_MS: Final = 44
TINY: Final = 384
"""A window of less than a segment."""
CONNECTED: Final = "select.select([], [s], [], 5); s.setblocking(True); s.getpeername()"

KEEPALIVE = Expected("reset", "keepalive", "kernel-timer")
PERSIST = Expected("timeout", "persist", "kernel-timer")
RETRANSMISSION = Expected("timeout", "retransmission", "kernel-timer")
USER_TIMEOUT = Expected("timeout", "user-timeout", "kernel-timer")
ORPHAN = Expected("timeout", "orphan", "kernel-timer")
CONDITIONAL = Expected("reset", "close-with-unread-data", "conditional")


def remote(lab: Lab) -> tuple[Host, Actor, Peer]:
    """A host with a program, and a scripted end that it can reach."""
    host = lab.alone()
    return host, lab.actor(host, "client"), lab.use(peer(host))


def connect_to(lab: Lab, client: Actor, far: Peer, options: str = "", *, opening: int = 65535, room: int | None = None) -> int:
    """A connection from the client to the scripted end; the client's port."""
    far.listen(lab.port, opening=opening, room=room)
    port = begin_connect(lab, client, options)
    client.do(CONNECTED)
    return port


def begin_connect(lab: Lab, client: Actor, options: str = "") -> int:
    """Begins to connect; the client's port."""
    port = client.do(
        f"s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768); {options} s.setblocking(False);"
        f"s.connect_ex(({THERE!r}, {lab.port})); answer = s.getsockname()[1]"
    )
    assert isinstance(port, int)
    return port


def slow_peer(lab: Lab) -> Slow:
    """The scripted end, by its address: no process may be named."""
    return Slow("peer", None, None, THERE, lab.port)


def shrink_and_fall_silent(client: Actor, far: Peer, answered: int = 0) -> float:
    """Makes the window close over what is in flight, then silence once so many retransmissions were answered; since when."""
    silent: list[float] = []
    left = answered + 1

    def shrinks(got: Segment) -> None:
        nonlocal left
        if got.seq != far.rcv_nxt or not got.data:
            return  # the handshake's last, and what else is in flight
        far.behave(got)
        left -= 1
        if not left:
            silent.append(far.fall_silent())

    far.answer = shrinks
    fill(client)
    while not silent:
        client.do("time.sleep(0.05)")
    return silent[0]


def read_slowly(far: Peer) -> None:
    """Makes a peer read whatever it takes, slowly enough never to have more room than a tiny window."""

    def drains(got: Segment) -> None:
        if got.seq == far.rcv_nxt:
            far.room = max(far.room, TINY + len(got.data))
        far.behave(got)

    far.answer, far.delay = drains, 0.1


def stall_at_last(lab: Lab, client: Actor, port: int) -> None:
    """The connection opens after all, and the peer does not read."""
    client.do(CONNECTED)
    fill(client)
    lab.stalled(port)


def reject(host: Host, hook: str, rule: str) -> None:
    """A firewall that answers such packets with a RST."""
    host.run("nft", f"add table inet box; add chain inet box {hook} {{ type filter hook {hook} priority 0; }}")
    host.run("nft", f"add rule inet box {hook} {rule} reject with tcp reset")


def keepalive(idle: int, interval: int, probes: int) -> str:
    return (
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1);"
        f"s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, {idle});"
        f"s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, {interval});"
        f"s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, {probes});"
    )


def user_timeout(ms: int) -> str:
    return f"s.setsockopt(socket.IPPROTO_TCP, {TCP_USER_TIMEOUT}, {ms});"


def rto_max(ms: int) -> str:
    return f"s.setsockopt(socket.IPPROTO_TCP, {TCP_RTO_MAX_MS}, {ms});"


def failed(client: Actor) -> float:
    """When the kernel tells the application of the end: that wakes it where it waits."""
    answer = client.do("""
p = select.poll(); p.register(s, 0)
ends = [flags for _, flags in p.poll(60000)]
answer = time.monotonic() if ends and ends[0] & select.POLLERR else 0
""")
    assert isinstance(answer, float), "the connection did not end"
    return answer


def without_countdown(events: list[Event]) -> str:
    """No clock runs, so none may be shown."""
    forecasts = [one["tcptrace"]["verdict"]["forecast"] for one in events if "verdict" in one["tcptrace"]]
    return "".join(f"a made-up countdown: {one}" for one in [*filter(_is_timed, forecasts)][:1])


def answered_without_countdown(events: list[Event]) -> str:
    """Nor was anything ever unanswered."""
    unanswered = [one for one in events if one["event"]["action"] == "verdict-changed" and phase(one) == "unanswered"]
    return without_countdown(events) or ("called unanswered" if unanswered else "")


def _is_timed(forecast: dict[str, object]) -> bool:
    return forecast["at"] is not None


def not_withdrawn(events: list[Event]) -> str:
    """Nothing changes, so what was foreseen once is foreseen until it happens."""
    told = [one for one in events if "verdict" in one["tcptrace"] and phase(one) not in OVER]
    foreseen = [one["tcptrace"]["verdict"]["forecast"]["outcome"] for one in told]
    first = next((number for number, outcome in enumerate(foreseen) if outcome != "none"), len(foreseen))
    withdrawn = [
        one["event"]["action"] for one, outcome in zip(told[first:], foreseen[first:], strict=True) if outcome == "none"
    ]
    return f"the forecast was withdrawn {len(withdrawn)} times: {', '.join(withdrawn)}" if withdrawn else ""


def chain_says(*parts: str) -> Callable[[list[Event]], str]:
    """The chain of the last verdict names these, in this order."""

    def check(events: list[Event]) -> str:
        chain = " → ".join(_last_reader(events).get("chain", ()))
        place = 0
        for part in parts:
            place = chain.find(part, place)
            if place < 0:
                return f"the chain does not lead over {part}: {chain or 'there is none'}"
        return ""

    return check


def no_chain(events: list[Event]) -> str:
    """Nobody stands behind the one that is slow."""
    chain = _last_reader(events).get("chain")
    return f"there is no such chain: {' → '.join(chain)}" if chain else ""


def never_blamed(*pids: int) -> Callable[[list[Event]], str]:
    """These have nothing to do with this end, though they have with others."""

    def check(events: list[Event]) -> str:
        readers = [one["tcptrace"]["verdict"]["slow_reader"]["pid"] for one in events if "verdict" in one["tcptrace"]]
        return "".join(f"process {pid} is not the slow reader of this end" for pid in sorted({*readers} & {*pids}))

    return check


def owned_by(pid: int | None) -> Callable[[list[Event]], str]:
    """The last event names this process as the owner of the end, or (None) nobody."""

    def check(events: list[Event]) -> str:
        owner = events[-1].get("process", {}).get("pid") if events else None
        return "" if owner == pid else f"owned by {owner}"

    return check


def shared(events: list[Event]) -> str:
    """Said of the end last: several hold it, and none of them is named."""
    match = events[-1]["tcptrace"].get("owner", {}).get("match") if events else None
    return "" if match == "shared" else f"not said to be shared but {match}"


def one_reset_sent(events: list[Event]) -> str:
    """This end sent a RST, received none, and ended once."""
    told = Counter(one["event"]["action"] for one in events)
    found = tuple(told[action] for action in ("reset-sent", "reset-received", "connection-closed"))
    return "" if found == (1, 0, 1) else f"RSTs sent, received, ends: {found}"


def no_thread(events: list[Event]) -> str:
    """No thread is singled out."""
    thread = _last_reader(events).get("thread_id")
    return f"thread {thread} is singled out" if thread else ""


def every(*checks: Callable[[list[Event]], str]) -> Callable[[list[Event]], str]:
    """What is wrong by any of the checks."""
    return lambda events: "; ".join(filter(None, (check(events) for check in checks)))


def last_verdict(events: list[Event]) -> dict[str, Any]:
    """The last verdict on an end that was told; empty if there was none."""
    verdicts = [one["tcptrace"]["verdict"] for one in events if "verdict" in one["tcptrace"]]
    return verdicts[-1] if verdicts else {}


def _last_reader(events: list[Event]) -> dict[str, Any]:
    reader = last_verdict(events).get("slow_reader", {})
    assert isinstance(reader, dict)
    return reader


def is_reset(segment: Segment) -> bool:
    return bool(segment.flags & RST)


def reset_received(events: list[Event]) -> str:
    """A RST came."""
    return "" if any(one["event"]["action"] == "reset-received" for one in events) else "no reset received"


def goes_on(events: list[Event]) -> str:
    """After the RST that this end sent, the connection goes on: its stall is told."""
    told = [one["event"]["action"] + "/" + str(phase(one)) for one in events]
    if "reset-sent" not in {one.split("/")[0] for one in told}:
        return "no reset sent"
    return "" if "verdict-changed/stalled" in told else "it lives, and its stall is not told"


def gone(client: Actor, port: int, seconds: int = 40) -> float:
    """When /proc/net/tcp of the client's host no longer lists the connection."""
    answer = client.do(f"""
end = time.monotonic() + {seconds}
while ":{port:04X} " in open("/proc/thread-self/net/tcp").read() and time.monotonic() < end: time.sleep(0.02)
answer = time.monotonic() if time.monotonic() < end else 0
""")
    assert isinstance(answer, float), "the connection did not end"
    return answer


def since_unanswered(lab: Lab, port: int) -> float:
    """When the first verdict says so: from then on, nothing changes."""
    lab.trace.wait("verdict-changed", seconds=15, where=lambda one: local_port(one) == port and phase(one) == "unanswered")
    return now() - 0.05
