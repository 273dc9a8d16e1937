"""Hosts made of network namespaces: two joined by a veth pair, or one alone with its loopback."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final

from tracer.kernel.namespaces import NAMED, Namespace

_numbers = count()
PREFIX: Final = f"tcptrace-test-{os.getpid()}-"


@dataclass(frozen=True, slots=True)
class Host:
    """A network namespace with an address of either family."""

    name: str
    namespace: Namespace
    ip: str
    ip6: str

    def run(self, *command: str, check: bool = True) -> str:
        """A program's output, run on the host."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def sysctl(self, name: str, value: object) -> None:
        """Sets one of the host's own sysctls, such as `tcp_retries2`."""
        self.run("sh", "-c", f"echo {value} > /proc/sys/net/ipv4/{name}")

    def drop(self, rule: str) -> None:
        """Drops arriving packets that match the nft rule, such as `tcp dport 80`; `undrop` ends it."""
        self.run("nft", "add table inet lab; add chain inet lab in { type filter hook input priority 0; }")
        self.run("nft", f"add rule inet lab in {rule} drop")

    def undrop(self) -> None:
        """Lets all packets in again."""
        self.run("nft", "delete table inet lab")


@contextmanager
def alone() -> Iterator[Host]:
    """A host that talks to itself."""
    with _namespace() as (name, namespace):
        yield Host(name, namespace, "127.0.0.1", "::1")


@contextmanager
def pair() -> Iterator[tuple[Host, Host]]:
    """Two hosts with a link between them."""
    with ExitStack() as stack:
        one, other = stack.enter_context(_namespace()), stack.enter_context(_namespace())
        hosts = join((one, other))
        yield hosts[0], hosts[1]


@contextmanager
def row() -> Iterator[tuple[Host, Host, Host]]:
    """Three hosts, the middle one linked to both others.

    The middle's address is the one toward the first; the third reaches it at 198.18.102.1.
    """
    with ExitStack() as stack:
        first, middle, third = (stack.enter_context(_namespace()) for _ in range(3))
        ends = join((first, middle))
        far = join((middle, third), 102)
        yield ends[0], ends[1], far[1]


def join(ends: tuple[tuple[str, Namespace], tuple[str, Namespace]], subnet: int = 101) -> tuple[Host, Host]:
    """Links two namespaces with a veth pair in 198.18.SUBNET.0/24 (kept for such tests by RFC 2544)."""
    devices = (f"veth{subnet}a", f"veth{subnet}b")
    _ip("link", "add", devices[0], "netns", ends[0][0], "type", "veth", "peer", "name", devices[1], "netns", ends[1][0])
    hosts = []
    for number, ((name, namespace), device) in enumerate(zip(ends, devices, strict=True), 1):
        ip, ip6 = f"198.18.{subnet}.{number}", f"2001:db8:{subnet}::{number}"
        _ip("-n", name, "address", "add", f"{ip}/24", "dev", device)
        _ip("-n", name, "address", "add", f"{ip6}/64", "dev", device, "nodad")
        _ip("-n", name, "link", "set", device, "up")
        hosts.append(Host(name, namespace, ip, ip6))
    for (name, _), device in zip(ends, devices, strict=True):
        _wait_until_up(name, device)
    return hosts[0], hosts[1]


def _wait_until_up(name: str, device: str) -> None:
    """A link that has just been made loses its first packets, which TCP then sends again: that is none of the story."""
    deadline = time.monotonic() + 5
    while " state UP " not in _ip("-n", name, "-o", "link", "show", "dev", device):
        if time.monotonic() > deadline:
            raise AssertionError(f"{device} of {name} does not come up")
        time.sleep(0.01)


@contextmanager
def _namespace() -> Iterator[tuple[str, Namespace]]:
    name = f"{PREFIX}{next(_numbers)}"
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        path = str(NAMED / name)
        yield name, Namespace(os.stat(path).st_ino, path)
    finally:
        _ip("netns", "del", name)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise AssertionError(f"ip {' '.join(arguments)}: {done.stderr}")
    return done.stdout
