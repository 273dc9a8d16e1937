"""Remote ends whose windows close, shrink or never were large: what the kernel does about each, and for how long."""

from __future__ import annotations

from tests.lab.actor import fill
from tests.scenarios.scenario import Lab, Truth, now, phase, scenario
from tests.scenarios.steps import (
    PERSIST,
    RETRANSMISSION,
    TINY,
    USER_TIMEOUT,
    answered_without_countdown,
    connect_to,
    failed,
    not_withdrawn,
    read_slowly,
    remote,
    rto_max,
    shrink_and_fall_silent,
    slow_peer,
    user_timeout,
    without_countdown,
)


@scenario
def remote_zero_window(lab: Lab) -> Truth:
    """A remote peer does not read, and answers every probe: it is slow, and nothing will end that."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, opening=8192)
    fill(client)
    lab.stalled(port)
    client.do("time.sleep(3)")
    return Truth(port, slow=slow_peer(lab), check=without_countdown)


@scenario
def remote_zero_window_opens_again(lab: Lab) -> Truth:
    """It reads on after a while."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, opening=8192)
    fill(client)
    lab.stalled(port)
    far.room = 1 << 20
    far.send()
    lab.wait(port, lambda one: one["event"]["action"] == "verdict-changed" and phase(one) == "ok")
    return Truth(port, check=without_countdown)


@scenario
def remote_zero_window_then_silent(lab: Lab) -> Truth:
    """It answers its probes for a while, then no more: the kernel counts those that go unanswered."""
    host, client, far = remote(lab)
    host.sysctl("tcp_retries2", 3)
    port = connect_to(lab, client, far, opening=8192)
    fill(client)
    lab.stalled(port)
    steady = far.fall_silent()
    return Truth(port, "probe-timeout", slow_peer(lab), PERSIST, failed(client), steady, check=not_withdrawn)


@scenario
def remote_zero_window_silent_for_a_while(lab: Lab) -> Truth:
    """Its answers come back before the kernel gives up: the forecast goes away with that."""
    host, client, far = remote(lab)
    host.sysctl("tcp_rto_max_ms", 1000)
    port = connect_to(lab, client, far, opening=8192)
    fill(client)
    lab.stalled(port)
    far.fall_silent()
    lab.wait(port, lambda one: one["event"]["action"] == "verdict-changed" and phase(one) == "unanswered")
    far.answer = far.behave
    client.do("time.sleep(2.5)")
    return Truth(port, slow=slow_peer(lab))


@scenario
def remote_zero_window_with_user_timeout(lab: Lab) -> Truth:
    """TCP_USER_TIMEOUT ends it though every probe is answered."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, user_timeout(5000), opening=8192)
    fill(client)
    steady = now()  # its clock starts with the first probe
    return Truth(port, "user-timeout", slow_peer(lab), USER_TIMEOUT, failed(client), steady, check=not_withdrawn)


@scenario
def shrunk_window(lab: Lab) -> Truth:
    """The window closes over what is in flight; ACKs keep coming, so the kernel sends that again for ever."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, rto_max(1000), room=1000)
    fill(client)
    lab.stalled(port)
    client.do("time.sleep(4)")
    return Truth(port, slow=slow_peer(lab), check=answered_without_countdown)


@scenario
def shrunk_window_silent(lab: Lab) -> Truth:
    """It closes over what is in flight, and nothing more is heard: two longest timeouts of silence end it."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, rto_max(2000), room=1000)
    steady = shrink_and_fall_silent(client, far)
    return Truth(port, "retransmission-timeout", slow_peer(lab), RETRANSMISSION, failed(client), steady, check=not_withdrawn)


@scenario
def shrunk_window_then_silent(lab: Lab) -> Truth:
    """The same after two retransmissions that were answered."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, rto_max(2000), room=1000)
    steady = shrink_and_fall_silent(client, far, 2)
    return Truth(port, "retransmission-timeout", slow_peer(lab), RETRANSMISSION, failed(client), steady, check=not_withdrawn)


@scenario
def shrunk_window_silent_at_last(lab: Lab) -> Truth:
    """The same after many."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, rto_max(1000), room=1000)
    fill(client)
    lab.stalled(port)
    client.do("time.sleep(2)")
    steady = far.fall_silent()
    return Truth(port, "retransmission-timeout", slow_peer(lab), RETRANSMISSION, failed(client), steady, check=not_withdrawn)


@scenario
def shrunk_window_with_user_timeout(lab: Lab) -> Truth:
    """TCP_USER_TIMEOUT ends it though ACKs keep coming."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, user_timeout(4500), room=1000)
    steady = now()
    fill(client)
    return Truth(port, "user-timeout", slow_peer(lab), USER_TIMEOUT, failed(client), steady, check=not_withdrawn)


@scenario
def shrunk_window_silent_with_user_timeout(lab: Lab) -> Truth:
    """The same towards a peer that says nothing more."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, user_timeout(4500), room=1000)
    steady = shrink_and_fall_silent(client, far)
    return Truth(port, "user-timeout", slow_peer(lab), USER_TIMEOUT, failed(client), steady, check=not_withdrawn)


@scenario
def tiny_window(lab: Lab) -> Truth:
    """A window that was never as large as a segment, and a reader that takes its time: slow, and nothing will end that."""
    _, client, far = remote(lab)
    read_slowly(far)
    port = connect_to(lab, client, far, opening=TINY)
    client.begin("s.sendall(bytes(1 << 20))", thread="sender")
    client.do("time.sleep(5)")
    return Truth(port, slow=slow_peer(lab), check=without_countdown)


@scenario
def window_that_became_tiny(lab: Lab) -> Truth:
    """The sender holds back what would be less than a segment: its persist timer runs, though the window is not closed."""
    _, client, far = remote(lab)
    port = connect_to(lab, client, far, opening=8192)
    read_slowly(far)
    client.begin("s.sendall(bytes(1 << 20))", thread="sender")
    client.do("time.sleep(5)")
    return Truth(port, slow=slow_peer(lab), check=answered_without_countdown)
