"""--otlp and --metrics: how they are written, what a user gets for a mistake, and the real things at the other end."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import pytest

from tests.builders import START
from tests.lab import hosts
from tests.lab.actor import Actor, actor, connect, fill
from tests.lab.prometheus import Prometheus, free_port, scraping
from tests.lab.receiver import receiving
from tests.lab.trace import ROOT, Event, tcptrace, watching
from tests.views import NOW, reset_notice, screen
from tracer import __version__
from tracer.cli import exports
from tracer.cli.exports import Address, Listen, OtlpUrl
from tracer.cli.output import Several
from tracer.errors import MISSING_PRECONDITION, TcptraceError
from tracer.export.otlp import known

PORT: Final = 7843
RULES: Final = ROOT / "docs" / "prometheus-alerts.yml"
DASHBOARD: Final = ROOT / "docs" / "grafana-dashboard.json"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("9095", ("127.0.0.1", 9095)),
        (":9095", ("127.0.0.1", 9095)),
        ("localhost:9095", ("127.0.0.1", 9095)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:65535", ("::1", 65535)),
        ("[::]:1", ("::", 1)),
    ],
)
def test_where_metrics_are_served(written: str, meant: tuple[str, int]) -> None:
    assert Listen().convert(written, None, None) == meant


@pytest.mark.parametrize(
    "written",
    [
        "",
        ":",
        "-1",
        "+1",
        "1e3",
        "٣",
        "1" * 5000,
        "[127.0.0.1",
        "[::1]",
        "a\x1b[2Jb:1",
        "1.2.3:1",
        "[fe80::1%\x1b[2J]:1",
        "0" * 5000 + "1",
    ],
)
def test_where_metrics_cannot_be_served(written: str) -> None:
    with pytest.raises(click.BadParameter) as raised:
        Listen().convert(written, None, None)
    assert raised.value.message.isprintable()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/logs"),
        ("http://[::1]:4318/", "http://[::1]:4318/v1/logs"),
        ("https://collector.example/otlp/v1/logs", "https://collector.example/otlp/v1/logs"),
        ("http://u:p@h?tenant=a", "http://u:p@h/v1/logs?tenant=a"),
    ],
)
def test_where_records_are_sent(written: str, meant: str) -> None:
    assert OtlpUrl().convert(written, None, None) == meant


@pytest.mark.parametrize(
    "written", ["", "h", "//h", "http:h", "http://h:x", "http://h:0", "http://a b", "http://h\x1b[2J", "file:///x"]
)
def test_where_records_cannot_be_sent(written: str) -> None:
    with pytest.raises(click.BadParameter) as raised:
        OtlpUrl().convert(written, None, None)
    assert raised.value.message.isprintable()


def test_nothing_is_opened_or_imported_that_nobody_asked_for() -> None:
    program = (
        "import sys; from tracer.cli import exports, watch, session\n"
        "with exports.opened(None, None) as outputs: assert outputs == []\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('opentelemetry', 'prometheus_client')])"
    )
    done = subprocess.run([*tcptrace()[:1], "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("module", "arguments", "extra", "libraries"),
    [
        ("prometheus_client", ["--metrics", "9095"], "metrics", "prometheus-client"),
        ("opentelemetry", ["--otlp", "http://h"], "otlp", "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"),
    ],
)
def test_an_extra_that_is_not_installed_is_told(
    tmp_path: Path, module: str, arguments: list[str], extra: str, libraries: str
) -> None:
    (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError('No module named {module}')")
    done = run(*arguments, PYTHONPATH=str(tmp_path))
    cause = f"{arguments[0]} needs a library that is not here, or is too old: No module named {module}"
    assert (done.returncode, done.stdout) == (MISSING_PRECONDITION, "")
    pip = f"`{tcptrace()[0]} -m pip install {libraries}`"
    assert done.stderr == f"tcptrace: {cause}\n  `sudo scripts/install --with {extra}` in a checkout, or {pip}\n"


def test_a_port_in_use_is_told_before_anything_is_traced() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run("--metrics", str(port))
    assert (done.returncode, done.stdout) == (MISSING_PRECONDITION, "")
    assert done.stderr == (
        f"tcptrace: metrics cannot be served at 127.0.0.1:{port}: Address already in use\n"
        f"  give --metrics another port, or end what listens there: `ss -ltnp sport = {port}` names it\n"
    )


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["env", *(f"{name}={value}" for name, value in environment.items()), *tcptrace("watch", *arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, check=False)


def test_the_port_is_free_again_when_the_trace_does_not_start() -> None:
    port = free_port()
    for _ in range(2):
        with pytest.raises(TcptraceError, match="the kernel"), exports.opened(None, Address("127.0.0.1", port)):
            raise TcptraceError("the kernel refused", "run doctor")


def test_what_an_export_says_waits_while_a_table_has_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    dead = f"http://127.0.0.1:{free_port()}/v1/logs"
    with exports.opened(dead, None, quiet=True) as (sender,):
        sender.take([reset_notice()])
        sender.end(NOW, {})
        assert capsys.readouterr() == ("", "")
    assert f"tcptrace: 2 of 2 log records did not arrive at {dead}" in capsys.readouterr().err


class Spy:
    """Notes what it is told; its end may fail."""

    draws = True

    def __init__(self, error: Exception | None = None) -> None:
        self.told: list[str] = []
        self._error = error

    def start(self, ns: int, facts: Any) -> None:
        self.told.append("start")

    def take(self, notices: Any) -> None:
        self.told.append("take")

    def draw(self, screen: Any) -> None:
        self.told.append("draw")

    def end(self, ns: int, totals: Any) -> None:
        self.told.append("end")
        if self._error:
            raise self._error


def test_several_outputs_get_the_same_and_all_end_though_one_fails() -> None:
    first, second = Spy(BrokenPipeError()), Spy()
    several = Several(first, second)
    several.start(START, {})
    several.take([reset_notice()])
    several.draw(screen())
    with pytest.raises(BrokenPipeError):
        several.end(NOW, {})
    assert first.told == second.told == ["start", "take", "draw", "end"]


class Lab:
    """A client that sends and a server that does not read, each on a host of its own."""

    def __init__(self, client: Actor, server: Actor, ip: str) -> None:
        self.client, self.server, self._ip = client, server, ip

    def stall(self) -> None:
        """Both buffers full."""
        connect(self.client, self.server, self._ip, PORT, rcvbuf=32768, sndbuf=32768)
        self.client.do("s.send(b'hello')")
        self.server.do("s.recv(5)", thread="slow-reader")
        fill(self.client)

    def reset(self) -> None:
        """The server closes without having read."""
        self.server.do("s.close()")


@pytest.fixture
def lab() -> Iterator[Lab]:
    with hosts.pair() as (here, there), actor(here, "lab-client") as client, actor(there, "lab-server") as server:
        yield Lab(client, server, there.ip)


def expressions() -> list[str]:
    """Every expression of the dashboard, as Grafana would send it."""
    board = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    for variable, value in (("$__rate_interval", "5s"), ("$__range", "1m"), ("$instance", ".*"), ("$job", "tcptrace")):
        found = [one.replace(variable, value) for one in found]
    return found


@pytest.mark.kernel
@pytest.mark.slow
def test_a_real_prometheus_scrapes_a_real_stall_and_its_reset(lab: Lab, tmp_path: Path) -> None:
    port = free_port()
    with (
        watching("--port", str(PORT), "--interval", "0.5", "--metrics", str(port)) as trace,
        scraping(port, RULES, tmp_path) as prometheus,
    ):
        lab.stall()
        trace.wait("verdict-changed", where=lambda one: one["tcptrace"]["verdict"]["phase"] == "stalled")
        prometheus.wait('tcptrace_connections{phase="stalled"} == 2')
        stalled = {
            labels["side"]: (labels["program"], value) for labels, value in prometheus.query("tcptrace_stalled_connections")
        }
        assert stalled == {"local": ("lab-server", 1), "peer": ("lab-server", 1)}
        prometheus.wait("tcptrace_longest_stall_seconds > 2")
        prometheus.wait("sum(rate(tcptrace_stalled_seconds_total[3s])) > 1.5")
        lab.reset()
        prometheus.wait("tcptrace_stall_seconds_count == 2")
        prometheus.wait("sum(tcptrace_connections{phase!='ok'}) == 0")
        resets = {
            tuple(labels[name] for name in ("cause", "direction", "program")): value for labels, value in resets_of(prometheus)
        }
        cause = "close-with-unread-data"
        assert resets == {(cause, "sent", "lab-server"): 1, (cause, "received", "lab-client"): 1}
        assert counted(prometheus, "tcptrace_notices_total", "action") == by_action(trace.of())
        assert sum(value for _, value in prometheus.query("tcptrace_events_lost_total")) == 0
        ((build, _),) = prometheus.query("tcptrace_build_info")
        assert build["version"] == __version__ and build["job"] == "tcptrace"
        assert rules_are_healthy(prometheus)
        for one in expressions():
            if re.search(r"lost_total.*\[5s\]", one):
                assert not prometheus.query(one)  # nothing is lost, and there is no other export
            else:
                prometheus.wait(one)
        alerts = {one["labels"]["alertname"] for one in prometheus.get("/api/v1/alerts")["alerts"]}
        assert alerts == {"TcpResets"}


def resets_of(prometheus: Prometheus) -> list[tuple[dict[str, str], float]]:
    return prometheus.wait("tcptrace_resets_total")


def counted(prometheus: Prometheus, name: str, label: str) -> dict[str, float]:
    return {labels[label]: value for labels, value in prometheus.query(name)}


def by_action(events: list[Event]) -> dict[str, float]:
    """What the stream told of, without its own beginning."""
    actions = [one["event"]["action"] for one in events if not one["event"]["action"].startswith("stream-")]
    return {action: actions.count(action) for action in actions}


def rules_are_healthy(prometheus: Prometheus) -> bool:
    (group,) = prometheus.get("/api/v1/rules")["groups"]
    deadline = time.monotonic() + 5
    while any(rule["health"] == "unknown" for rule in group["rules"]) and time.monotonic() < deadline:
        time.sleep(0.2)
        (group,) = prometheus.get("/api/v1/rules")["groups"]
    return len(group["rules"]) == len(re.findall("- alert:", RULES.read_text())) and {r["health"] for r in group["rules"]} == {
        "ok"
    }


@pytest.mark.kernel
@pytest.mark.slow
def test_a_receiver_gets_what_the_stream_says(lab: Lab) -> None:
    with receiving() as receiver:
        with watching("--port", str(PORT), "--otlp", receiver.url) as trace:
            lab.stall()
            trace.wait("verdict-changed", where=lambda one: one["tcptrace"]["verdict"]["phase"] == "stalled")
            lab.reset()
            trace.wait("reset-received")
            reset = receiver.wait("tcptrace.reset-sent")
        lines = trace.of()
    assert [log.event_name.removeprefix("tcptrace.") for log in receiver.logs] == [one["event"]["action"] for one in lines]
    for line, log in zip(lines, receiver.logs, strict=True):
        del line["arrived"]
        line["tcptrace"].pop("sample", None)  # what a recording has beside
        assert timeless(log.body) == timeless(known(line))
    assert reset.attributes["network.local.port"] == PORT
    assert reset.attributes["network.peer.address"].startswith("198.18.")
    assert reset.attributes["process.pid"] == lab.server.pid
    assert reset.attributes["process.executable.name"].startswith("python")
    assert reset.attributes["error.type"] == "close-with-unread-data"
    assert reset.severity == (13, "WARN")
    assert abs(reset.time_ns - time.time_ns()) < 60e9


def timeless(found: Any) -> Any:
    """Without the times: two readers of the clock differ by microseconds."""
    if isinstance(found, dict):
        return {
            name: timeless(value)
            for name, value in found.items()
            if name not in ("@timestamp", "since", "at", "clock_offset_ns")
        }
    return [timeless(one) for one in found] if isinstance(found, list) else found


@pytest.mark.kernel
def test_a_dead_receiver_delays_neither_the_start_nor_the_end() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    started = time.monotonic()
    done = run("--json", "--duration", "1", "--port", str(PORT), "--otlp", url)
    assert time.monotonic() - started < 6
    first, *_, last = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, first["event"]["action"], last["event"]["action"]) == (0, "stream-started", "stream-ended")
    said = done.stderr.splitlines()
    assert len(said) <= 2 and all(line.startswith("tcptrace: ") for line in said)
    assert f"log records did not arrive at {url}/v1/logs" in said[-1] and "refused" in said[0]


@pytest.mark.kernel
def test_metrics_beside_lines_of_text() -> None:
    port = free_port()
    with subprocess.Popen(
        tcptrace("watch", "--port", str(PORT), "--metrics", f"[::1]:{port}", "--duration", "3"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        text = scrape(f"http://[::1]:{port}/metrics")
        assert 'tcptrace_tracepoints{state="missing"} 0.0' in text
        assert child.communicate(timeout=20) == ("", "") and child.returncode == 0


def scrape(url: str) -> str:
    """What is served there once anything is, and all is attached."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                text = str(answer.read(), "utf-8")
        except OSError:
            text = ""
        if "tcptrace_scan_duration_seconds" in text:
            return text
        time.sleep(0.1)
    raise AssertionError(f"nothing at {url}")
