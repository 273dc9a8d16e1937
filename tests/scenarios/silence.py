"""Remote ends that say nothing more: when the kernel gives them up."""

from __future__ import annotations

from tests.lab.segments import RST, Segment
from tests.scenarios.scenario import Expected, Lab, Truth, scenario
from tests.scenarios.steps import (
    KEEPALIVE,
    RETRANSMISSION,
    TCP_SYNCNT,
    USER_TIMEOUT,
    begin_connect,
    connect_to,
    failed,
    keepalive,
    not_withdrawn,
    remote,
    reset_received,
    rto_max,
    user_timeout,
    without_countdown,
)


@scenario
def remote_silent_with_rto_max(lab: Lab) -> Truth:
    """Retransmissions towards a silent peer, at most a second apart as the socket says."""
    host, client, far = remote(lab)
    host.sysctl("tcp_retries2", 5)
    port = connect_to(lab, client, far, rto_max(1000))
    steady = far.fall_silent()
    client.do("s.send(b'hello')")
    return Truth(
        port, "retransmission-timeout", forecast=RETRANSMISSION, ended=failed(client), steady=steady, check=not_withdrawn
    )


@scenario
def remote_silent_with_rto_max_of_the_namespace(lab: Lab) -> Truth:
    """The same as the namespace says."""
    host, client, far = remote(lab)
    host.sysctl("tcp_retries2", 5)
    host.sysctl("tcp_rto_max_ms", 1000)
    port = connect_to(lab, client, far)
    steady = far.fall_silent()
    client.do("s.send(b'hello')")
    return Truth(
        port, "retransmission-timeout", forecast=RETRANSMISSION, ended=failed(client), steady=steady, check=not_withdrawn
    )


@scenario
def remote_silent_with_user_timeout(lab: Lab) -> Truth:
    """TCP_USER_TIMEOUT is shorter than the retransmissions would take."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, user_timeout(5000) + rto_max(1000))
    steady = far.fall_silent()
    client.do("s.send(b'hello')")
    return Truth(port, "user-timeout", forecast=USER_TIMEOUT, ended=failed(client), steady=steady, check=not_withdrawn)


@scenario
def syn_unanswered(lab: Lab) -> Truth:
    """connect() to an address that says nothing; the first SYNs go out a second apart (tcp_syn_linear_timeouts)."""
    host, client, far = remote(lab)
    host.sysctl("tcp_syn_retries", 2)
    steady = far.fall_silent()
    port = begin_connect(lab, client)
    return Truth(
        port, "retransmission-timeout", forecast=RETRANSMISSION, ended=failed(client), steady=steady, check=not_withdrawn
    )


@scenario
def syn_unanswered_without_linear_timeouts(lab: Lab) -> Truth:
    """As it was before there were such: each timeout is twice the one before."""
    host, client, far = remote(lab)
    host.sysctl("tcp_syn_retries", 2)
    host.sysctl("tcp_syn_linear_timeouts", 0)
    steady = far.fall_silent()
    port = begin_connect(lab, client)
    return Truth(
        port, "retransmission-timeout", forecast=RETRANSMISSION, ended=failed(client), steady=steady, check=not_withdrawn
    )


@scenario
def syn_unanswered_with_syncnt(lab: Lab) -> Truth:
    """TCP_SYNCNT, the socket's own."""
    _, client, far = remote(lab)
    steady = far.fall_silent()
    port = begin_connect(lab, client, f"s.setsockopt(socket.IPPROTO_TCP, {TCP_SYNCNT}, 2);")
    return Truth(
        port, "retransmission-timeout", forecast=RETRANSMISSION, ended=failed(client), steady=steady, check=not_withdrawn
    )


@scenario
def syn_unanswered_with_user_timeout(lab: Lab) -> Truth:
    """TCP_USER_TIMEOUT counts for connect() as well."""
    _, client, far = remote(lab)
    steady = far.fall_silent()
    port = begin_connect(lab, client, user_timeout(4500))
    return Truth(port, "user-timeout", forecast=USER_TIMEOUT, ended=failed(client), steady=steady, check=not_withdrawn)


@scenario
def remote_keepalive(lab: Lab) -> Truth:
    """A peer falls silent, and the socket's own keepalive finds out."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, keepalive(1, 1, 4))
    steady = far.fall_silent()
    return Truth(port, "keepalive-timeout", forecast=KEEPALIVE, ended=failed(client), steady=steady, check=not_withdrawn)


@scenario
def remote_keepalive_of_the_namespace(lab: Lab) -> Truth:
    """So does that of the namespace."""
    host, client, far = remote(lab)
    for name, value in (("time", 2), ("intvl", 1), ("probes", 3)):
        host.sysctl(f"tcp_keepalive_{name}", value)
    port = connect_to(lab, client, far, "s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1);")
    steady = far.fall_silent()
    return Truth(port, "keepalive-timeout", forecast=KEEPALIVE, ended=failed(client), steady=steady, check=not_withdrawn)


@scenario
def remote_keepalive_with_user_timeout(lab: Lab) -> Truth:
    """With TCP_USER_TIMEOUT, which lies between two probes, the number of probes does not count."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, keepalive(1, 2, 20) + user_timeout(4000))
    steady = far.fall_silent()
    forecast = Expected("reset", "user-timeout", "kernel-timer")
    return Truth(port, "user-timeout", forecast=forecast, ended=failed(client), steady=steady, check=not_withdrawn)


@scenario
def remote_keepalive_answered(lab: Lab) -> Truth:
    """Probes that are answered are no news."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, keepalive(1, 1, 2))
    client.do("time.sleep(4)")
    return Truth(port, quiet=True, check=without_countdown)


@scenario
def remote_keepalive_after_a_while(lab: Lab) -> Truth:
    """It answers the first probes, then no more."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, keepalive(1, 1, 3))
    client.do("time.sleep(2.5)")
    steady = far.fall_silent()
    return Truth(port, "keepalive-timeout", forecast=KEEPALIVE, ended=failed(client), steady=steady, check=not_withdrawn)


@scenario
def remote_keepalive_answered_by_a_reset(lab: Lab) -> Truth:
    """The peer has forgotten the connection, which a probe brings to light."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, keepalive(1, 1, 9))

    def knows_nothing(got: Segment) -> None:
        far.send(RST, seq=got.ack)

    far.answer = knows_nothing
    assert failed(client)
    return Truth(port, "peer", check=reset_received)
