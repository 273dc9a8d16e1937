"""Peers that are no process of this host: a scripted end that shrinks, closes, falls silent or breaks the rules as told."""

from __future__ import annotations

from typing import Final

from tests.lab.actor import Actor, fill
from tests.lab.hosts import Host
from tests.lab.segments import ACK, FIN, HERE, PSH, RST, SYN, THERE, Peer, Segment, peer
from tests.lab.trace import Event
from tests.scenarios.judge import OVER
from tests.scenarios.scenario import Expected, Lab, Slow, Truth, now, phase, scenario

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

# --- windows ---------------------------------------------------------------------------------------------------------


@scenario
def remote_zero_window(lab: Lab) -> Truth:
    """A remote peer does not read, and answers every probe: it is slow, and nothing will end that."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, opening=8192)
    fill(client)
    lab.stalled(port)
    client.do("time.sleep(3)")
    return Truth(port, slow=_slow(lab), check=_without_countdown)


@scenario
def remote_zero_window_opens_again(lab: Lab) -> Truth:
    """It reads on after a while."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, opening=8192)
    fill(client)
    lab.stalled(port)
    far.room = 1 << 20
    far.send()
    lab.wait(port, lambda one: one["event"]["action"] == "verdict-changed" and phase(one) == "ok")
    return Truth(port, check=_without_countdown)


@scenario
def remote_zero_window_then_silent(lab: Lab) -> Truth:
    """It answers its probes for a while, then no more: the kernel counts those that go unanswered."""
    host, client, far = _remote(lab)
    host.sysctl("tcp_retries2", 3)
    port = _connect(lab, client, far, opening=8192)
    fill(client)
    lab.stalled(port)
    steady = far.fall_silent()
    return Truth(port, "probe-timeout", _slow(lab), PERSIST, _failed(client), steady, check=_not_withdrawn)


@scenario
def remote_zero_window_silent_for_a_while(lab: Lab) -> Truth:
    """Its answers come back before the kernel gives up: the forecast goes away with that."""
    host, client, far = _remote(lab)
    host.sysctl("tcp_rto_max_ms", 1000)
    port = _connect(lab, client, far, opening=8192)
    fill(client)
    lab.stalled(port)
    far.fall_silent()
    lab.wait(port, lambda one: one["event"]["action"] == "verdict-changed" and phase(one) == "unanswered")
    far.answer = far.behave
    client.do("time.sleep(2.5)")
    return Truth(port, slow=_slow(lab))


@scenario
def remote_zero_window_with_user_timeout(lab: Lab) -> Truth:
    """TCP_USER_TIMEOUT ends it though every probe is answered."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, _user_timeout(5000), opening=8192)
    fill(client)
    steady = now()  # its clock starts with the first probe
    return Truth(port, "user-timeout", _slow(lab), USER_TIMEOUT, _failed(client), steady, check=_not_withdrawn)


@scenario
def shrunk_window(lab: Lab) -> Truth:
    """The window closes over what is in flight; ACKs keep coming, so the kernel sends that again for ever."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, _rto_max(1000), room=1000)
    fill(client)
    lab.stalled(port)
    client.do("time.sleep(4)")
    return Truth(port, slow=_slow(lab), check=_answered_without_countdown)


@scenario
def shrunk_window_silent(lab: Lab) -> Truth:
    """It closes over what is in flight, and nothing more is heard: two longest timeouts of silence end it."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, _rto_max(2000), room=1000)
    steady = _shrink(client, far)
    return Truth(port, "retransmission-timeout", _slow(lab), RETRANSMISSION, _failed(client), steady, check=_not_withdrawn)


@scenario
def shrunk_window_then_silent(lab: Lab) -> Truth:
    """The same after two retransmissions that were answered."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, _rto_max(2000), room=1000)
    steady = _shrink(client, far, 2)
    return Truth(port, "retransmission-timeout", _slow(lab), RETRANSMISSION, _failed(client), steady, check=_not_withdrawn)


@scenario
def shrunk_window_silent_at_last(lab: Lab) -> Truth:
    """The same after many."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, _rto_max(1000), room=1000)
    fill(client)
    lab.stalled(port)
    client.do("time.sleep(2)")
    steady = far.fall_silent()
    return Truth(port, "retransmission-timeout", _slow(lab), RETRANSMISSION, _failed(client), steady, check=_not_withdrawn)


@scenario
def shrunk_window_with_user_timeout(lab: Lab) -> Truth:
    """TCP_USER_TIMEOUT ends it though ACKs keep coming."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, _user_timeout(4500), room=1000)
    steady = now()
    fill(client)
    return Truth(port, "user-timeout", _slow(lab), USER_TIMEOUT, _failed(client), steady, check=_not_withdrawn)


@scenario
def shrunk_window_silent_with_user_timeout(lab: Lab) -> Truth:
    """The same towards a peer that says nothing more."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, _user_timeout(4500), room=1000)
    steady = _shrink(client, far)
    return Truth(port, "user-timeout", _slow(lab), USER_TIMEOUT, _failed(client), steady, check=_not_withdrawn)


@scenario
def tiny_window(lab: Lab) -> Truth:
    """A window that was never as large as a segment, and a reader that takes its time: slow, and nothing will end that."""
    _, client, far = _remote(lab)
    _drain(far)
    port = _connect(lab, client, far, opening=TINY)
    client.begin("s.sendall(bytes(1 << 20))", thread="sender")
    client.do("time.sleep(5)")
    return Truth(port, slow=_slow(lab), check=_without_countdown)


@scenario
def window_that_became_tiny(lab: Lab) -> Truth:
    """The sender holds back what would be less than a segment: its persist timer runs, though the window is not closed."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, opening=8192)
    _drain(far)
    client.begin("s.sendall(bytes(1 << 20))", thread="sender")
    client.do("time.sleep(5)")
    return Truth(port, slow=_slow(lab), check=_answered_without_countdown)


# --- silence ---------------------------------------------------------------------------------------------------------


@scenario
def remote_silent_with_rto_max(lab: Lab) -> Truth:
    """Retransmissions towards a silent peer, at most a second apart as the socket says."""
    host, client, far = _remote(lab)
    host.sysctl("tcp_retries2", 5)
    port = _connect(lab, client, far, _rto_max(1000))
    steady = far.fall_silent()
    client.do("s.send(b'hello')")
    return Truth(
        port, "retransmission-timeout", forecast=RETRANSMISSION, ended=_failed(client), steady=steady, check=_not_withdrawn
    )


@scenario
def remote_silent_with_rto_max_of_the_namespace(lab: Lab) -> Truth:
    """The same as the namespace says."""
    host, client, far = _remote(lab)
    host.sysctl("tcp_retries2", 5)
    host.sysctl("tcp_rto_max_ms", 1000)
    port = _connect(lab, client, far)
    steady = far.fall_silent()
    client.do("s.send(b'hello')")
    return Truth(
        port, "retransmission-timeout", forecast=RETRANSMISSION, ended=_failed(client), steady=steady, check=_not_withdrawn
    )


@scenario
def remote_silent_with_user_timeout(lab: Lab) -> Truth:
    """TCP_USER_TIMEOUT is shorter than the retransmissions would take."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, _user_timeout(5000) + _rto_max(1000))
    steady = far.fall_silent()
    client.do("s.send(b'hello')")
    return Truth(port, "user-timeout", forecast=USER_TIMEOUT, ended=_failed(client), steady=steady, check=_not_withdrawn)


@scenario
def syn_unanswered(lab: Lab) -> Truth:
    """connect() to an address that says nothing; the first SYNs go out a second apart (tcp_syn_linear_timeouts)."""
    host, client, far = _remote(lab)
    host.sysctl("tcp_syn_retries", 2)
    steady = far.fall_silent()
    port = _begin(lab, client)
    return Truth(
        port, "retransmission-timeout", forecast=RETRANSMISSION, ended=_failed(client), steady=steady, check=_not_withdrawn
    )


@scenario
def syn_unanswered_without_linear_timeouts(lab: Lab) -> Truth:
    """As it was before there were such: each timeout is twice the one before."""
    host, client, far = _remote(lab)
    host.sysctl("tcp_syn_retries", 2)
    host.sysctl("tcp_syn_linear_timeouts", 0)
    steady = far.fall_silent()
    port = _begin(lab, client)
    return Truth(
        port, "retransmission-timeout", forecast=RETRANSMISSION, ended=_failed(client), steady=steady, check=_not_withdrawn
    )


@scenario
def syn_unanswered_with_syncnt(lab: Lab) -> Truth:
    """TCP_SYNCNT, the socket's own."""
    _, client, far = _remote(lab)
    steady = far.fall_silent()
    port = _begin(lab, client, f"s.setsockopt(socket.IPPROTO_TCP, {TCP_SYNCNT}, 2);")
    return Truth(
        port, "retransmission-timeout", forecast=RETRANSMISSION, ended=_failed(client), steady=steady, check=_not_withdrawn
    )


@scenario
def syn_unanswered_with_user_timeout(lab: Lab) -> Truth:
    """TCP_USER_TIMEOUT counts for connect() as well."""
    _, client, far = _remote(lab)
    steady = far.fall_silent()
    port = _begin(lab, client, _user_timeout(4500))
    return Truth(port, "user-timeout", forecast=USER_TIMEOUT, ended=_failed(client), steady=steady, check=_not_withdrawn)


@scenario
def remote_keepalive(lab: Lab) -> Truth:
    """A peer falls silent, and the socket's own keepalive finds out."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, _keepalive(1, 1, 4))
    steady = far.fall_silent()
    return Truth(port, "keepalive-timeout", forecast=KEEPALIVE, ended=_failed(client), steady=steady, check=_not_withdrawn)


@scenario
def remote_keepalive_of_the_namespace(lab: Lab) -> Truth:
    """So does that of the namespace."""
    host, client, far = _remote(lab)
    for name, value in (("time", 2), ("intvl", 1), ("probes", 3)):
        host.sysctl(f"tcp_keepalive_{name}", value)
    port = _connect(lab, client, far, "s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1);")
    steady = far.fall_silent()
    return Truth(port, "keepalive-timeout", forecast=KEEPALIVE, ended=_failed(client), steady=steady, check=_not_withdrawn)


@scenario
def remote_keepalive_with_user_timeout(lab: Lab) -> Truth:
    """With TCP_USER_TIMEOUT, which lies between two probes, the number of probes does not count."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, _keepalive(1, 2, 20) + _user_timeout(4000))
    steady = far.fall_silent()
    forecast = Expected("reset", "user-timeout", "kernel-timer")
    return Truth(port, "user-timeout", forecast=forecast, ended=_failed(client), steady=steady, check=_not_withdrawn)


@scenario
def remote_keepalive_answered(lab: Lab) -> Truth:
    """Probes that are answered are no news."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, _keepalive(1, 1, 2))
    client.do("time.sleep(4)")
    return Truth(port, quiet=True, check=_without_countdown)


@scenario
def remote_keepalive_after_a_while(lab: Lab) -> Truth:
    """It answers the first probes, then no more."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, _keepalive(1, 1, 3))
    client.do("time.sleep(2.5)")
    steady = far.fall_silent()
    return Truth(port, "keepalive-timeout", forecast=KEEPALIVE, ended=_failed(client), steady=steady, check=_not_withdrawn)


@scenario
def remote_keepalive_answered_by_a_reset(lab: Lab) -> Truth:
    """The peer has forgotten the connection, which a probe brings to light."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, _keepalive(1, 1, 9))

    def knows_nothing(got: Segment) -> None:
        far.send(RST, seq=got.ack)

    far.answer = knows_nothing
    assert _failed(client)
    return Truth(port, "peer", check=_received)


# --- resets from elsewhere -------------------------------------------------------------------------------------------


@scenario
def remote_reset(lab: Lab) -> Truth:
    """A RST out of the blue: why is not to be known here."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far)
    far.send(RST)
    return Truth(port, "peer", check=_received)


@scenario
def remote_reset_while_stalled(lab: Lab) -> Truth:
    """The peer that did not read is the one that resets."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far, opening=8192)
    fill(client)
    lab.stalled(port)
    far.send(RST | ACK)
    return Truth(port, "peer", _slow(lab), check=_received)


@scenario
def remote_reset_with_data_unread(lab: Lab) -> Truth:
    """The peer resets while this end has not read what it sent: the forecast was of a RST that this end would send."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far)
    far.send(PSH | ACK, b"hello")
    lab.wait(port, lambda one: one["event"]["action"] == "verdict-changed" and phase(one) == "backlogged")
    far.send(RST | ACK)
    conditional = Expected("reset", "close-with-unread-data", "conditional")
    return Truth(port, "peer", Slow("local", client.pid), conditional, check=_received)


@scenario
def remote_refusal(lab: Lab) -> Truth:
    """connect() is refused."""
    _, client, far = _remote(lab)

    def refuses(got: Segment) -> None:
        far.send(RST | ACK, seq=0, ack=got.end, target=got.source)

    far.listen(lab.port)
    far.answer = refuses
    port = client.do(f"s = socket.socket(); s.bind(({HERE!r}, 0)); answer = s.getsockname()[1]")
    client.do(f"s.connect_ex(({THERE!r}, {lab.port}))")
    return Truth(port, "peer", check=_received)


@scenario
def reset_by_a_middle_box(lab: Lab) -> Truth:
    """A firewall on the way answers in the peer's name; the peer, though on this host, knows nothing of it."""
    first, middle, third = lab.row()
    client, server = lab.actor(first, "client"), lab.actor(third, "server")
    middle.sysctl("ip_forward", 1)
    first.run("ip", "route", "add", "198.18.102.0/24", "via", middle.ip)
    third.run("ip", "route", "add", "198.18.101.0/24", "via", "198.18.102.1")
    port = lab.connect(client, server, third.ip)
    _reject(middle, "forward", f"tcp dport {lab.port}")
    client.do("s.send(b'hello')")
    return Truth(port, "peer", check=_received)


@scenario
def reset_by_the_peers_firewall(lab: Lab) -> Truth:
    """The peer's own host answers so, which no tracepoint tells."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    _reject(there, "input", f"tcp dport {lab.port}")
    client.do("s.send(b'hello')")
    return Truth(port, "peer", check=_received)


@scenario
def reset_by_the_own_firewall(lab: Lab) -> Truth:
    """And this end's host does, before anything leaves it."""
    here, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    _reject(here, "output", f"tcp dport {lab.port}")
    client.do("s.send(b'hello')")
    return Truth(port, "peer", check=_received)


# --- segments that are answered with a RST ---------------------------------------------------------------------------


@scenario
def ack_to_a_listener(lab: Lab) -> Truth:
    """An ACK of nothing draws a RST from a listener."""
    _, client, far = _remote(lab)
    client.do(f"l = socket.create_server(({HERE!r}, {lab.port}))")
    far.send(ACK, ack=77, source=lab.port + 1, target=lab.port)
    far.next(_is_reset)
    return Truth(lab.port, "invalid-segment")


@scenario
def bad_ack_of_a_syn_ack(lab: Lab) -> Truth:
    """A handshake whose third segment acknowledges what was not sent."""
    _, client, far = _remote(lab)
    client.do(f"l = socket.create_server(({HERE!r}, {lab.port}))")

    def wrong(got: Segment) -> None:
        if got.flags & SYN:
            far.send(ACK, seq=far.snd_nxt, ack=got.end + 9)

    far.answer = wrong
    far.connect(lab.port + 1, lab.port)
    far.next(_is_reset)
    return Truth(lab.port, "invalid-segment")


@scenario
def bad_ack_of_a_simultaneous_open(lab: Lab) -> Truth:
    """Both ends send a SYN, then the peer acknowledges what was not sent: a RST from SYN_RECV. All goes well after that."""
    _, client, far = _remote(lab)

    def crosses(got: Segment) -> None:
        far.their_port, far.rcv_nxt = got.source, got.end
        far.send(SYN)
        far.answer = wrong

    def wrong(got: Segment) -> None:
        far.send(ACK, ack=got.end + 9)
        far.answer = far.behave
        far.send()

    far.listen(lab.port, opening=8192)
    far.answer = crosses
    port = _begin(lab, client)
    _stall_at_last(lab, client, port)
    return Truth(port, "invalid-segment", _slow(lab), check=_lives)


@scenario
def bad_ack_of_a_syn(lab: Lab) -> Truth:
    """An old SYN-ACK draws a RST, which is not the connection's end: the right one comes after it."""
    _, client, far = _remote(lab)

    def wrong(got: Segment) -> None:
        far.send(SYN | ACK, seq=5, ack=got.seq - 9, target=got.source)
        far.answer = far.behave

    far.listen(lab.port, opening=8192)
    far.answer = wrong
    port = _begin(lab, client)
    _stall_at_last(lab, client, port)
    return Truth(port, "invalid-segment", _slow(lab), check=_lives)


@scenario
def data_to_nowhere(lab: Lab) -> Truth:
    """Data for a connection that nobody here knows."""
    _, _, far = _remote(lab)
    far.send(PSH | ACK, b"hello", ack=77, source=lab.port + 1, target=lab.port)
    far.next(_is_reset)
    return Truth(lab.port, "no-socket")


@scenario
def remote_data_after_close(lab: Lab) -> Truth:
    """Data reaches a socket that its application has closed, whose FIN is not acknowledged yet."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far)
    far.fall_silent()
    client.do("s.close()")
    far.send(PSH | ACK, b"hello")
    far.next(_is_reset)
    return Truth(port, "data-after-close")


@scenario
def remote_data_to_time_wait(lab: Lab) -> Truth:
    """Data reaches a FIN_WAIT2 that is only remembered."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far)
    client.do("s.close(); time.sleep(0.1)")
    far.send(PSH | ACK, b"hello")
    far.next(_is_reset)
    return Truth(port, "time-wait")


@scenario
def remote_syn_to_time_wait(lab: Lab) -> Truth:
    """A new SYN does too, while the peer's FIN has not come."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far)
    client.do("s.close(); time.sleep(0.1)")
    far.send(SYN, seq=far.snd_nxt + 9)
    far.next(_is_reset)
    return Truth(port, "time-wait")


# --- segments that are not -------------------------------------------------------------------------------------------


@scenario
def challenged(lab: Lab) -> Truth:
    """RFC 5961: a SYN, data and RSTs that are not exactly where they should be, an ACK of the unsent: they draw but an ACK."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far)
    client.do("s.send(b'hello')")
    far.next(lambda one: bool(one.data))
    far.send(SYN, seq=far.snd_nxt + 9)
    far.send(PSH | ACK, b"old", seq=far.snd_nxt - 100_000)
    far.send(PSH | ACK, b"far ahead", seq=far.snd_nxt + (1 << 30))
    far.send(RST, seq=far.snd_nxt + 100)
    far.send(RST, seq=far.snd_nxt - 100_000)
    far.send(ACK, ack=far.rcv_nxt + 100_000)
    client.do("s.send(b'still there'); time.sleep(0.2)")
    far.next(lambda one: one.data == b"still there")
    return Truth(port, quiet=True)


@scenario
def late_segment_to_time_wait(lab: Lab) -> Truth:
    """In a TIME_WAIT after both FINs, late data draws an ACK only."""
    _, client, far = _remote(lab)
    port = _connect(lab, client, far)
    client.do("s.close(); time.sleep(0.1)")
    far.send(FIN | ACK)
    far.next(lambda one: one.ack == far.snd_nxt)
    far.send(PSH | ACK, b"late", seq=far.snd_nxt - 3)
    far.next(lambda one: one.flags == ACK)
    return Truth(port, quiet=True)


# --- what they are told with -----------------------------------------------------------------------------------------


def _remote(lab: Lab) -> tuple[Host, Actor, Peer]:
    """A host with a program, and a scripted end that it can reach."""
    host = lab.alone()
    return host, lab.actor(host, "client"), lab._stack.enter_context(peer(host))


def _connect(lab: Lab, client: Actor, far: Peer, options: str = "", *, opening: int = 65535, room: int | None = None) -> int:
    """A connection from the client to the scripted end; the client's port."""
    far.listen(lab.port, opening=opening, room=room)
    port = _begin(lab, client, options)
    client.do(CONNECTED)
    return port


def _begin(lab: Lab, client: Actor, options: str = "") -> int:
    """Begins to connect; the client's port."""
    port = client.do(
        f"s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768); {options} s.setblocking(False);"
        f"s.connect_ex(({THERE!r}, {lab.port})); answer = s.getsockname()[1]"
    )
    assert isinstance(port, int)
    return port


def _slow(lab: Lab) -> Slow:
    """The scripted end, by its address: no process may be named."""
    return Slow("peer", None, None, THERE, lab.port)


def _shrink(client: Actor, far: Peer, answered: int = 0) -> float:
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


def _drain(far: Peer) -> None:
    """Makes a peer read whatever it takes, slowly enough never to have more room than a tiny window."""

    def drains(got: Segment) -> None:
        if got.seq == far.rcv_nxt:
            far.room = max(far.room, TINY + len(got.data))
        far.behave(got)

    far.answer, far.delay = drains, 0.1


def _stall_at_last(lab: Lab, client: Actor, port: int) -> None:
    """The connection opens after all, and the peer does not read."""
    client.do(CONNECTED)
    fill(client)
    lab.stalled(port)


def _reject(host: Host, hook: str, rule: str) -> None:
    """A firewall that answers such packets with a RST."""
    host.run("nft", f"add table inet box; add chain inet box {hook} {{ type filter hook {hook} priority 0; }}")
    host.run("nft", f"add rule inet box {hook} {rule} reject with tcp reset")


def _keepalive(idle: int, interval: int, probes: int) -> str:
    return (
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1);"
        f"s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, {idle});"
        f"s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, {interval});"
        f"s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, {probes});"
    )


def _user_timeout(ms: int) -> str:
    return f"s.setsockopt(socket.IPPROTO_TCP, {TCP_USER_TIMEOUT}, {ms});"


def _rto_max(ms: int) -> str:
    return f"s.setsockopt(socket.IPPROTO_TCP, {TCP_RTO_MAX_MS}, {ms});"


def _failed(client: Actor) -> float:
    """When the kernel tells the application of the end: that wakes it where it waits."""
    answer = client.do("""
p = select.poll(); p.register(s, 0)
ends = [flags for _, flags in p.poll(20000)]
answer = time.monotonic() if ends and ends[0] & select.POLLERR else 0
""")
    assert isinstance(answer, float), "the connection did not end"
    return answer


def _without_countdown(events: list[Event]) -> str:
    """No clock runs, so none may be shown."""
    forecasts = [one["tcptrace"]["verdict"]["forecast"] for one in events if "verdict" in one["tcptrace"]]
    return "".join(f"a made-up countdown: {one}" for one in [*filter(_is_timed, forecasts)][:1])


def _answered_without_countdown(events: list[Event]) -> str:
    """Nor was anything ever unanswered."""
    unanswered = [one for one in events if one["event"]["action"] == "verdict-changed" and phase(one) == "unanswered"]
    return _without_countdown(events) or ("called unanswered" if unanswered else "")


def _is_timed(forecast: dict[str, object]) -> bool:
    return forecast["at"] is not None


def _not_withdrawn(events: list[Event]) -> str:
    """Nothing changes, so what was foreseen once is foreseen until it happens."""
    told = [one for one in events if "verdict" in one["tcptrace"] and phase(one) not in OVER]
    foreseen = [one["tcptrace"]["verdict"]["forecast"]["outcome"] for one in told]
    first = next((number for number, outcome in enumerate(foreseen) if outcome != "none"), len(foreseen))
    withdrawn = [
        one["event"]["action"] for one, outcome in zip(told[first:], foreseen[first:], strict=True) if outcome == "none"
    ]
    return f"the forecast was withdrawn {len(withdrawn)} times: {', '.join(withdrawn)}" if withdrawn else ""


def _is_reset(segment: Segment) -> bool:
    return bool(segment.flags & RST)


def _received(events: list[Event]) -> str:
    """A RST came."""
    return "" if any(one["event"]["action"] == "reset-received" for one in events) else "no reset received"


def _lives(events: list[Event]) -> str:
    """After the RST that this end sent, the connection goes on: its stall is told."""
    told = [one["event"]["action"] + "/" + str(phase(one)) for one in events]
    if "reset-sent" not in {one.split("/")[0] for one in told}:
        return "no reset sent"
    return "" if "verdict-changed/stalled" in told else "it lives, and its stall is not told"
