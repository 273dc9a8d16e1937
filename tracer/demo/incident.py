"""The outage of our users, reproduced: clients, nginx and a server on three hosts, and one client that stops reading."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tracer.demo import leftovers, network
from tracer.demo.nginx import Nginx, NginxError
from tracer.demo.processes import start_module
from tracer.errors import TcptraceError
from tracer.kernel.namespaces import Namespace
from tracer.model.findings import Endpoint

if TYPE_CHECKING:
    from typing_extensions import Self

PORT: Final = 8443
UPSTREAM_PORT: Final = 8899
NEVER_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays: the truth that the trace is compared with. Pids, a thread id, and the clients' ends."""

    nginx_worker: int
    upstream: int
    slow_client: int
    slow_thread: int
    quick_client: int
    slow_end: Endpoint
    quick_end: Endpoint


def require_root() -> None:
    """Raises TcptraceError: neither making nor removing works without."""
    if os.geteuid():
        raise TcptraceError("the demo makes network namespaces, which needs root", "run it with sudo")


class Incident:
    """Built on entry, gone on exit. Raises TcptraceError where something that it needs is missing."""

    cast: Cast

    def __init__(self, *, send_timeout_s: int = NEVER_S) -> None:
        """`send_timeout_s`: after how long nginx gives up on a client that takes nothing."""
        self._send_timeout_s = send_timeout_s
        self._children: list[subprocess.Popen[bytes]] = []
        self._nginx: Nginx | None = None
        self._notes: leftovers.Notes | None = None

    def __enter__(self) -> Self:
        require_root()
        leftovers.clean()
        self._notes = leftovers.Notes()
        try:
            self._build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()
        if self._nginx is not None:
            self._nginx.stop()
        if self._notes is not None:
            self._notes.remove_all()

    def stall(self) -> int:
        """The slow client's next task takes for ever. When that was said: CLOCK_MONOTONIC ns."""
        os.kill(self.cast.slow_client, signal.SIGUSR1)
        return time.monotonic_ns()

    def finish(self) -> int:
        """The slow client gives up and closes, with all that it has not read. When that was said: CLOCK_MONOTONIC ns."""
        os.kill(self.cast.slow_client, signal.SIGUSR2)
        return time.monotonic_ns()

    def nginx_errors(self) -> list[NginxError]:
        """What nginx has logged about clients so far."""
        return self._nginx.errors() if self._nginx else []

    def _build(self) -> None:
        assert self._notes is not None
        clients, proxy, upstream = network.build(os.getpid())
        server = self._start("upstream", [network.UPSTREAM, str(UPSTREAM_PORT)], upstream)
        self._nginx = Nginx(
            self._notes.folder,
            proxy,
            network.PROXY_FRONT,
            PORT,
            f"{network.UPSTREAM}:{UPSTREAM_PORT}",
            self._send_timeout_s,
        )
        self._notes.add(self._nginx.pids)
        front = [network.PROXY_FRONT, str(PORT)]
        slow = self._start("client", [*front, "slow"], clients)
        quick = self._start("client", [*front, "quick"], clients)
        self.cast = Cast(
            nginx_worker=self._nginx.worker,
            upstream=server["pid"],
            slow_client=slow["pid"],
            slow_thread=slow["reader"],
            quick_client=quick["pid"],
            slow_end=Endpoint(slow["address"], slow["port"]),
            quick_end=Endpoint(quick["address"], quick["port"]),
        )

    def _start(self, module: str, arguments: list[str], namespace: Namespace) -> dict[str, Any]:
        child, answer = start_module(f"tracer.demo.{module}", arguments, namespace)
        self._children.append(child)
        assert self._notes is not None
        self._notes.add([child.pid])
        return answer
