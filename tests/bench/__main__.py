"""python -m tests.bench [--json] [--rounds N] [--sockets N] [NAME...]"""

from __future__ import annotations

import json
import os
import platform
import sys

import click

from tests.bench import export, latency, scan, startup
from tests.bench.figures import Figure, show

NAMES = ("startup", "latency", "scan", "export")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--rounds", type=click.IntRange(1), default=10, show_default=True, help="How often each is measured.")
@click.option("--sockets", type=click.IntRange(2), default=96_000, show_default=True, help="For the scan.")
@click.option(
    "--millions", type=click.FloatRange(0.01), default=1.0, show_default=True, help="Records for the memory of export."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a figure.")
def main(names: tuple[str, ...], rounds: int, sockets: int, millions: float, as_json: bool) -> None:
    """Measure on this machine: start-up and memory, latency, the scan of many sockets beside ss, the stream."""
    figures: list[Figure] = []
    for name in names or NAMES:
        click.echo(f"measuring {name} …", err=True)
        if name == "startup":
            figures += startup.measure(rounds)
        elif name == "latency":
            figures += latency.measure(rounds)
        elif name == "export":
            figures += export.measure(min(rounds, 5), millions)
        else:
            figures += scan.measure(rounds, sockets)
    if as_json:
        for one in figures:
            click.echo(json.dumps(one.as_json()))
        return
    click.echo(f"Linux {platform.release()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    show(figures)


if __name__ == "__main__":
    sys.exit(main())
