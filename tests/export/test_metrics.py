"""Metrics as a scraper gets them: what counts what, and that no traffic makes them grow beyond their bounds."""

from __future__ import annotations

import re
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import parser as untyped_parser

from tests.builders import SECOND, START
from tests.views import NOW, RESET, proxied, reset_notice, screen, verdict, view
from tracer import __version__
from tracer.export.metrics import NAME_AT_MOST, PROGRAMS, STALLS_AT_MOST, Metrics
from tracer.model.findings import Notice, Owner, Phase, ResetView, SlowReader

parser: Any = untyped_parser
ROOT = Path(__file__).resolve().parents[2]
FACTS: dict[str, Any] = {"attached": ["tcp_probe", "tcp_send_reset"], "missing": {"tcp_receive_reset": "the kernel has none"}}


class Scraped:
    """Metrics, and what a scrape of them says."""

    def __init__(self, **lost_by: int) -> None:
        self.metrics = Metrics({name: partial(int, number) for name, number in lost_by.items()})
        self._registry = CollectorRegistry()
        self._registry.register(self.metrics)
        self.metrics.start(START, FACTS)

    def text(self) -> str:
        return generate_latest(self._registry).decode()

    def samples(self, name: str = "tcptrace_") -> dict[tuple[str, ...], float]:
        """Value by name and labels (by the labels' names) of all series whose name begins so."""
        found = {}
        for family in parser.text_string_to_metric_families(self.text()):
            for sample in family.samples:
                if sample.name.startswith(name):
                    key = (sample.name, *(f"{label}={value}" for label, value in sorted(sample.labels.items())))
                    assert key not in found
                    found[key] = sample.value
        return found

    def value(self, name: str, **labels: str) -> float:
        key = (name, *(f"{label}={value}" for label, value in sorted(labels.items())))
        return self.samples(name)[key]


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


def closed(ns: int, side: Any = "local", number: int = 1, **values: Any) -> Notice:
    fields = {"id": f"c{number}", "verdict": verdict(phase=Phase.OK, stalled_s=0.0)} | values
    return Notice("window-closed", ns, view(**fields), window_side=side)


def opened(ns: int, side: Any = "local", number: int = 1) -> Notice:
    return Notice("window-opened", ns, view(id=f"c{number}", verdict=verdict(phase=Phase.OK, stalled_s=None)), window_side=side)


def test_the_connections_are_those_of_the_screen(scraped: Scraped) -> None:
    backlogged = view(id="c3", verdict=verdict(phase=Phase.BACKLOGGED, stalled_s=None))
    scraped.metrics.draw(screen(view(), proxied(), backlogged, scan_s=0.25))
    assert scraped.samples("tcptrace_connections") == {
        ("tcptrace_connections", "phase=ok"): 1204,
        ("tcptrace_connections", "phase=backlogged"): 1,
        ("tcptrace_connections", "phase=stalled"): 2,
        ("tcptrace_connections", "phase=unanswered"): 0,
    }
    assert scraped.samples("tcptrace_stalled_connections") == {
        ("tcptrace_stalled_connections", "program=java", "side=local"): 1,
        ("tcptrace_stalled_connections", "program=unknown", "side=peer"): 1,
    }
    assert scraped.value("tcptrace_longest_stall_seconds") == 43
    assert scraped.value("tcptrace_scan_duration_seconds") == 0.25
    assert scraped.value("tcptrace_events_total") == 1234
    scraped.metrics.draw(screen())
    assert scraped.samples("tcptrace_stalled_connections") == {}
    assert scraped.value("tcptrace_longest_stall_seconds") == 0


def test_stalled_time_is_what_passed_between_screens(scraped: Scraped) -> None:
    scraped.metrics.draw(screen(view(), ns=START))
    assert scraped.samples("tcptrace_stalled_seconds") == {("tcptrace_stalled_seconds_total", "program=java", "side=local"): 0}
    for second in (1, 2):
        scraped.metrics.draw(screen(view(), view(id="c2"), ns=START + second * SECOND))
    assert scraped.value("tcptrace_stalled_seconds_total", program="java", side="local") == 4
    # one that began between the screens, and one that is too short to be a stall
    young = view(verdict=verdict(stalled_s=0.25))
    flicker = view(id="c2", verdict=verdict(phase=Phase.OK, stalled_s=0.1))
    scraped.metrics.draw(screen(young, flicker, ns=START + 3 * SECOND))
    assert scraped.value("tcptrace_stalled_seconds_total", program="java", side="local") == 4.25
    assert scraped.value("tcptrace_longest_stall_seconds") == 0.25


def test_a_stall_is_measured_from_its_beginning_to_its_end(scraped: Scraped) -> None:
    scraped.metrics.take([closed(START), closed(START + SECOND, "peer"), closed(START, number=2), closed(START, number=3)])
    assert scraped.value("tcptrace_stall_seconds_count") == 0
    scraped.metrics.take([opened(START + SECOND // 10, number=2)])  # a flicker
    scraped.metrics.take([opened(START + 4 * SECOND)])
    scraped.metrics.take([Notice("connection-closed", START + 91 * SECOND, view())])
    assert scraped.value("tcptrace_stall_seconds_count") == 2
    assert scraped.value("tcptrace_stall_seconds_sum") == 4 + 90
    assert scraped.value("tcptrace_stall_seconds_bucket", le="2.5") == 0
    assert scraped.value("tcptrace_stall_seconds_bucket", le="5.0") == 1
    assert scraped.value("tcptrace_stall_seconds_bucket", le="120.0") == 2
    assert scraped.value("tcptrace_stall_seconds_bucket", le="+Inf") == 2
    scraped.metrics.take([opened(START + 99 * SECOND)])  # told twice
    assert scraped.value("tcptrace_stall_seconds_count") == 2


def test_a_stall_that_was_there_before_is_measured_from_when_it_began(scraped: Scraped) -> None:
    scraped.metrics.take([closed(START, verdict=verdict(stalled_s=30.0)), opened(START + SECOND)])
    assert scraped.value("tcptrace_stall_seconds_sum") == 31


def test_resets_by_cause_direction_and_program(scraped: Scraped) -> None:
    gave_up = ResetView(None, "keepalive-timeout", None, "inferred", 0, 0)
    nowhere = ResetView("sent", "no-socket", "NO_SOCKET", "kernel", None, None)
    scraped.metrics.take(
        [
            reset_notice(),
            reset_notice(),
            Notice("connection-closed", NOW, view(reset=RESET)),  # the end of the first, told once already
            Notice("connection-closed", NOW, view(reset=gave_up, owner=Owner()), reset=gave_up),
            Notice("reset-sent", NOW, reset=nowhere),
        ]
    )
    assert scraped.samples("tcptrace_resets") == {
        ("tcptrace_resets_total", "cause=close-with-unread-data", "direction=sent", "program=java"): 2,
        ("tcptrace_resets_total", "cause=keepalive-timeout", "direction=none", "program=unknown"): 1,
        ("tcptrace_resets_total", "cause=no-socket", "direction=sent", "program=unknown"): 1,
    }


def test_what_else_happens_is_counted(scraped: Scraped) -> None:
    before = scraped.samples("tcptrace_probes")
    assert set(before.values()) == {0} and len(before) == 4
    scraped.metrics.take(
        [
            closed(START),
            closed(START, "peer"),
            Notice("probe-sent", START, view(), probe_kind="zero-window", probe_number=1),
            Notice("probe-sent", START, view(), probe_kind="zero-window", probe_number=2),
            Notice("probe-received", START, view(), probe_kind="keepalive"),
            Notice("retransmitted", START, view()),
        ]
    )
    assert scraped.value("tcptrace_window_closures_total", side="local") == 1
    assert scraped.value("tcptrace_window_closures_total", side="peer") == 1
    assert scraped.value("tcptrace_probes_total", kind="zero-window", direction="sent") == 2
    assert scraped.value("tcptrace_probes_total", kind="zero-window", direction="received") == 0
    assert scraped.value("tcptrace_probes_total", kind="keepalive", direction="received") == 1
    assert scraped.value("tcptrace_retransmissions_total") == 1
    assert scraped.value("tcptrace_notices_total", action="probe-sent") == 2


def test_losses_are_there_before_any_and_are_totals() -> None:
    scraped = Scraped(otlp=7)
    assert set(scraped.samples("tcptrace_events_lost").values()) == {0}
    for number in (3, 5):
        lost = {"ring_buffer": {"window": number, "read": 2}, "table_full": {"tracks": 1}}
        scraped.metrics.take([Notice("events-lost", START, lost=lost)])
    risen = {key[1:]: value for key, value in scraped.samples("tcptrace_events_lost").items() if value}
    assert risen == {
        ("kind=window", "where=ring_buffer"): 5,
        ("kind=read", "where=ring_buffer"): 2,
        ("kind=tracks", "where=table_full"): 1,
    }
    assert scraped.value("tcptrace_export_lost_total", export="otlp") == 7


def test_what_runs_here(scraped: Scraped) -> None:
    ((name, kernel, schema, version),) = scraped.samples("tcptrace_build")
    assert (name, schema, version) == ("tcptrace_build_info", "schema=1", f"version={__version__}")
    assert re.match(r"kernel=\d", kernel)
    assert scraped.value("tcptrace_tracepoints", state="attached") == 2
    assert scraped.value("tcptrace_tracepoints", state="missing") == 1


def test_programs_and_peers_without_end_make_no_series_without_end(scraped: Scraped) -> None:
    for number in range(1000):
        owner = Owner("fd", number, f"p{number}")
        reader = SlowReader("local", f"10.0.{number % 250}.1", number, number, f"q{number}")
        one = view(id=f"c{number}", owner=owner, verdict=verdict(slow_reader=reader))
        scraped.metrics.take([reset_notice(connection=one)])
        scraped.metrics.draw(screen(one, ns=START + number * SECOND))
    resets = scraped.samples("tcptrace_resets")
    programs = {key[3] for key in resets}
    assert len(programs) == PROGRAMS // 2 + 1  # half the names were readers'
    assert sum(resets.values()) == 1000
    assert resets["tcptrace_resets_total", "cause=close-with-unread-data", "direction=sent", "program=other"] == 975
    assert len(scraped.samples("tcptrace_stalled_seconds")) == PROGRAMS // 2 + 1
    assert len(scraped.text()) < 20_000


def test_closed_windows_that_nobody_hears_of_again_are_forgotten(scraped: Scraped) -> None:
    for number in range(STALLS_AT_MOST + 10):
        scraped.metrics.take([closed(START, number=number)])
    assert len(scraped.metrics._stalls._since) == STALLS_AT_MOST
    scraped.metrics.take([opened(START + SECOND, number=number) for number in range(STALLS_AT_MOST + 10)])
    assert scraped.value("tcptrace_stall_seconds_count") == STALLS_AT_MOST
    assert not scraped.metrics._stalls._since


@pytest.mark.parametrize(
    "name",
    ['a"b', "a\\b", "a\nb", "a\x1b[31m", "\u202eevil", "\udcff", '"} 1\ntcptrace_evil 1', "é" * 1000, "other", "unknown"],
)
def test_a_process_may_call_itself_anything(scraped: Scraped, name: str) -> None:
    scraped.metrics.take([reset_notice(connection=view(owner=Owner("fd", 1, name)))])
    text = scraped.text()
    assert not re.search(r"^tcptrace_evil", text, re.MULTILINE)
    assert all(line.isprintable() for line in text.splitlines())
    ((_, _, _, program),) = scraped.samples("tcptrace_resets")
    assert len(program) <= len("program=") + NAME_AT_MOST


def test_a_scrape_while_it_counts_is_whole(scraped: Scraped) -> None:
    def count() -> None:
        for number in range(300):
            scraped.metrics.take([reset_notice(connection=view(owner=Owner("fd", 1, f"p{number % 60}"))), closed(START)])
            scraped.metrics.draw(screen(view(), view(id="c2"), ns=START + number * SECOND))

    thread = threading.Thread(target=count)
    thread.start()
    while thread.is_alive():
        notices = scraped.samples("tcptrace_notices").values()
        assert len(set(notices)) <= 1
    thread.join()


def test_each_metric_is_explained_and_nothing_else_is() -> None:
    scraped = Scraped(otlp=0)
    scraped.metrics.draw(screen(scan_s=0.1))
    exported = set(re.findall(r"^# TYPE (\w+)", scraped.text(), re.MULTILINE))
    documented = set(re.findall(r"^\| `(tcptrace_\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    assert documented == exported
