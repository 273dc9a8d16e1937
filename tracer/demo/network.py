"""The demo's three hosts: network namespaces joined by veth pairs, with addresses kept for such tests (RFC 2544)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tracer.errors import TcptraceError
from tracer.kernel.namespaces import NAMED, Namespace

CLIENTS: Final = "198.18.1.2"
PROXY_FRONT: Final = "198.18.1.1"
PROXY_BACK: Final = "198.18.2.1"
UPSTREAM: Final = "198.18.2.2"


def names(owner: int) -> tuple[str, str, str]:
    """The namespaces of the demo that process `owner` runs: clients, proxy, upstream."""
    clients, proxy, upstream = (f"tcptrace-demo-{owner}-{host}" for host in ("clients", "proxy", "upstream"))
    return clients, proxy, upstream


def build(owner: int) -> tuple[Namespace, Namespace, Namespace]:
    """Makes the namespaces, joined and up. Raises TcptraceError."""
    clients, proxy, upstream = names(owner)
    for name in (clients, proxy, upstream):
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
    _join(clients, CLIENTS, proxy, PROXY_FRONT, "front")
    _join(upstream, UPSTREAM, proxy, PROXY_BACK, "back")
    return _namespace(clients), _namespace(proxy), _namespace(upstream)


def remove(name: str) -> None:
    """Removes a namespace; one that is not there is well."""
    if (NAMED / name).exists():
        _ip("netns", "del", name)


def _join(one: str, one_address: str, other: str, other_address: str, link: str) -> None:
    _ip("link", "add", "eth0", "netns", one, "type", "veth", "peer", "name", link, "netns", other)
    for name, device, address in ((one, "eth0", one_address), (other, link, other_address)):
        _ip("-n", name, "address", "add", f"{address}/24", "dev", device)
        _ip("-n", name, "link", "set", device, "up")


def _namespace(name: str) -> Namespace:
    path = str(NAMED / name)
    return Namespace(os.stat(path).st_ino, path)


def _ip(*arguments: str) -> None:
    program = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise TcptraceError("the program `ip` is missing", "apt-get install iproute2")
    with _undisturbed():
        done = subprocess.run([program, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise TcptraceError(
            f"ip {' '.join(arguments)}: {done.stderr.strip()}", "the demo needs root, network namespaces and veth"
        )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A signal waits: between a fork and its exec it would leave a child that makes what has been looked for already."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
