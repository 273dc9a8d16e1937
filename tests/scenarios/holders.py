"""Who holds a socket: passed on, inherited by a child or over exec, held by several. What cannot be told is not guessed."""

from __future__ import annotations

from collections.abc import Callable

from tests.lab.actor import Actor, fill
from tests.lab.trace import Event
from tests.scenarios.scenario import Lab, Slow, Truth, phase, scenario, traced
from tests.scenarios.steps import CONDITIONAL, every, owned_by, shared

SHARED = "several hold it, and none was seen reading"


@scenario
def passed_to_one_that_does_not_read(lab: Lab) -> Truth:
    """The server passes its connection on at once (SCM_RIGHTS): it is out of it."""
    client, server, receiver = _three(lab)
    _pass(lab, server, receiver)
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", receiver.pid), forecast=CONDITIONAL, check=owned_by(receiver.pid))


@scenario
def passed_to_one_that_reads_a_little(lab: Lab) -> Truth:
    """The receiver reads for a while, in a thread, then no more."""
    client, server, receiver = _three(lab)
    _pass(lab, server, receiver)
    client.do("s.send(b'hello')")
    tid = receiver.do("s.recv(5); answer = threading.get_native_id()", "worker-1")
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", receiver.pid, tid), forecast=CONDITIONAL, check=owned_by(receiver.pid))


@scenario
def passed_after_reading(lab: Lab) -> Truth:
    """The server reads the request and passes the connection on: whoever read last holds it no more."""
    client, server, receiver = _three(lab)
    client.do("s.send(b'hello')")
    server.do("s.recv(5)")
    _pass(lab, server, receiver)
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", receiver.pid), forecast=CONDITIONAL, check=owned_by(receiver.pid))


@traced("--interval", "6")
def passed_between_two_scans(lab: Lab) -> Truth:
    """The same, and no scan has looked at the descriptors since: who read last is known, not that he holds it still."""
    client, server, receiver = _three(lab)
    client.do("s.send(b'hello'); time.sleep(0.5)")
    server.do("s.recv(5)")
    _pass(lab, server, receiver)
    fill(client)
    lab.wait(lab.port, lambda one: phase(one) == "stalled")
    return Truth(lab.port, slow=Slow("local", receiver.pid), forecast=CONDITIONAL, unknown="no scan yet")


@scenario
def passed_while_it_stalls(lab: Lab) -> Truth:
    """It changes hands when the stall is told already; descriptors are looked at again after five seconds."""
    client, server, receiver = _three(lab)
    fill(client)
    lab.stalled(lab.port)
    _pass(lab, server, receiver)
    server.do("time.sleep(5)")
    slow = Slow("local", receiver.pid)
    return Truth(lab.port, slow=slow, forecast=CONDITIONAL, also=frozenset({server.pid}), check=owned_by(receiver.pid))


@scenario
def passed_and_never_received(lab: Lab) -> Truth:
    """It waits in the other socket's queue, where no process holds it."""
    client, server, receiver = _three(lab)
    client.do("s.send(b'hello')")
    server.do("s.recv(5)")
    _pass(lab, server, receiver, receive=False)
    fill(client)
    lab.stalled(lab.port)
    why = "no process holds what is on its way"
    return Truth(lab.port, slow=Slow("local"), forecast=CONDITIONAL, unknown=why, check=owned_by(None))


@scenario
def inherited_by_a_child(lab: Lab) -> Truth:
    """A server forks a child for each connection, and closes its own copy."""
    client, server = _two(lab)
    child = lab.forked(server)
    server.do("s.close()")
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", child), forecast=CONDITIONAL, check=owned_by(child))


@scenario
def inherited_by_a_child_that_reads_a_little(lab: Lab) -> Truth:
    """The parent keeps its copy as well, but it is the child that was seen reading."""
    client, server = _two(lab)
    client.do("s.send(b'hello')")
    child = lab.forked(server, "s.recv(5)")
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", child), forecast=CONDITIONAL, check=owned_by(child))


@scenario
def read_by_the_parent_then_left_to_a_child(lab: Lab) -> Truth:
    """The parent reads the first bytes, then forks and closes: inetd's way."""
    client, server = _two(lab)
    client.do("s.send(b'hello')")
    server.do("s.recv(5)")
    child = lab.forked(server)
    server.do("s.close()")
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", child), forecast=CONDITIONAL, check=owned_by(child))


@scenario
def the_parent_is_gone(lab: Lab) -> Truth:
    """The process that accepted exits, its child holds the connection still."""
    client, server = _two(lab)
    child = lab.forked(server)
    server.kill()
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", child), forecast=CONDITIONAL, check=owned_by(child))


@scenario
def the_parent_goes_while_it_stalls(lab: Lab) -> Truth:
    """The process that read dies when the stall is told already; nothing is reset, for its child holds the connection."""
    client, server = _two(lab)
    client.do("s.send(b'hello')")
    server.do("s.recv(5)")
    child = lab.forked(server)
    fill(client)
    lab.stalled(lab.port)
    server.kill()
    client.do("time.sleep(5)")
    slow = Slow("local", child)
    return Truth(lab.port, slow=slow, forecast=CONDITIONAL, also=frozenset({server.pid}), check=owned_by(child))


@scenario
def inherited_over_exec(lab: Lab) -> Truth:
    """A program that is started with the connection, as from inetd, and knows nothing of it."""
    client, server = _two(lab)
    child = lab.own(
        server.do("import subprocess; p = subprocess.Popen(['sleep', '60'], pass_fds=[s.fileno()]); s.close(); answer = p.pid")
    )
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", child), forecast=CONDITIONAL, check=every(owned_by(child), _named("sleep")))


@scenario
def kept_over_exec(lab: Lab) -> Truth:
    """The process that reads becomes another program: the same pid, another name, and its threads are gone."""
    client, server = _two(lab)
    client.do("s.send(b'hello')")
    child = lab.forked(
        server,
        "t = threading.Thread(target=lambda: s.recv(5)); t.start(); t.join();"
        "s.set_inheritable(True); os.execvp('sleep', ['sleep', '60'])",
    )
    server.do("s.close()")
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", child), forecast=CONDITIONAL, check=every(owned_by(child), _named("sleep")))


@scenario
def held_by_several(lab: Lab) -> Truth:
    """Two processes have it, and none was seen reading: neither is named."""
    client, server = _two(lab)
    lab.forked(server)
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local"), forecast=CONDITIONAL, unknown=SHARED, check=every(owned_by(None), shared))


@scenario
def held_by_several_seen_from_the_peer(lab: Lab) -> Truth:
    """The same, from its peer: that side is slow, and no process is named."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip)
    lab.forked(server)
    fill(client)
    lab.stalled(port)
    slow = Slow("peer", None, None, there.ip, lab.port)
    return Truth(port, slow=slow, forecast=CONDITIONAL, unknown=SHARED, check=owned_by(client.pid))


@scenario
def held_by_several_of_which_one_reads(lab: Lab) -> Truth:
    """Of three one reads, in a thread, then stops."""
    client, server = _two(lab)
    lab.forked(server, name="first")
    lab.forked(server, name="second")
    client.do("s.send(b'hello')")
    tid = server.do("s.recv(5); answer = threading.get_native_id()", "reader")
    fill(client)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("local", server.pid, tid), forecast=CONDITIONAL, check=owned_by(server.pid))


@scenario
def read_by_two_processes_in_turn(lab: Lab) -> Truth:
    """Which of them should have read on cannot be told: one of the two, or nobody, but it is said to be shared."""
    client, server = _two(lab)
    child = lab.forked(server, "exec('for _ in range(5): s.recv(1); time.sleep(0.1)')")
    client.begin("for _ in range(10): s.send(b'x'); time.sleep(0.05)", "sender")
    server.do("for _ in range(5): s.recv(1); time.sleep(0.1)")
    fill(client)
    lab.stalled(lab.port)
    both = frozenset({server.pid, child})
    return Truth(lab.port, slow=Slow("local"), forecast=CONDITIONAL, also=both, unknown=SHARED, check=shared)


def _two(lab: Lab) -> tuple[Actor, Actor]:
    """A client connected to a server; the server's end is the one to judge."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    return client, server


def _three(lab: Lab) -> tuple[Actor, Actor, Actor]:
    """The same, with a third process on the server's host."""
    _, there, client, server = lab.two()
    lab.connect(client, server, there.ip)
    receiver = lab.actor(there, "receiver")
    receiver.do(f"u = socket.socket(socket.AF_UNIX); u.bind({_name(lab)!r}); u.listen()")
    return client, server, receiver


def _pass(lab: Lab, server: Actor, receiver: Actor, *, receive: bool = True) -> None:
    """The server passes its connection on and closes its own copy."""
    server.do(
        f"u = socket.socket(socket.AF_UNIX); u.connect({_name(lab)!r});"
        "socket.send_fds(u, [b'x'], [s.fileno()]); s.close(); time.sleep(0.05)"
    )
    receiver.do("v, _ = u.accept()")
    if receive:
        receiver.do("_, fds, _, _ = socket.recv_fds(v, 1, 1); s = socket.socket(fileno=fds[0])")


def _name(lab: Lab) -> str:
    """Of a UNIX socket that is no file."""
    return f"\0tcptrace-test-{lab.port}"


def _named(name: str) -> Callable[[list[Event]], str]:
    def check(events: list[Event]) -> str:
        got = events[-1].get("process", {}).get("name") if events else None
        return "" if got == name else f"called {got}"

    return check
