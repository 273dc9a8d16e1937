"""The server that is scraped: what it answers, whom it sends away, and why it may not start."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lab.prometheus import free_port
from tracer.errors import MISSING_PRECONDITION, TcptraceError
from tracer.export import scrape
from tracer.export.metrics import Metrics
from tracer.export.scrape import Scrapes


@pytest.fixture
def port() -> Iterator[int]:
    number = free_port()
    with Scrapes("127.0.0.1", number, Metrics()):
        yield number


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return str(answer.read(), "utf-8")


def test_a_scrape_gets_ours_and_the_process_but_no_other_metrics(port: int) -> None:
    text = get(f"http://127.0.0.1:{port}/metrics")
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    assert "tcptrace_build_info" in names and "process_resident_memory_bytes" in names
    assert {name.partition("_")[0] for name in names} == {"tcptrace", "process"}


def test_ipv6(port: int) -> None:
    number = free_port("::1")
    with Scrapes("::1", number, Metrics()):
        assert "tcptrace_build_info" in get(f"http://[::1]:{number}/metrics")


def test_the_address_is_free_again_afterwards() -> None:
    number = free_port()
    for _ in range(2):
        with Scrapes("127.0.0.1", number, Metrics()):
            get(f"http://127.0.0.1:{number}/metrics")


@pytest.mark.parametrize("sent", [b"", b"GET /", b"\xff\x00\n\n", b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n"])
def test_a_client_that_dawdles_or_babbles_keeps_nobody_waiting(
    port: int, sent: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", port)) as rude:
        rude.sendall(sent)
        started = time.monotonic()
        assert "tcptrace_build_info" in get(f"http://127.0.0.1:{port}/metrics")
        assert time.monotonic() - started < 2
    get(f"http://127.0.0.1:{port}/metrics")
    assert capfd.readouterr() == ("", "")


def test_a_client_that_says_nothing_is_sent_away(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape._Handler, "timeout", 0.2)
    with socket.create_connection(("127.0.0.1", port), 5) as silent:
        assert silent.recv(1) == b""


def test_clients_without_end_make_no_threads_without_end(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrape._Handler, "timeout", 1.0)
    silent = []
    for _ in range(scrape.ATONCE_AT_MOST):
        silent.append(socket.create_connection(("127.0.0.1", port), 5))
        time.sleep(0.02)  # the backlog of the socket is shorter than that
    with socket.create_connection(("127.0.0.1", port), 5) as late:
        late.settimeout(0.5)
        assert late.recv(1) == b""
    time.sleep(1.2)
    assert "tcptrace_build_info" in get(f"http://127.0.0.1:{port}/metrics")
    for one in silent:
        one.close()


def test_many_scrapes_one_after_the_other(port: int) -> None:
    with ThreadPoolExecutor(4) as pool:
        texts = list(pool.map(get, [f"http://127.0.0.1:{port}/metrics"] * 200))
    assert all("tcptrace_build_info" in text for text in texts)


@pytest.mark.parametrize(
    ("ip", "why", "remedy"), [("192.0.2.1", "assign", "of this host"), ("2001:db8::77", "assign", "of this host")]
)
def test_an_address_that_is_not_ours(ip: str, why: str, remedy: str) -> None:
    error = refused(ip, free_port())
    assert why in error.cause and ip in error.cause and remedy in error.remedy


def test_a_port_in_use(port: int) -> None:
    error = refused("127.0.0.1", port)
    assert error.cause == f"metrics cannot be served at 127.0.0.1:{port}: Address already in use"
    assert f"ss -ltnp sport = {port}" in error.remedy


def refused(ip: str, port: int) -> TcptraceError:
    with pytest.raises(TcptraceError) as raised, Scrapes(ip, port, Metrics()):
        pass
    assert raised.value.exit_code == MISSING_PRECONDITION
    return raised.value
