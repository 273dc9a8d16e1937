"""What /proc says of processes and threads. One that ends while we look is normal, and gives None."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from tracer.events.records import Process, Thread
from tracer.kernel import syscalls
from tracer.text import printable

PROC: Final = Path("/proc")
_LONGEST_FILE: Final = 65536
_TGID: Final = re.compile(rb"^Tgid:\t(\d+)$", re.MULTILINE)
_TICKS: Final = os.sysconf("SC_CLK_TCK")

# 64 hex digits are a docker, containerd, podman or CRI-O id: …/docker/ID, docker-ID.scope, libpod-ID.scope,
# cri-containerd-ID.scope, …slice:cri-containerd:ID, /kubepods/…/ID. A conmon watches a container from outside of it.
_CONTAINER: Final = re.compile(rb"(?:^|[/:-])(?<!conmon-)([0-9a-f]{64})(?:\.scope)?(?=/|$)", re.MULTILINE)


class _Stat(NamedTuple):
    state: str
    cpu_ns: int
    threads: int
    start_ticks: int


class Processes:
    """Remembers what it said of a process for as long as it is the same one: name and command line seldom change."""

    def __init__(self, root: Path = PROC, most: int = 10_000) -> None:
        self._root = root
        self._most = most
        self._known: dict[int, tuple[int, int, Process]] = {}

    def get(self, pid: int, ns: int, max_age_ns: int = 10_000_000_000) -> Process | None:
        """The process as it was at most `max_age_ns` ago; a reused pid is noticed at once."""
        stat = _stat(self._root / str(pid) / "stat")
        if stat is None:
            self._known.pop(pid, None)
            return None
        known = self._known.get(pid)
        if known and known[0] == stat.start_ticks and ns - known[1] < max_age_ns:
            return known[2]
        found = process(pid, ns, self._root)
        if found is not None:
            if len(self._known) >= self._most:
                self._known.pop(next(iter(self._known)))
            self._known[pid] = (stat.start_ticks, ns, found)
        return found

    def forget(self, pid: int) -> None:
        """It holds nothing of interest any more."""
        self._known.pop(pid, None)


def process_of(task: int, root: Path = PROC) -> int | None:
    """The pid of the process that a thread belongs to (a process's first thread has its number); None: there is no such thread.

    /proc has a folder for every thread, though it lists those of processes only.
    """
    found = _TGID.search(_read(root / str(task) / "status") or b"")
    return int(found[1]) if found else None


def process(pid: int, ns: int, root: Path = PROC) -> Process | None:
    """Name, executable, command line and container of a process."""
    home = root / str(pid)
    name = _read(home / "comm")
    if name is None:
        return None
    command_line = _read(home / "cmdline")
    cgroup = _read(home / "cgroup")
    container = _CONTAINER.search(cgroup) if cgroup else None
    return Process(
        ns,
        pid,
        printable(name.rstrip(b"\n")),
        _executable(home / "exe"),
        printable(command_line.rstrip(b"\0").replace(b"\0", b" ")) if command_line else None,
        container[1].decode() if container else None,
    )


def thread(pid: int, tid: int, ns: int, root: Path = PROC) -> Thread | None:
    """Name, state, wait channel and system call of a thread."""
    home = root / str(pid) / "task" / str(tid)
    name = _read(home / "comm")
    stat = _stat(home / "stat")
    if name is None or stat is None:
        return None
    call = syscalls.parse(_read(home / "syscall") or b"")
    # "0" is what the kernel writes where nothing is waited for, or where it does not tell
    channel = printable(_read(home / "wchan") or b"")
    return Thread(
        ns,
        pid,
        tid,
        printable(name.rstrip(b"\n")),
        stat.state,
        channel if channel not in ("", "0") else None,
        stat.cpu_ns,
        stat.threads,
        call[0] if call else None,
        call[1] if call else None,
    )


def _stat(path: Path) -> _Stat | None:
    data = _read(path)
    if data is None:
        return None
    # the name stands in parentheses and may itself contain some
    fields = data[data.rfind(b")") + 2 :].split()
    try:
        ticks = int(fields[11]) + int(fields[12])
        return _Stat(printable(fields[0]), ticks * 1_000_000_000 // _TICKS, int(fields[17]), int(fields[19]))
    except (IndexError, ValueError):
        return None


def _executable(path: Path) -> str | None:
    try:
        return printable(os.fsencode(os.readlink(path)))
    except OSError:
        return None


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(_LONGEST_FILE)
    except OSError:
        return None
