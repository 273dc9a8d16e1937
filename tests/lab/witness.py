"""Independent witnesses of what the kernel did: ss, its own counters, and the descriptors in /proc."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.actor import Actor
from tests.lab.hosts import Host


def counters(actor: Actor) -> dict[str, int]:
    """What nstat prints for the actor's host (it reads the same two files): TcpExtTCPWinProbe, TcpRetransSegs, …"""
    found: dict[str, int] = {}
    for name in ("netstat", "snmp"):
        lines = Path(f"/proc/{actor.pid}/net/{name}").read_text(encoding="ascii").splitlines()
        for titles, values in zip(lines[::2], lines[1::2], strict=True):
            prefix, *names = titles.split()
            found |= {prefix.rstrip(":") + title: int(value) for title, value in zip(names, values.split()[1:], strict=True)}
    return found


def risen(before: dict[str, int], after: dict[str, int], name: str) -> int:
    """By how much a counter rose."""
    return after[name] - before[name]


@dataclass(frozen=True, slots=True)
class Ss:
    """What ss says of a socket. `timer` as it prints it: name, time left, retransmissions; or empty."""

    state: str
    recv_q: int
    send_q: int
    local_port: int
    peer_port: int
    inode: int
    timer: tuple[str, ...]
    pids: frozenset[int]
    info: dict[str, str] = field(default_factory=dict)


def ss(host: Host) -> dict[int, Ss]:
    """The host's TCP connections by local port."""
    found = {}
    for line in host.run("ss", "-tnpieomOH").splitlines():
        words = line.split()
        timer = re.search(r"timer:\((\w+),([^,]*),(\d+)\)", line)
        inode = re.search(r"ino:(\d+)", line)
        local_port = int(words[3].rsplit(":", 1)[1])
        found[local_port] = Ss(
            words[0],
            int(words[1]),
            int(words[2]),
            local_port,
            int(words[4].rsplit(":", 1)[1]),
            int(inode[1]) if inode else 0,
            timer.groups() if timer else (),
            frozenset(int(pid) for pid in re.findall(r"pid=(\d+)", line)),
            dict(re.findall(r"\b(\w+):([^\s,()]+)", line)),
        )
    return found


def holders(inode: int) -> frozenset[int]:
    """The processes with a descriptor of the socket, from /proc/PID/fd."""
    wanted = f"socket:[{inode}]"
    found = set()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            links = [os.readlink(one.path) for one in os.scandir(f"/proc/{entry.name}/fd")]
        except OSError:
            continue
        if wanted in links:
            found.add(int(entry.name))
    return frozenset(found)
