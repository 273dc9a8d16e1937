"""What a scenario is: a story played on hosts of its own, and the truth about it."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from tests.lab import hosts
from tests.lab.actor import Actor, actor, connect
from tests.lab.hosts import Host
from tests.lab.trace import Event, Trace
from tracer.demo.processes import identity, kill
from tracer.kernel.namespaces import entered

_T = TypeVar("_T")
_Hosts = TypeVar("_Hosts", bound=tuple[Host, ...])

FIRST_PORT: Final = 20_000
PORTS_EACH: Final = 10
INTERVAL_S: Final = 1.3
"""A scan's interval, and what the machine needs."""


class Slow(NamedTuple):
    """Who is slow. `side` is the end of the judged connection whose window is closed, `ip` and `port` are the root's.

    `pid` None: no process may be named. `tid` and the root's address are compared where they are given.
    """

    side: str
    pid: int | None = None
    tid: int | None = None
    ip: str | None = None
    port: int | None = None


NOBODY: Final = Slow("none")


class Expected(NamedTuple):
    """A forecast as EVENTS.md names it."""

    outcome: str
    by: str | None = None
    basis: str = "none"


NOTHING: Final = Expected("none")


@dataclass(frozen=True, slots=True)
class Truth:
    """What must be said of the connection whose local port is `end`. Times are CLOCK_MONOTONIC seconds."""

    end: int
    cause: str = "none"
    """Of its reset or silent end; "none": it lives, or ends as connections should."""
    slow: Slow = NOBODY
    """In the last verdict before the end."""
    forecast: Expected = NOTHING
    """In the last verdict before the end."""
    ended: float | None = None
    """When the kernel ended it, from a witness."""
    steady: float = 0.0
    """Since when nothing changed any more: forecasts from then on must be right."""
    also: frozenset[int] = frozenset()
    """Processes that were rightly named at an earlier stage."""
    unknown: str = ""
    """Why the kernel gives no way to tell the process, where it may stay unknown."""
    quiet: bool = False
    """Healthy: there may be no alert at all."""
    netns: int | None = None
    """Of the connection, where others have the same port."""
    check: Callable[[list[Event]], str] = lambda _: ""
    """Looks at the end's events for what is particular to the story; what is wrong with them."""


class Lab:
    """What a scenario plays with; it ends with the scenario.

    `pids` are its processes: no other may be named as an owner. `netns` are its namespaces: what is left in those of an
    earlier run, with the same ports, is none of its business.
    """

    def __init__(self, number: int, trace: Trace, stack: ExitStack) -> None:
        self.port = FIRST_PORT + number * PORTS_EACH
        self.trace = trace
        self.began = now()
        self.pids: set[int] = set()
        self.netns: set[int] = set()
        self._stack = stack

    def alone(self) -> Host:
        """A host that talks to itself."""
        return self._known((self.use(hosts.alone()),))[0]

    def pair(self) -> tuple[Host, Host]:
        """Two hosts with a link between them."""
        return self._known(self.use(hosts.pair()))

    def row(self) -> tuple[Host, Host, Host]:
        """Three hosts, the middle one linked to both others."""
        return self._known(self.use(hosts.row()))

    def actor(self, host: Host, name: str) -> Actor:
        """A process on a host."""
        one = self.use(actor(host, name))
        self.pids.add(one.pid)
        return one

    def use(self, context: AbstractContextManager[_T]) -> _T:
        """What the context gives, for as long as the scenario plays."""
        return self._stack.enter_context(context)

    def folder(self) -> str:
        """A folder that goes with the scenario."""
        return self.use(tempfile.TemporaryDirectory(prefix="tcptrace-test-"))

    def cleanup(self, undo: Callable[[], object]) -> None:
        """Is called when the scenario is over, the last one first."""
        self._stack.callback(undo)

    def forked(self, parent: Actor, code: str = "", name: str = "child") -> int:
        """A child of an actor, with all that it holds; it runs the code, then waits for its end. Its pid."""
        pid = parent.do(f"""
child = os.fork()
if not child:
    signal.alarm(60)
    named({name!r})
    exec({code!r}, globals())
    time.sleep(60)
    os._exit(0)
answer = child
""")
        assert isinstance(pid, int)
        return self.own(pid)

    def own(self, pid: int) -> int:
        """A process that an actor started is the scenario's too, and ends with it."""
        who = identity(pid)
        assert who is not None, f"process {pid} has died"
        self._stack.callback(kill, who)
        self.pids.add(pid)
        return pid

    def _known(self, made: _Hosts) -> _Hosts:
        self.netns |= {host.namespace.inode for host in made}
        return made

    def two(self) -> tuple[Host, Host, Actor, Actor]:
        """Two hosts, a client on the first and a server on the other."""
        here, there = self.pair()
        return here, there, self.actor(here, "client"), self.actor(there, "server")

    def connect(self, client: Actor, server: Actor, ip: str, offset: int = 0, name: str = "s", size: int = 32768) -> int:
        """A connection with buffers of `size` bytes to the scenario's port plus `offset`; the client's port."""
        return connect(client, server, ip, self.port + offset, rcvbuf=size, sndbuf=size, name=name)

    @contextmanager
    def orphans_at_most(self, number: int) -> Iterator[None]:
        """The host's own limit, which no namespace has one of its own of; so play alone."""
        limit = Path("/proc/sys/net/ipv4/tcp_max_orphans")
        before = limit.read_text(encoding="ascii")
        limit.write_text(f"{number}\n", encoding="ascii")
        try:
            yield
        finally:
            limit.write_text(before, encoding="ascii")

    def catch_up(self) -> bool:
        """Waits until the trace has told what happened by now, which on a busy machine takes its time: it tells in order.

        The mark is a refusal in a namespace that is none of the story's. One that loses events may lose it.
        """
        mark = self.port + PORTS_EACH - 1
        with hosts.alone() as host, entered(host.namespace), socket.socket() as one:
            one.connect_ex((host.ip, mark))
        try:
            self.trace.wait("reset-sent", mark, seconds=10)
        except AssertionError:
            return False
        return True

    def verdicts(self, end: int) -> list[Event]:
        """The alerts so far about the connection with this local port."""
        return [one for one in self.trace.of("verdict-changed", self.port) if local_port(one) == end]

    def wait(self, end: int, where: Callable[[Event], bool], seconds: float = 10.0) -> Event | None:
        """The first event of the end that is so; None if there is none in time, which the truth will show."""
        try:
            return self.trace.wait(seconds=seconds, where=lambda one: local_port(one) == end and where(one))
        except AssertionError:
            return None

    def stalled(self, end: int, seconds: float = 10.0) -> Event | None:
        """Waits for the verdict that the end is stalled, and for the scan after it, which finds the owners."""
        found = self.wait(end, lambda one: one["event"]["action"] == "verdict-changed" and phase(one) == "stalled", seconds)
        time.sleep(INTERVAL_S)
        return found


class Scenario(NamedTuple):
    """A story and its name."""

    name: str
    play: Callable[[Lab], Truth]
    own_trace: tuple[str, ...] | None
    """Options of a `watch` of its own; None: it shares one with the others."""
    program: str | None = None
    """What runs that `watch`, if it is not tcptrace as it is."""
    alone: bool = False
    """It needs the machine for itself."""


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(function: Callable[[Lab], Truth]) -> Callable[[Lab], Truth]:
    """Registers a story under its function's name."""
    return _register(Scenario(_name(function), function, None))


def traced(
    *options: str, program: str | None = None, alone: bool = False
) -> Callable[[Callable[[Lab], Truth]], Callable[[Lab], Truth]]:
    """Registers a story that needs a `watch` of its own, with these options, run by this program."""
    return lambda function: _register(Scenario(_name(function), function, options, program, alone))


def _register(one: Scenario) -> Callable[[Lab], Truth]:
    assert one.name not in SCENARIOS, one.name
    SCENARIOS[one.name] = one
    return one.play


def _name(function: Callable[[Lab], Truth]) -> str:
    return function.__name__.replace("_", "-")


def local_port(event: Event) -> int | None:
    """The local port of the connection that an event is about."""
    port = (event["tcptrace"].get("connection") or {}).get("local", {}).get("port")
    assert port is None or isinstance(port, int)
    return port


def netns(event: Event) -> int | None:
    """The network namespace that its connection is in."""
    found = (event["tcptrace"].get("connection") or {}).get("netns")
    assert found is None or isinstance(found, int)
    return found


def phase(event: Event) -> str | None:
    """The phase in its verdict."""
    found = event["tcptrace"].get("verdict", {}).get("phase")
    assert found is None or isinstance(found, str)
    return found


def now() -> float:
    """CLOCK_MONOTONIC, seconds."""
    return time.monotonic()
