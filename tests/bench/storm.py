"""A storm of connections that are opened and reset as fast as the machine can: is each reset seen, or counted as lost?

The witness is the kernel's own count in the storm's namespace: TcpOutRsts, every RST that it sent. Each is a `reset-sent` line
of the stream, or counted by the kernel side under that kind where the ring buffer had no room.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.bench.figures import Figure
from tests.bench.observers import stop
from tests.bench.progress import Progress
from tests.bench.scale import on_terminal
from tests.lab import hosts
from tests.lab.actor import Actor, actor
from tests.lab.hosts import Host
from tests.lab.trace import ROOT, tcptrace
from tests.lab.witness import counters, risen

PORT: Final = 7645
SECONDS: Final = 3.0
DRAIN_S: Final = 20.0


def measure(rounds: int, progress: Progress) -> Iterator[Figure]:
    """The stream's account against the kernel's, then the table's frames while it storms."""
    with _compiled() as storm, hosts.alone() as host, actor(host, "witness") as witness:
        bare, rates, missing, shares = [], [], [], []
        for number in range(rounds):
            progress.say(f"round {number + 1} of {rounds}: nobody")
            bare.append(_storm(storm, host) / SECONDS)
            progress.say(f"round {number + 1} of {rounds}: the stream")
            opened, sent, seen, lost = _counted(storm, host, witness)
            rates.append(opened / SECONDS)
            missing.append(float(sent - seen - lost))
            shares.append(100 * seen / sent)
        yield Figure("storm: connections opened and reset each second", "1/s", rates, peers={"no tracer": bare})
        yield Figure("storm: resets neither seen nor counted as lost (TcpOutRsts)", "", missing, 0.0)
        yield Figure("storm: resets seen one by one", "%", shares)
        progress.say("the table")
        with on_terminal("watch", "--port", str(PORT)) as (_, frames):
            time.sleep(2)
            began = time.monotonic()
            _storm(storm, host)
            ended = time.monotonic()
            time.sleep(2)
            during = [began, *(at for at in frames if began <= at <= ended), ended]
        gaps = [later - one for one, later in pairwise(during)]
        yield Figure("storm: longest time between two frames of the table", "s", [max(gaps)], 1.5, note="interval 1 s")


def _storm(program: Path, host: Host) -> int:
    return int(host.run(str(program), str(PORT), str(SECONDS)))


def _counted(program: Path, host: Host, witness: Actor) -> tuple[int, int, int, int]:
    """Connections opened, RSTs that the kernel sent, those seen, those counted as lost."""
    with tempfile.NamedTemporaryFile(prefix="tcptrace-bench-") as stream:
        child = subprocess.Popen(tcptrace("watch", "--json", "--port", str(PORT)), cwd=ROOT, stdout=stream)
        try:
            while not Path(stream.name).stat().st_size:
                time.sleep(0.05)
            time.sleep(0.5)
            before = counters(witness)
            opened = _storm(program, host)
            after = counters(witness)
            _until_quiet(Path(stream.name))
        finally:
            stop(child)
        seen = lost = 0
        for line in Path(stream.name).read_bytes().splitlines():
            if b'"action":"reset-sent"' in line:
                seen += 1
            elif b'"action":"events-lost"' in line:
                lost = json.loads(line)["tcptrace"]["lost"]["by_kind"].get("reset-sent", 0)
    return opened, risen(before, after, "TcpOutRsts"), seen, lost


def _until_quiet(path: Path) -> None:
    """Until the stream has not grown for two seconds: what is in the ring buffer comes yet, and losses are told by a scan."""
    size, since, began = -1, time.monotonic(), time.monotonic()
    while time.monotonic() - since < 2.5 and time.monotonic() - began < DRAIN_S:
        time.sleep(0.2)
        if path.stat().st_size != size:
            size, since = path.stat().st_size, time.monotonic()


@contextmanager
def _compiled() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tcptrace-bench-") as folder:
        program = Path(folder) / "storm"
        subprocess.run(["cc", "-O2", "-o", str(program), str(Path(__file__).with_suffix(".c"))], check=True)
        yield program
