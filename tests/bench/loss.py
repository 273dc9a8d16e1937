"""What watching takes from healthy traffic: requests and throughput with each observer at work, turn by turn with nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.bench import loads
from tests.bench.figures import Figure
from tests.bench.observers import NOBODY, OBSERVERS, TCPTRACE, observed
from tests.bench.progress import Progress
from tests.lab import hosts
from tests.lab.hosts import Host

SECONDS = 2


def requests(rounds: int, progress: Progress) -> Iterator[Figure]:
    """nginx and wrk: small answers over connections that are kept."""
    with hosts.pair() as (client, server), loads.nginx(server):
        loads.requests(client, server, 1)
        rates = _rounds(server, loads.WEB_PORT, rounds, lambda: loads.requests(client, server, SECONDS), progress)
    yield from _figures("requests/s, nginx + wrk", "requests/s", rates, 2.0, {"tcpdump": 1.0})


def throughput(rounds: int, progress: Progress) -> Iterator[Figure]:
    """One iperf3 stream over veth."""
    with hosts.pair() as (client, server), loads.iperf3(server):
        loads.bulk(client, server, 1)
        rates = _rounds(server, loads.BULK_PORT, rounds, lambda: loads.bulk(client, server, SECONDS), progress)
    yield from _figures("throughput, one iperf3 stream", "Gbit/s", rates, 1.0, {})


def _rounds(host: Host, port: int, rounds: int, load: Callable[[], float], progress: Progress) -> dict[str, list[float]]:
    """Each observer once a round; who begins moves on, so that a machine that warms or cools favours nobody.

    Nobody's turns are two a round: what lies between them is the machine's own doing.
    """
    names = [*OBSERVERS, "no tracer, again"]
    rates: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            progress.say(f"round {number + 1} of {rounds}: {name}")
            with observed(OBSERVERS.get(name), host, port):
                rates[name].append(load())
    return rates


def _figures(name: str, unit: str, rates: dict[str, list[float]], most: float, beats: dict[str, float]) -> Iterator[Figure]:
    baselines = rates[NOBODY], rates["no tracer, again"]
    means = [(one + other) / 2 for one, other in zip(*baselines, strict=True)]
    losses = {
        observer: [100 * (1 - one / mean) for one, mean in zip(values, means, strict=True)]
        for observer, values in rates.items()
        if observer != NOBODY
    }
    losses["no tracer, against itself"] = [
        100 * abs(one - other) / mean for one, other, mean in zip(*baselines, means, strict=True)
    ]
    del losses["no tracer, again"]
    ours = losses.pop(TCPTRACE)
    yield Figure(f"loss of {name}", "%", ours, most, peers=losses, beats=beats)
    yield Figure(f"  {name}, watched", unit, rates[TCPTRACE], peers={NOBODY: [*baselines[0], *baselines[1]]})
