"""What a trace has seen, as Prometheus metrics: a collector for the official client, asked by whoever scrapes.

Label sets are bounded whatever the traffic: by the words of the model, and by PROGRAMS names of programs; no address, port or
pid is a label. docs/metrics.md explains each metric.
"""

from __future__ import annotations

import platform
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from tracer import __version__
from tracer.events.wire import KIND_NAMES
from tracer.export.ecs import SCHEMA
from tracer.model.findings import ConnectionView, Notice, Phase, Screen
from tracer.text import printable

PROGRAMS: Final = 50
"""Names of programs that become labels, in the order in which they are met; the rest is `other`."""
NAME_AT_MOST: Final = 64
STALLS_AT_MOST: Final = 20_000
"""Closed windows whose beginning is remembered until they open; beyond that the oldest is not measured."""
STALL_S: Final = 0.2
"""A window that was closed for less is a busy reader's."""
STALL_BUCKETS: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
"""Seconds. 60 s is the usual patience of proxies, 900 s about that of the kernel with the default tcp_retries2."""

_LIVE: Final = (Phase.OK, Phase.BACKLOGGED, Phase.STALLED, Phase.UNANSWERED)
_COUNTERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "resets": ("Connections that ended in a RST, or without one because a timer gave up.", ("cause", "direction", "program")),
    "stalled_seconds": ("Time that connections spent with a closed window, summed over connections.", ("side", "program")),
    "window_closures": ("Receive windows that closed.", ("side",)),
    "probes": ("Probes sent and received.", ("kind", "direction")),
    "retransmissions": ("Segments sent again because the retransmission timer ran out.", ()),
    "notices": ("What was told of, by event.action.", ("action",)),
    "events": ("Kernel events taken in.", ()),
    "events_lost": ("What could not be recorded, by where it was lost and of what kind.", ("where", "kind")),
}
_AT_ZERO: Final[Mapping[str, Sequence[tuple[str, ...]]]] = {
    "window_closures": [("local",), ("peer",)],
    "probes": [(kind, way) for kind in ("keepalive", "zero-window") for way in ("sent", "received")],
    "retransmissions": [()],
    "events": [()],
    "events_lost": [*(("ring_buffer", kind) for kind in KIND_NAMES[1:]), ("table_full", "tracks")],
}
"""Series that are there before anything is counted, so that the first rise is one for rate() and increase()."""

Labels = tuple[str, ...]


class Metrics(Collector):
    """An output that counts; the scraper's thread reads it through `collect`, always whole screens.

    `lost_by` tells how many records each other export has lost so far.
    """

    draws = True

    def __init__(self, lost_by: Mapping[str, Callable[[], int]] | None = None) -> None:
        self._lost_by = dict(lost_by or {})
        self._lock = threading.Lock()
        self._counts: dict[str, dict[Labels, float]] = {
            name: defaultdict(float, dict.fromkeys(_AT_ZERO.get(name, ()), 0.0)) for name in _COUNTERS
        }
        self._screen: Screen | None = None
        self._drawn_ns: int | None = None
        self._stalls = _Stalls()
        self._programs: dict[str, str] = {}
        self._tracepoints = {"attached": 0, "missing": 0}

    def start(self, ns: int, facts: Mapping[str, Any]) -> None:
        """How much of the kernel is watched."""
        with self._lock:
            self._drawn_ns = ns
            self._tracepoints = {name: len(facts.get(name, ())) for name in self._tracepoints}

    def take(self, notices: Sequence[Notice]) -> None:
        """Counts."""
        if notices:
            with self._lock:
                for notice in notices:
                    self._count(notice)

    def draw(self, screen: Screen) -> None:
        """How things are now; the time since the last screen is stalled time of what is stalled."""
        with self._lock:
            since = 0.0 if self._drawn_ns is None else (screen.ns - self._drawn_ns) / 1e9
            for one, stalled_s in _stalled(screen):
                self._counts["stalled_seconds"][self._slow(one)] += min(since, stalled_s)
            self._counts["events"][()] = screen.events
            self._screen, self._drawn_ns = screen, screen.ns

    def end(self, ns: int, totals: Mapping[str, Any]) -> None:
        """Nothing: a scraper sees the target go."""

    def describe(self) -> Iterator[Metric]:
        """The metrics without values, which the registry asks for their names."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        with self._lock:
            counts = {name: dict(values) for name, values in self._counts.items()}
            gauges = [*self._gauges()]
            stalls = self._stalls.histogram()
        yield InfoMetricFamily(
            "tcptrace_build",
            "What runs here.",
            {"version": __version__, "schema": str(SCHEMA), "kernel": printable(platform.release())},
        )
        for name, (text, labels) in _COUNTERS.items():
            yield _family(CounterMetricFamily, name, text, labels, counts[name])
        yield from gauges
        yield stalls
        lost: dict[Labels, float] = {(name,): total() for name, total in self._lost_by.items()}
        yield _family(CounterMetricFamily, "export_lost", "Records that an export could not deliver.", ("export",), lost)

    def _gauges(self) -> Iterator[Metric]:
        screen = self._screen
        attached: dict[Labels, float] = {(state,): number for state, number in self._tracepoints.items()}
        yield _family(GaugeMetricFamily, "tracepoints", "Kernel tracepoints by state.", ("state",), attached)
        by_phase: dict[Labels, float] = {(phase.value,): screen.by_phase.get(phase, 0) if screen else 0 for phase in _LIVE}
        yield _family(GaugeMetricFamily, "connections", "Connections now, by phase.", ("phase",), by_phase)
        stalled: dict[Labels, float] = defaultdict(float)
        longest = 0.0
        for one, stalled_s in _stalled(screen) if screen else ():
            stalled[self._slow(one)] += 1
            longest = max(longest, stalled_s)
        text = "Connections with a closed window now, by whose it is and its program."
        yield _family(GaugeMetricFamily, "stalled_connections", text, ("side", "program"), stalled)
        text = "How long the window that has been closed longest has been so; 0 if all are open."
        yield _family(GaugeMetricFamily, "longest_stall_seconds", text, (), {(): longest})
        if screen is not None and screen.scan_s is not None:
            text = "How long the last look at all sockets took."
            yield _family(GaugeMetricFamily, "scan_duration_seconds", text, (), {(): screen.scan_s})

    def _count(self, notice: Notice) -> None:
        self._counts["notices"][notice.action,] += 1
        self._stalls.take(notice)
        if notice.action == "window-closed" and notice.window_side:
            self._counts["window_closures"][notice.window_side,] += 1
        elif notice.action in ("probe-sent", "probe-received") and notice.probe_kind:
            self._counts["probes"][notice.probe_kind, notice.action.removeprefix("probe-")] += 1
        elif notice.action == "retransmitted":
            self._counts["retransmissions"][()] += 1
        elif notice.action == "events-lost":
            for where, kinds in notice.lost.items():
                for kind, total in kinds.items():
                    self._counts["events_lost"][where, kind] = total
        if notice.reset is not None:
            owner = notice.connection.owner.name if notice.connection else None
            self._counts["resets"][notice.reset.cause, notice.reset.direction or "none", self._program(owner)] += 1

    def _slow(self, connection: ConnectionView) -> Labels:
        reader = connection.verdict.slow_reader
        return reader.side, self._program(reader.name)

    def _program(self, name: str | None) -> str:
        if not name:
            return "unknown"
        known = self._programs.get(name)
        if known is None:
            if len(self._programs) >= PROGRAMS:
                return "other"
            known = self._programs[name] = printable(name)[:NAME_AT_MOST]
        return known


class _Stalls:
    """How long windows stayed closed, once they open or their connection ends."""

    def __init__(self) -> None:
        self._since: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._buckets = [0] * (len(STALL_BUCKETS) + 1)
        self._sum = 0.0

    def take(self, notice: Notice) -> None:
        connection, side = notice.connection, notice.window_side
        if connection is None:
            return
        if notice.action == "window-closed" and side:
            self._closed(connection, side, notice.ns)
        elif notice.action == "window-opened" and side:
            sides = self._since.get(connection.id, {})
            self._opened(sides.pop(side, None), notice.ns)
            if not sides:
                self._since.pop(connection.id, None)
        elif notice.action == "connection-closed":
            for since in self._since.pop(connection.id, {}).values():
                self._opened(since, notice.ns)

    def _closed(self, connection: ConnectionView, side: str, ns: int) -> None:
        sides = self._since[connection.id]
        # one that was closed before anybody looked is told of late, but its verdict knows
        earlier = connection.verdict.stalled_s if not sides else None
        sides[side] = ns - round((earlier or 0.0) * 1e9)
        if len(self._since) > STALLS_AT_MOST:
            del self._since[next(iter(self._since))]

    def _opened(self, since: int | None, ns: int) -> None:
        seconds = -1.0 if since is None else (ns - since) / 1e9
        if seconds >= STALL_S:
            self._buckets[bisect_left(STALL_BUCKETS, seconds)] += 1
            self._sum += seconds

    def histogram(self) -> HistogramMetricFamily:
        total, buckets = 0, []
        for bound, number in zip((*map(str, STALL_BUCKETS), "+Inf"), self._buckets, strict=True):
            total += number
            buckets.append((bound, float(total)))
        return HistogramMetricFamily("tcptrace_stall_seconds", "How long stalls lasted that are over.", buckets, self._sum)


def _stalled(screen: Screen) -> Iterator[tuple[ConnectionView, float]]:
    """The connections with a closed window, and for how long; not those where that is but a flicker."""
    for one in screen.connections:
        if one.verdict.stalled_s and one.verdict.phase is not Phase.OK:
            yield one, one.verdict.stalled_s


def _family(
    kind: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    text: str,
    labels: Labels,
    values: Mapping[Labels, float],
) -> Metric:
    family = kind(f"tcptrace_{name}", text, labels=labels)
    for value_labels, value in values.items():
        family.add_metric(value_labels, value)
    return family
