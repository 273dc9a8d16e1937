"""Every way in which a connection is reset or given up, brought about for real."""

from __future__ import annotations

from tests.lab.actor import Actor, fill
from tests.scenarios.scenario import Lab, Slow, Truth, scenario, traced
from tests.scenarios.steps import CONDITIONAL, one_reset_sent

RESET_NOW = "s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()"


@scenario
def close_with_unread_data(lab: Lab) -> Truth:
    """A reader that has read once stops, and closes while data waits."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    tid = _read_once(client, server)
    fill(client)
    lab.stalled(lab.port)
    server.do("s.close()")
    return Truth(lab.port, "close-with-unread-data", Slow("local", server.pid, tid), CONDITIONAL)


@scenario
def close_with_unread_data_received(lab: Lab) -> Truth:
    """The same, seen from the end that is reset: the sender's cause is known, as it is on this host."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    tid = _read_once(client, server)
    fill(client)
    lab.stalled(port)
    server.do("s.close()")
    return Truth(port, "close-with-unread-data", Slow("peer", server.pid, tid, there.ip, lab.port), CONDITIONAL)


@scenario
def killed_with_unread_data(lab: Lab) -> Truth:
    """SIGKILL closes for a process too."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    fill(client)
    lab.stalled(lab.port)
    server.kill()
    return Truth(lab.port, "close-with-unread-data", Slow("local", server.pid), CONDITIONAL)


@scenario
def close_with_a_little_unread(lab: Lab) -> Truth:
    """A few bytes suffice; the window was never closed."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip6)
    client.do("s.send(b'hello')")
    lab.wait(lab.port, lambda one: "verdict" in one["tcptrace"] and one["tcptrace"]["verdict"]["phase"] == "backlogged")
    server.do("s.close()")
    return Truth(lab.port, "close-with-unread-data", Slow("local", server.pid), CONDITIONAL)


@scenario
def linger_zero(lab: Lab) -> Truth:
    """SO_LINGER 0: the kernel says TCP_STATE, not ABORT_ON_LINGER."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    server.do(RESET_NOW)
    return Truth(lab.port, "linger-zero")


@scenario
def linger_zero_received(lab: Lab) -> Truth:
    """The other end of such a one."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip6)
    server.do(RESET_NOW)
    return Truth(port, "linger-zero")


@scenario
def linger_zero_while_the_peer_stalls(lab: Lab) -> Truth:
    """A sender that gives up on its slow reader."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    fill(client)
    lab.stalled(port)
    client.do(RESET_NOW)
    return Truth(port, "linger-zero", Slow("peer", server.pid, None, there.ip, lab.port), CONDITIONAL)


@scenario
def data_after_close(lab: Lab) -> Truth:
    """Data after shutdown(SHUT_RDWR): the kernel tells of a RST received, though it only sent one."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    server.do("s.shutdown(socket.SHUT_RDWR)")
    client.do("time.sleep(0.1); s.send(b'hello')")
    return Truth(lab.port, "data-after-close")


@scenario
def data_for_an_orphan(lab: Lab) -> Truth:
    """Data after close(): nobody holds the socket, which is gone before its RST is sent. One end, told once."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    server.do("s.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 100); s.close()")
    client.do("time.sleep(0.3); s.send(b'hello')")
    return Truth(lab.port, "data-after-close", check=one_reset_sent)


@scenario
def data_after_close_received(lab: Lab) -> Truth:
    """The sender of that data gets the RST."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    server.do("s.shutdown(socket.SHUT_RDWR)")
    client.do("time.sleep(0.1); s.send(b'hello')")
    return Truth(port, "data-after-close")


@scenario
def time_wait(lab: Lab) -> Truth:
    """Data to a connection that closed in full: a FIN_WAIT2 that nobody holds is a TIME_WAIT."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    server.do("s.close()")
    client.do("time.sleep(0.1); s.send(b'hello')")
    return Truth(port, "time-wait")


@scenario
def no_socket(lab: Lab) -> Truth:
    """Nobody listens there."""
    _, there, client, _ = lab.two()
    client.do(f"socket.socket().connect_ex(({there.ip!r}, {lab.port}))")
    return Truth(lab.port, "no-socket")


@scenario
def no_socket_v6(lab: Lab) -> Truth:
    """Nor there."""
    _, there, client, _ = lab.two()
    client.do(f"socket.socket(socket.AF_INET6).connect_ex(({there.ip6!r}, {lab.port}))")
    return Truth(lab.port, "no-socket")


@scenario
def no_socket_after_a_silent_end(lab: Lab) -> Truth:
    """One end gave up while the other heard nothing of it: what that sends later draws the RST."""
    here, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    server.do("s.setsockopt(socket.IPPROTO_TCP, 18, 1000)")  # TCP_USER_TIMEOUT, ms
    here.drop(f"tcp sport {lab.port}")
    server.do("s.send(b'hello')")
    lab.wait(lab.port, lambda one: one["event"]["action"] == "connection-closed")
    here.undrop()
    client.do("s.send(b'are you there')")
    return Truth(port, "no-socket")


@scenario
def listener_closed(lab: Lab) -> Truth:
    """A listener closes with a connection that nobody accepted."""
    _, there, client, server = lab.two()
    server.do(f"l = socket.create_server(({there.ip!r}, {lab.port}))")
    client.do(f"s = socket.create_connection(({there.ip!r}, {lab.port}))")
    server.do("time.sleep(0.1); l.close()")
    return Truth(lab.port, "listener-closed")


@scenario
def listener_closed_received(lab: Lab) -> Truth:
    """What its client sees."""
    _, there, client, server = lab.two()
    server.do(f"l = socket.create_server(({there.ip!r}, {lab.port}))")
    port = client.do(f"s = socket.create_connection(({there.ip!r}, {lab.port})); answer = s.getsockname()[1]")
    server.do("time.sleep(0.1); l.close()")
    return Truth(port, "listener-closed")


@scenario
def administrative(lab: Lab) -> Truth:
    """ss -K."""
    here, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    here.run("ss", "-K", "dport", "=", str(lab.port))
    return Truth(port, "administrative")


@scenario
def administrative_while_stalled(lab: Lab) -> Truth:
    """ss -K on a connection with data unsent."""
    here, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    fill(client)
    lab.stalled(port)
    here.run("ss", "-K", "dport", "=", str(lab.port))
    return Truth(port, "administrative", Slow("peer", server.pid), CONDITIONAL)


@scenario
def disconnect(lab: Lab) -> Truth:
    """connect() with AF_UNSPEC."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    client.do("libc.connect(s.fileno(), bytes(16), 16)")
    return Truth(port, "disconnect")


@scenario
def orphan_linger2(lab: Lab) -> Truth:
    """close() in FIN_WAIT2 with TCP_LINGER2 < 0: the kernel calls that ABORT_ON_LINGER."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    server.do(
        "s.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, -1); s.shutdown(socket.SHUT_WR); time.sleep(0.1); s.close()"
    )
    return Truth(lab.port, "orphan")


@scenario
def closed_as_it_should_be(lab: Lab) -> Truth:
    """FIN, FIN: no cause at all."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    client.do("s.send(b'hello'); s.shutdown(socket.SHUT_WR)")
    server.do("answer = s.recv(9).decode() + str(s.recv(9)); s.close()")
    client.do("s.recv(1); s.close()")
    return Truth(lab.port, quiet=True)


def _read_once(client: Actor, server: Actor) -> int:
    """The server reads in a thread of its own, once; that thread's id."""
    client.do("s.send(b'hello')")
    tid = server.do("s.recv(5); answer = threading.get_native_id()", thread="worker-1")
    assert isinstance(tid, int)
    return tid


@traced(alone=True)
def out_of_memory(lab: Lab) -> Truth:
    """More connections that nobody holds than the host allows: the next that is closed is reset, from within close()."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip, 1, "o")
    fill(client, "o")
    client.do("o.close(); time.sleep(0.3)")  # an orphan; the kernel counts them ten times a second
    port = lab.connect(client, server, there.ip)
    with lab.orphans_at_most(0):
        client.do("s.close()")
    return Truth(port, "out-of-memory", also=frozenset({server.pid}))


@traced(alone=True)
def out_of_memory_received(lab: Lab) -> Truth:
    """What the other end of such a one sees."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip, 1, "o")
    fill(client, "o")
    client.do("o.close(); time.sleep(0.3)")
    lab.connect(client, server, there.ip)
    with lab.orphans_at_most(0):
        client.do("s.close()")
    return Truth(lab.port, "out-of-memory", also=frozenset({server.pid}))
