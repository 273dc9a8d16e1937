"""When the kernel gives up: each forecast against the moment at which the kernel really does."""

from __future__ import annotations

import errno

from tests.lab.actor import fill
from tests.scenarios.scenario import INTERVAL_S, NOTHING, Expected, Lab, Slow, Truth, now, phase, scenario, traced
from tests.scenarios.steps import (
    KEEPALIVE,
    ORPHAN,
    PERSIST,
    RETRANSMISSION,
    TCP_RTO_MAX_MS,
    failed,
    gone,
    keepalive,
    since_unanswered,
    user_timeout,
)


@traced("--all")
def orphan_in_fin_wait2(lab: Lab) -> Truth:
    """Closed, and the peer never closes its side: the kernel forgets the connection without a word after tcp_fin_timeout."""
    here, there, client, server = lab.two()
    here.sysctl("tcp_fin_timeout", 63)
    port = lab.connect(client, server, there.ip)
    client.do("s.close()")
    steady = now()
    return Truth(port, "none", forecast=ORPHAN, ended=gone(client, port, 80), steady=steady)


@scenario
def keepalive_of_the_socket(lab: Lab) -> Truth:
    """TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, and the peer falls silent."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    client.do(keepalive(1, 1, 4))
    there.drop(f"tcp dport {lab.port}")
    return Truth(port, "keepalive-timeout", forecast=KEEPALIVE, ended=failed(client))


@scenario
def keepalive_of_the_namespace(lab: Lab) -> Truth:
    """The sysctls of the socket's own namespace."""
    here, there, client, server = lab.two()
    for name, value in (("time", 1), ("intvl", 2), ("probes", 3)):
        here.sysctl(f"tcp_keepalive_{name}", value)
    port = lab.connect(client, server, there.ip6)
    client.do("s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)")
    there.drop(f"tcp dport {lab.port}")
    return Truth(port, "keepalive-timeout", forecast=KEEPALIVE, ended=failed(client))


@scenario
def keepalive_with_user_timeout(lab: Lab) -> Truth:
    """With TCP_USER_TIMEOUT the number of probes does not count."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    client.do(keepalive(1, 1, 50) + user_timeout(4500))
    there.drop(f"tcp dport {lab.port}")
    forecast = Expected("reset", "user-timeout", "kernel-timer")
    return Truth(port, "user-timeout", forecast=forecast, ended=failed(client))


@scenario
def persist_answered(lab: Lab) -> Truth:
    """A peer that answers its probes is never given up: no countdown."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    client.do(keepalive(1, 1, 2))  # does not run while data is unsent
    fill(client)
    lab.stalled(port)
    client.do("time.sleep(4)")
    return Truth(port, slow=Slow("peer", server.pid), forecast=Expected("reset", "close-with-unread-data", "conditional"))


@scenario
def persist_unanswered(lab: Lab) -> Truth:
    """The peer's window is closed, then the peer falls silent."""
    here, there, client, server = lab.two()
    here.sysctl("tcp_retries2", 5)
    port = lab.connect(client, server, there.ip)
    fill(client)
    lab.stalled(port)
    there.drop(f"tcp dport {lab.port}")
    steady = since_unanswered(lab, port)
    return Truth(port, "probe-timeout", Slow("peer", server.pid), PERSIST, failed(client), steady)


@scenario
def persist_with_user_timeout(lab: Lab) -> Truth:
    """TCP_USER_TIMEOUT ends a stalled connection though every probe is answered."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    client.do(user_timeout(5000))
    fill(client)
    steady = now() + INTERVAL_S
    forecast = Expected("timeout", "user-timeout", "kernel-timer")
    return Truth(port, "user-timeout", Slow("peer", server.pid), forecast, failed(client), steady)


@scenario
def persist_of_an_orphan(lab: Lab) -> Truth:
    """Closed with data unsent before a closed window, by an application that does not wait; its probes are answered."""
    here, there, client, server = lab.two()
    here.sysctl("tcp_orphan_retries", 3)
    port = lab.connect(client, server, there.ip)
    client.do(f"s.setsockopt(socket.IPPROTO_TCP, {TCP_RTO_MAX_MS}, 1000)")
    fill(client)
    lab.stalled(port)
    client.do("s.close()")
    steady = now()
    return Truth(port, "orphan", Slow("peer", server.pid), ORPHAN, gone(client, port), steady)


@scenario
def persist_of_an_orphan_unanswered(lab: Lab) -> Truth:
    """The same, and the peer falls silent as well."""
    here, there, client, server = lab.two()
    here.sysctl("tcp_orphan_retries", 5)
    port = lab.connect(client, server, there.ip)
    client.do(f"s.setsockopt(socket.IPPROTO_TCP, {TCP_RTO_MAX_MS}, 2000)")
    fill(client)
    lab.stalled(port)
    client.do("s.close()")
    there.drop(f"tcp dport {lab.port}")
    steady = since_unanswered(lab, port)
    return Truth(port, "orphan", Slow("peer", server.pid), ORPHAN, gone(client, port), steady)


@scenario
def retransmission(lab: Lab) -> Truth:
    """What was sent is never acknowledged."""
    here, there, client, server = lab.two()
    here.sysctl("tcp_retries2", 4)
    port = lab.connect(client, server, there.ip)
    there.drop(f"tcp dport {lab.port}")
    client.do("s.send(b'hello')")
    return Truth(port, "retransmission-timeout", forecast=RETRANSMISSION, ended=failed(client))


@scenario
def retransmission_with_user_timeout(lab: Lab) -> Truth:
    """TCP_USER_TIMEOUT instead of tcp_retries2."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    client.do(user_timeout(4000))
    there.drop(f"tcp dport {lab.port}")
    client.do("s.send(b'hello')")
    forecast = Expected("timeout", "user-timeout", "kernel-timer")
    return Truth(port, "user-timeout", forecast=forecast, ended=failed(client))


@scenario
def retransmission_to_a_host_that_is_gone(lab: Lab) -> Truth:
    """Nobody answers for its address any more: the kernel gives up with EHOSTUNREACH, and it is a time-out all the same."""
    here, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    client.do(user_timeout(7000))
    there.run("ip", "address", "flush", "dev", "veth101b")
    here.run("ip", "neighbour", "flush", "dev", "veth101a")
    client.do("s.send(b'hello')")
    forecast = Expected("timeout", "user-timeout", "kernel-timer")
    ended = failed(client)
    assert client.do("answer = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)") == errno.EHOSTUNREACH
    return Truth(port, "user-timeout", forecast=forecast, ended=ended)


@scenario
def retransmission_of_an_orphan(lab: Lab) -> Truth:
    """Closed while what was sent is not acknowledged."""
    here, there, client, server = lab.two()
    here.sysctl("tcp_orphan_retries", 4)
    port = lab.connect(client, server, there.ip)
    there.drop(f"tcp dport {lab.port}")
    client.do("s.send(b'hello'); s.close()")
    return Truth(port, "orphan", forecast=ORPHAN, ended=gone(client, port))


@scenario
def a_lost_segment_is_no_end(lab: Lab) -> Truth:
    """The path comes back after two retransmissions: the forecast goes away with it."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    there.drop(f"tcp dport {lab.port}")
    client.do("s.send(b'hello')")
    lab.wait(port, lambda one: phase(one) == "unanswered")
    there.undrop()
    server.do("s.recv(5)")
    lab.wait(port, lambda one: one["event"]["action"] == "verdict-changed" and phase(one) == "ok")
    return Truth(port, forecast=NOTHING)
