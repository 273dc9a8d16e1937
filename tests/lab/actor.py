"""Processes that do with sockets what a test tells them to, on a host and in threads of the test's choice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.lab.hosts import Host
from tracer.demo.processes import start

# The process at the other end: lines of JSON in, each [thread, code], answered by a line of JSON. Code is run in a shared
# namespace and answers with what it assigns to `answer`. A thread is made when it is first named.
_PROGRAM = r"""
import ctypes, json, os, queue, select, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def named(name): libc.prctl(15, name.encode()[:15])
named(sys.argv[1])
shared = dict(globals())
out = threading.Lock()
def answer(number, value):
    with out:
        os.write(answers, (json.dumps([number, value]) + "\n").encode())
def run(number, code):
    try:
        shared["answer"] = None
        exec(code, shared)
        answer(number, [shared["answer"], None])
    except BaseException as error:
        answer(number, [None, f"{type(error).__name__}: {error}"])
threads = {}
def work(name, jobs):
    named(name)
    while True:
        run(*jobs.get())
answers = int(sys.argv[2])
answer(0, [os.getpid(), None])
for line in sys.stdin:
    number, thread, code = json.loads(line)
    if thread is None:
        run(number, code)
        continue
    if thread not in threads:
        threads[thread] = queue.Queue()
        threading.Thread(target=work, args=(thread, threads[thread]), daemon=True).start()
    threads[thread].put((number, code))
"""


class Actor:
    """A process named `name` on a host. It ends with the test, however that ends."""

    def __init__(self, host: Host, name: str) -> None:
        read, write = os.pipe()
        to_child, stdin = os.pipe()
        self._stdin = os.fdopen(stdin, "w")
        self._child: subprocess.Popen[bytes] = start(
            [sys.executable, "-c", _PROGRAM, name, str(write)], host.namespace, pass_fds=(write,), stdin=to_child
        )
        os.close(write)
        os.close(to_child)
        self._answers = os.fdopen(read)
        self._early: dict[int, list[Any]] = {}
        self._last = 0
        self.name = name
        self.pid: int = self._answer(0)

    def do(self, code: str, thread: str | None = None) -> Any:
        """Runs code to its end; what it assigned to `answer`. Raises AssertionError with what it raised."""
        return self._answer(self.begin(code, thread))

    def begin(self, code: str, thread: str | None = None) -> int:
        """Starts code, whose end nobody waits for; use a thread, or nothing else can be done meanwhile."""
        self._last += 1
        self._stdin.write(json.dumps([self._last, thread, code]) + "\n")
        self._stdin.flush()
        return self._last

    def finish(self, number: int) -> Any:
        """Waits for the end of what was begun."""
        return self._answer(number)

    def kill(self) -> None:
        """Ends the process at once, as SIGKILL does."""
        self._child.kill()
        self._child.wait()

    def close(self) -> None:
        """Ends it."""
        self.kill()
        self._stdin.close()
        self._answers.close()

    def _answer(self, number: int) -> Any:
        while number not in self._early:
            line = self._answers.readline()
            if not line:
                raise AssertionError(f"the actor {self.name} has died")
            which, got = json.loads(line)
            self._early[which] = got
        value, error = self._early.pop(number)
        if error is not None:
            raise AssertionError(f"{self.name}: {error}")
        return value


@contextmanager
def actor(host: Host, name: str) -> Iterator[Actor]:
    """A process on a host for as long as the block runs."""
    one = Actor(host, name)
    try:
        yield one
    finally:
        one.close()


def connect(client: Actor, server: Actor, ip: str, port: int, *, rcvbuf: int = 0, sndbuf: int = 0, name: str = "s") -> int:
    """A connection from `client` to `server`, called `name` in both; the client's port. The buffers are set at both ends."""
    family = "socket.AF_INET6" if ":" in ip else "socket.AF_INET"
    sizes = "".join(
        f"; {{0}}.setsockopt(socket.SOL_SOCKET, socket.{option}, {size})"
        for option, size in (("SO_RCVBUF", rcvbuf), ("SO_SNDBUF", sndbuf))
        if size
    )
    server.do(
        f"l = socket.socket({family}); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)"
        f"{sizes.format('l')}; l.bind(({ip!r}, {port})); l.listen()"
    )
    client.do(f"{name} = socket.socket({family}){sizes.format(name)}; {name}.connect(({ip!r}, {port}))")
    server.do(f"{name}, _ = l.accept(); l.close()")
    answer = client.do(f"answer = {name}.getsockname()[1]")
    assert isinstance(answer, int)
    return answer


FILL = """
{0}.setblocking(False)
sent, quiet = 0, 0
while quiet < 10:
    try:
        sent += {0}.send(bytes(65536)); quiet = 0
    except BlockingIOError:
        time.sleep(0.02); quiet += 1
{0}.setblocking(True)
answer = sent
"""


def fill(sender: Actor, name: str = "s") -> int:
    """Sends until neither end takes more; how many bytes that was."""
    sent = sender.do(FILL.format(name))
    assert isinstance(sent, int)
    return sent
