"""Where the ends are: one host, two namespaces, a namespace without a name, a container; IPv4, IPv6 and one in the other."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.lab.actor import Actor, fill
from tests.lab.hosts import Host
from tests.lab.trace import Event
from tests.scenarios.scenario import Lab, Slow, Truth, now, scenario
from tests.scenarios.steps import CONDITIONAL, RETRANSMISSION, failed, never_blamed

NEW_NAMESPACE: Final = "assert not libc.unshare(0x40000000)"
LOOPBACK_UP: Final = """
import fcntl
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14x", b"lo", 0x41))  # SIOCSIFFLAGS, IFF_UP | IFF_RUNNING
"""

# --- addresses -------------------------------------------------------------------------------------------------------


@scenario
def loopback(lab: Lab) -> Truth:
    """Both ends in one namespace, over 127.0.0.1."""
    return _stalled_on_one_host(lab, "127.0.0.1")


@scenario
def loopback_v6(lab: Lab) -> Truth:
    """Over ::1."""
    return _stalled_on_one_host(lab, "::1")


@scenario
def over_ipv6(lab: Lab) -> Truth:
    """Between two namespaces."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, there.ip6)
    fill(client)
    lab.stalled(port)
    slow = Slow("peer", server.pid, None, there.ip6, lab.port)
    return Truth(port, slow=slow, forecast=CONDITIONAL, check=_written_as(there.ip6, "ipv6"))


@scenario
def mapped_at_both_ends(lab: Lab) -> Truth:
    """IPv6 sockets that speak IPv4: it is written as what it is."""
    _, there, client, server = lab.two()
    port = lab.connect(client, server, f"::ffff:{there.ip}")
    fill(client)
    lab.stalled(port)
    slow = Slow("peer", server.pid, None, there.ip, lab.port)
    return Truth(port, slow=slow, forecast=CONDITIONAL, check=_written_as(there.ip, "ipv4"))


@scenario
def mapped_at_the_server(lab: Lab) -> Truth:
    """A server that listens on :: has an IPv4 client."""
    _, there, client, server = lab.two()
    port = _connect(lab, client, server, there.ip, ("AF_INET", there.ip), ("AF_INET6", "::"))
    fill(client)
    lab.stalled(port)
    slow = Slow("peer", server.pid, None, there.ip, lab.port)
    return Truth(port, slow=slow, forecast=CONDITIONAL, check=_written_as(there.ip, "ipv4"))


@scenario
def mapped_at_the_client(lab: Lab) -> Truth:
    """A client connects with an IPv6 socket to an IPv4 server, as Java does; seen from the server."""
    _, there, client, server = lab.two()
    _connect(lab, client, server, there.ip, ("AF_INET6", f"::ffff:{there.ip}"), ("AF_INET", there.ip))
    fill(server)
    lab.stalled(lab.port)
    return Truth(lab.port, slow=Slow("peer", client.pid), forecast=CONDITIONAL, check=_written_as(there.ip, "ipv4", "local"))


# --- namespaces ------------------------------------------------------------------------------------------------------


@scenario
def namespace_without_a_name(lab: Lab) -> Truth:
    """A namespace that exists only because processes are in it (unshare --net)."""
    client, server = _nameless(lab)
    port = lab.connect(client, server, "127.0.0.1")
    fill(client)
    lab.stalled(port)
    return Truth(port, slow=Slow("peer", server.pid, None, "127.0.0.1", lab.port), forecast=CONDITIONAL)


@scenario
def namespace_that_nobody_is_in(lab: Lab) -> Truth:
    """Both processes have left it with their sockets, and it has no name: no scan gets there, but events come from it."""
    client, server = _nameless(lab)
    port = lab.connect(client, server, "127.0.0.1")
    for one in (client, server):
        one.do(NEW_NAMESPACE)
    fill(client)
    lab.stalled(port)
    return Truth(port, slow=Slow("peer", server.pid), forecast=CONDITIONAL, unknown="no scan enters such a namespace")


@scenario
def same_addresses_in_two_pairs(lab: Lab) -> Truth:
    """Two pairs of hosts with the same addresses and ports, as containers have: both stall, and each has its own reader."""
    first, second = _twins(lab)
    fill(second.client)
    fill(first.client)
    lab.stalled(first.port)
    also = frozenset({second.server.pid})
    slow = Slow("peer", first.server.pid)
    check = never_blamed(second.server.pid)
    return Truth(first.port, slow=slow, forecast=CONDITIONAL, also=also, netns=first.netns, check=check)


@scenario
def same_addresses_while_one_waits(lab: Lab) -> Truth:
    """In the second pair a little data waits before the first one stalls: it looks like the first's other end."""
    second, first = _twins(lab)  # scans meet those first that were made first
    second.client.do("s.send(b'hello')")
    second.client.do("time.sleep(2.5)")
    fill(first.client)
    lab.stalled(first.port)
    also = frozenset({second.server.pid})
    slow = Slow("peer", first.server.pid)
    check = never_blamed(second.server.pid)
    return Truth(first.port, slow=slow, forecast=CONDITIONAL, also=also, netns=first.netns, check=check)


@scenario
def same_addresses_while_one_is_cut_off(lab: Lab) -> Truth:
    """The first pair's link is cut, the second's reader is slow: he has nothing to do with the first."""
    second, first = _twins(lab)
    second.client.do("s.send(b'hello')")
    second.client.do("time.sleep(2.5)")
    first.there.drop(f"tcp dport {lab.port}")
    first.here.sysctl("tcp_retries2", 3)
    first.client.do("s.send(b'hello')")
    ended = failed(first.client)
    return Truth(
        first.port,
        "retransmission-timeout",
        forecast=RETRANSMISSION,
        ended=ended,
        also=frozenset({second.server.pid}),
        netns=first.netns,
        check=never_blamed(second.server.pid),
    )


# --- containers ------------------------------------------------------------------------------------------------------

ID: Final = "5f1d2ab9c3e84706" * 4


@scenario
def container_of_docker(lab: Lab) -> Truth:
    """As docker names its cgroups under systemd."""
    return _in_a_container(lab, f"docker-{ID}.scope")


@scenario
def container_of_docker_without_systemd(lab: Lab) -> Truth:
    """And without."""
    return _in_a_container(lab, f"docker/{ID}")


@scenario
def container_of_containerd_in_kubernetes(lab: Lab) -> Truth:
    """A pod's, with the systemd driver."""
    return _in_a_container(lab, f"kubepods.slice/kubepods-burstable.slice/cri-containerd-{ID}.scope")


@scenario
def container_of_kubernetes(lab: Lab) -> Truth:
    """A pod's, with the cgroupfs driver."""
    return _in_a_container(lab, f"kubepods/besteffort/pod2e0a3a5c-7d31-4b0f-9d55-0d1c6a1f7a11/{ID}")


@scenario
def container_of_podman(lab: Lab) -> Truth:
    """Podman's, with the sub-group that it makes in it."""
    return _in_a_container(lab, f"machine.slice/libpod-{ID}.scope/container")


@scenario
def container_like_no_other(lab: Lab) -> Truth:
    """A cgroup with a name that is no container's."""
    return _in_a_container(lab, f"system.slice/backup-{ID[:40]}.service", None)


# --- what they are told with -----------------------------------------------------------------------------------------


class _Twin(NamedTuple):
    """One of two pairs of hosts with a connection that has the same addresses and ports in both."""

    here: Host
    there: Host
    client: Actor
    server: Actor
    port: int

    @property
    def netns(self) -> int:
        return self.here.namespace.inode


def _twins(lab: Lab) -> tuple[_Twin, _Twin]:
    """Opened within so short a time that their sequence numbers lie close together too (secure_tcp_seq)."""
    pairs = [_Twin(*lab.two(), lab.port + 5) for _ in range(2)]
    began = now()
    for one in pairs:
        _connect(lab, one.client, one.server, one.there.ip, ("AF_INET", one.there.ip), ("AF_INET", one.there.ip), one.port)
    assert now() - began < 0.5, "the two were opened too far apart to be like each other"
    return pairs[0], pairs[1]


def _connect(
    lab: Lab, client: Actor, server: Actor, ip: str, theirs: tuple[str, str], mine: tuple[str, str], source: int = 0
) -> int:
    """A connection whose ends are sockets of these families: the client's, to that address; the server's, on that one."""
    sizes = "".join(f"; {{0}}.setsockopt(socket.SOL_SOCKET, socket.{option}, 32768)" for option in ("SO_RCVBUF", "SO_SNDBUF"))
    server.do(
        f"l = socket.socket(socket.{mine[0]}){sizes.format('l')};"
        f"l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); l.bind(({mine[1]!r}, {lab.port})); l.listen()"
    )
    bind = f"; s.bind(('', {source}))" if source else ""
    client.do(f"s = socket.socket(socket.{theirs[0]}){sizes.format('s')}{bind}; s.connect(({theirs[1]!r}, {lab.port}))")
    server.do("s, _ = l.accept(); l.close()")
    port = client.do("answer = s.getsockname()[1]")
    assert isinstance(port, int)
    return port


def _stalled_on_one_host(lab: Lab, ip: str) -> Truth:
    host = lab.alone()
    client, server = lab.actor(host, "client"), lab.actor(host, "server")
    port = lab.connect(client, server, ip)
    fill(client)
    lab.stalled(port)
    return Truth(port, slow=Slow("peer", server.pid, None, ip, lab.port), forecast=CONDITIONAL)


def _nameless(lab: Lab) -> tuple[Actor, Actor]:
    """Two processes in a network namespace that has no name."""
    host = lab.alone()
    client, server = lab.actor(host, "client"), lab.actor(host, "server")
    client.do(NEW_NAMESPACE + LOOPBACK_UP)
    server.do(f"f = os.open('/proc/{client.pid}/ns/net', os.O_RDONLY); assert not libc.setns(f, 0x40000000); os.close(f)")
    lab.netns.add(os.stat(f"/proc/{client.pid}/ns/net").st_ino)
    return client, server


def _in_a_container(lab: Lab, group: str, container: str | None = ID) -> Truth:
    """The slow reader is in a cgroup with this name."""
    here, there = lab.pair()
    with_group = lab.use(_cgroup(f"tcptrace-test-{lab.port}/{group}"))
    client, server = lab.actor(here, "client"), lab.actor(there, "server")
    (with_group / "cgroup.procs").write_text(str(server.pid), encoding="ascii")
    lab.connect(client, server, there.ip)
    fill(client)
    lab.stalled(lab.port)

    def check(events: list[Event]) -> str:
        found = events[-1].get("container", {}).get("id") if events else None
        return "" if found == container else f"container {found}"

    return Truth(lab.port, slow=Slow("local", server.pid), forecast=CONDITIONAL, check=check)


@contextmanager
def _cgroup(name: str) -> Iterator[Path]:
    """A cgroup (v2), with those above it."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    root = next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)
    assert root is not None, "no cgroup2 is mounted"
    made = [root / part for part in itertools.accumulate(name.split("/"), lambda above, part: f"{above}/{part}")]
    try:
        for one in made:
            one.mkdir()
        yield made[-1]
    finally:
        for one in reversed(made):
            if one.exists():
                _remove(one)


def _remove(group: Path) -> None:
    """Its processes have just been killed, and leave it a little later."""
    end = now() + 5
    while True:
        if not (group / "cgroup.procs").read_text(encoding="ascii") or now() > end:
            group.rmdir()
            return
        time.sleep(0.02)


def _written_as(ip: str, kind: str, end: str = "peer") -> Callable[[list[Event]], str]:
    def check(events: list[Event]) -> str:
        wrong = [
            f"{one['network']['type']} {one['tcptrace']['connection'][end]['ip']}"
            for one in events
            if (one["network"]["type"], one["tcptrace"]["connection"][end]["ip"]) != (kind, ip)
        ]
        return f"written as {wrong[0]}" if wrong else ""

    return check
