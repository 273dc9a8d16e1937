"""Resets from elsewhere, and segments that draw one or must not: ends that no kernel would be."""

from __future__ import annotations

from tests.lab.actor import fill
from tests.lab.segments import ACK, FIN, HERE, PSH, RST, SYN, THERE, Segment
from tests.scenarios.scenario import Expected, Lab, Slow, Truth, phase, scenario
from tests.scenarios.steps import (
    begin_connect,
    connect_to,
    goes_on,
    is_reset,
    reject,
    remote,
    reset_received,
    slow_peer,
    stall_at_last,
)


@scenario
def remote_reset(lab: Lab) -> Truth:
    """A RST out of the blue: why is not to be known here."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far)
    far.send(RST)
    return Truth(port, "peer", check=reset_received)


@scenario
def remote_reset_while_stalled(lab: Lab) -> Truth:
    """The peer that did not read is the one that resets."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, opening=8192)
    fill(client)
    lab.stalled(port)
    far.send(RST | ACK)
    return Truth(port, "peer", slow_peer(lab), check=reset_received)


@scenario
def remote_reset_with_data_unread(lab: Lab) -> Truth:
    """The peer resets while this end has not read what it sent: the forecast was of a RST that this end would send."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far)
    far.send(PSH | ACK, b"hello")
    lab.wait(port, lambda one: one["event"]["action"] == "verdict-changed" and phase(one) == "backlogged")
    far.send(RST | ACK)
    conditional = Expected("reset", "close-with-unread-data", "conditional")
    return Truth(port, "peer", Slow("local", client.pid), conditional, check=reset_received)


@scenario
def remote_refusal(lab: Lab) -> Truth:
    """connect() is refused."""
    _, client, far = remote(lab)

    def refuses(got: Segment) -> None:
        far.send(RST | ACK, seq=0, ack=got.end, target=got.source)

    far.listen(lab.port)
    far.answer = refuses
    port = client.do(f"s = socket.socket(); s.bind(({HERE!r}, 0)); answer = s.getsockname()[1]")
    client.do(f"s.connect_ex(({THERE!r}, {lab.port}))")
    return Truth(port, "peer", check=reset_received)


@scenario
def reset_by_a_middle_box(lab: Lab) -> Truth:
    """A firewall on the way answers in the peer's name; the peer, though on this host, knows nothing of it."""
    first, middle, third = lab.row()
    client, server = lab.actor(first, "client"), lab.actor(third, "server")
    middle.sysctl("ip_forward", 1)
    first.run("ip", "route", "add", "198.18.102.0/24", "via", middle.ip)
    third.run("ip", "route", "add", "198.18.101.0/24", "via", "198.18.102.1")
    port = lab.connect(client, server, third.ip)
    reject(middle, "forward", f"tcp dport {lab.port}")
    client.do("s.send(b'hello')")
    return Truth(port, "peer", check=reset_received)


@scenario
def reset_by_the_peers_firewall(lab: Lab) -> Truth:
    """The peer's own host answers so, which no tracepoint tells."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    reject(there, "input", f"tcp dport {lab.port}")
    client.do("s.send(b'hello')")
    return Truth(port, "peer", check=reset_received)


@scenario
def reset_by_the_own_firewall(lab: Lab) -> Truth:
    """And this end's host does, before anything leaves it."""
    here, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    reject(here, "output", f"tcp dport {lab.port}")
    client.do("s.send(b'hello')")
    return Truth(port, "peer", check=reset_received)


@scenario
def ack_to_a_listener(lab: Lab) -> Truth:
    """An ACK of nothing draws a RST from a listener."""
    _, client, far = remote(lab)
    client.do(f"l = socket.create_server(({HERE!r}, {lab.port}))")
    far.send(ACK, ack=77, source=lab.port + 1, target=lab.port)
    far.next(is_reset)
    return Truth(lab.port, "invalid-segment")


@scenario
def bad_ack_of_a_syn_ack(lab: Lab) -> Truth:
    """A handshake whose third segment acknowledges what was not sent."""
    _, client, far = remote(lab)
    client.do(f"l = socket.create_server(({HERE!r}, {lab.port}))")

    def wrong(got: Segment) -> None:
        if got.flags & SYN:
            far.send(ACK, seq=far.snd_nxt, ack=got.end + 9)

    far.answer = wrong
    far.connect(lab.port + 1, lab.port)
    far.next(is_reset)
    return Truth(lab.port, "invalid-segment")


@scenario
def bad_ack_of_a_simultaneous_open(lab: Lab) -> Truth:
    """Both ends send a SYN, then the peer acknowledges what was not sent: a RST from SYN_RECV. All goes well after that."""
    _, client, far = remote(lab)

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
    port = begin_connect(lab, client)
    stall_at_last(lab, client, port)
    return Truth(port, "invalid-segment", slow_peer(lab), check=goes_on)


@scenario
def bad_ack_of_a_syn(lab: Lab) -> Truth:
    """An old SYN-ACK draws a RST, which is not the connection's end: the right one comes after it."""
    _, client, far = remote(lab)

    def wrong(got: Segment) -> None:
        far.send(SYN | ACK, seq=5, ack=got.seq - 9, target=got.source)
        far.answer = far.behave

    far.listen(lab.port, opening=8192)
    far.answer = wrong
    port = begin_connect(lab, client)
    stall_at_last(lab, client, port)
    return Truth(port, "invalid-segment", slow_peer(lab), check=goes_on)


@scenario
def data_to_nowhere(lab: Lab) -> Truth:
    """Data for a connection that nobody here knows."""
    _, _, far = remote(lab)
    far.send(PSH | ACK, b"hello", ack=77, source=lab.port + 1, target=lab.port)
    far.next(is_reset)
    return Truth(lab.port, "no-socket")


@scenario
def remote_data_after_close(lab: Lab) -> Truth:
    """Data reaches a socket that its application has closed, whose FIN is not acknowledged yet."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far)
    far.fall_silent()
    client.do("s.close()")
    far.send(PSH | ACK, b"hello")
    far.next(is_reset)
    return Truth(port, "data-after-close")


@scenario
def remote_data_to_time_wait(lab: Lab) -> Truth:
    """Data reaches a FIN_WAIT2 that is only remembered."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far)
    client.do("s.close(); time.sleep(0.1)")
    far.send(PSH | ACK, b"hello")
    far.next(is_reset)
    return Truth(port, "time-wait")


@scenario
def remote_syn_to_time_wait(lab: Lab) -> Truth:
    """A new SYN does too, while the peer's FIN has not come."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far)
    client.do("s.close(); time.sleep(0.1)")
    far.send(SYN, seq=far.snd_nxt + 9)
    far.next(is_reset)
    return Truth(port, "time-wait")


@scenario
def challenged(lab: Lab) -> Truth:
    """RFC 5961: a SYN, data and RSTs that are not exactly where they should be, an ACK of the unsent: they draw but an ACK."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far)
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
    _, client, far = remote(lab)
    port = connect_to(lab, client, far)
    client.do("s.close(); time.sleep(0.1)")
    far.send(FIN | ACK)
    far.next(lambda one: one.ack == far.snd_nxt)
    far.send(PSH | ACK, b"late", seq=far.snd_nxt - 3)
    far.next(lambda one: one.flags == ACK)
    return Truth(port, quiet=True)
