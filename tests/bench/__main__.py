"""python -m tests.bench [--quick] [--json] [NAME...]"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

import click

from tests.bench import cost, export, latency, loss, scale, soak, startup, storm
from tests.bench.figures import Figure, show
from tests.bench.progress import Progress
from tracer.kernel import checks


class Size(NamedTuple):
    """How much is measured: `rounds` of each, so many sockets at most, a soak of so many seconds, so many
    millions of records."""

    rounds: int
    sockets: int
    soak_s: float
    millions: float


WHOLE: Final = Size(7, 96_000, 60.0, 1.0)
QUICK: Final = Size(2, 10_000, 10.0, 0.1)

MEASUREMENTS: Final[dict[str, Callable[[Size, Progress], Iterable[Figure]]]] = {
    "startup": lambda size, progress: startup.measure(size.rounds, progress),
    "cost": lambda size, progress: cost.measure(min(size.rounds, 4), progress),
    "requests": lambda size, progress: loss.requests(size.rounds, progress),
    "throughput": lambda size, progress: loss.throughput(size.rounds, progress),
    "latency": lambda size, progress: latency.measure(size.rounds, progress),
    "scale": lambda size, progress: scale.measure(min(size.rounds, 4), progress, size.sockets),
    "export": lambda size, progress: export.measure(min(size.rounds, 4), size.millions, progress),
    "storm": lambda size, progress: storm.measure(min(size.rounds, 3), progress),
    "soak": lambda size, progress: soak.measure(size.soak_s, progress, size.sockets),
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MEASUREMENTS)))
@click.option("--quick", is_flag=True, help="Fewer rounds and sockets: three minutes instead of twelve.")
@click.option("--rounds", type=click.IntRange(1), help="How often each is measured.")
@click.option("--sockets", type=click.IntRange(1000), help="The most that are made.")
@click.option("--soak", type=click.FloatRange(5), metavar="SECONDS", help="How long memory is looked at.")
@click.option("--millions", type=click.FloatRange(0.01), metavar="RECORDS", help="How many go through the memory of export.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a figure.")
def main(
    names: tuple[str, ...],
    quick: bool,
    rounds: int | None,
    sockets: int | None,
    soak: float | None,
    millions: float | None,
    as_json: bool,
) -> None:
    """Measure tcptrace on this machine, beside what it replaces, turn by turn."""
    checks.require()
    # an end by signal unwinds like any other: namespaces and processes go
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    size = QUICK if quick else WHOLE
    size = Size(rounds or size.rounds, sockets or size.sockets, soak or size.soak_s, millions or size.millions)
    progress = Progress()
    figures: list[Figure] = []
    load = Path("/proc/loadavg").read_text(encoding="ascii").split()[0]
    try:
        for name in names or MEASUREMENTS:
            progress.begin(name)
            figures += MEASUREMENTS[name](size, progress)
    finally:
        progress.clear()
        if as_json:
            for one in figures:
                click.echo(json.dumps(one.as_json()))
        elif figures:
            show(figures, f"{machine()}; load {load} when it began")


def machine() -> str:
    """What was measured on."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="ascii"))
    cpu = found[1] if found else platform.machine()
    return f"Linux {platform.release()}, {os.cpu_count()} × {cpu}, Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
