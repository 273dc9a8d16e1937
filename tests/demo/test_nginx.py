"""nginx's error log: the line of the incident, the others that nginx writes, and lines that a client has had a hand in."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.demo.nginx import NginxError, parse
from tracer.text import printable

WHEN = "2024/05/17 09:41:07"
SERVED = (
    'client: 172.28.25.222, server: localhost, request: "GET /ws/358/ab12/websocket HTTP/1.1",'
    ' upstream: "http://172.28.72.77:8899/ws/358/ab12/websocket", host: "172.28.72.114:8443"'
)
RESET = "send() failed (104: Connection reset by peer) while proxying upgraded connection"


def line(message: str, served: str = SERVED, *, when: str = WHEN, level: str = "error") -> str:
    return f"{when} [{level}] 13308#13308: *5 {message}, {served}"


def parsed(text: str) -> NginxError:
    found = parse(text)
    assert found is not None
    return found


def test_the_line_of_the_incident() -> None:
    found = parsed(line(RESET))
    assert (found.errno, found.client, found.message) == (104, "172.28.25.222", RESET)
    assert time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(found.epoch_s)) == WHEN
    assert found.line == line(RESET)


@pytest.mark.parametrize(
    ("message", "level", "errno"),
    [
        ("recv() failed (104: Connection reset by peer) while proxying upgraded connection", "info", 104),
        ("client timed out (110: Connection timed out) while proxying upgraded connection", "info", 110),
        ("upstream prematurely closed connection while reading response header from upstream", "error", None),
        ("connect() failed (111: Connection refused) while connecting to upstream", "error", 111),
    ],
)
def test_other_lines_about_a_client(message: str, level: str, errno: int | None) -> None:
    found = parsed(line(message, level=level))
    assert (found.errno, found.client, found.message) == (errno, "172.28.25.222", message)


def test_a_client_may_have_an_ipv6_address_or_a_unix_socket() -> None:
    assert parsed(line(RESET, "client: 2001:db8::1, server: localhost")).client == "2001:db8::1"
    assert parsed(line(RESET, "client: unix:, server: localhost")).client == "unix:"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nginx: [emerg] bind() to 0.0.0.0:8443 failed (98: Address already in use)",
        f'{WHEN} [notice] 13308#13308: using the "epoll" event method',
        f"{WHEN} [emerg] 13308#13308: bind() to 0.0.0.0:8443 failed (98: Address already in use)",
        f"{WHEN} [info] 13308#13308: *5 {RESET}",
        f"{WHEN} [info] 13308#13308: *5 {RESET}, client: 172.28.25.222",
        f" {line(RESET)}",
        f"{WHEN} [error] 13308: *5 {RESET}, {SERVED}",
        line(RESET, when="2024/13/17 09:41:07"),
        line(RESET, when="2024/02/30 09:41:07"),
        line(RESET, when="0000/05/17 09:41:07"),
        line(RESET, when="2024/05/17 25:41:07"),
        line(RESET, when="2024-05-17T09:41:07"),
    ],
)
def test_any_other_line_tells_nothing_of_a_client(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    "path",
    [
        "GET /, client: 6.6.6.6, server: x HTTP/1.1",
        'GET /" (110: Connection timed out), client: 6.6.6.6, "',
        rf"GET /\x0a{WHEN} [error] 1#1: *9 send() failed (32: Broken pipe), client: 6.6.6.6, HTTP/1.1",
    ],
)
def test_what_a_client_asked_for_does_not_make_it_another(path: str) -> None:
    found = parsed(line(RESET, f'client: 172.28.25.222, server: localhost, request: "{path}"'))
    assert (found.errno, found.client) == (104, "172.28.25.222")


def test_an_error_number_that_a_client_asked_for_is_none() -> None:
    assert parsed(line("client closed connection", 'client: ::1, server: x, request: "GET /(104: HTTP/1.1"')).errno is None


def test_a_line_break_that_a_client_sent_is_no_line() -> None:
    forged = f"{WHEN} [error] 1#1: *9 {RESET}, client: 6.6.6.6, server: x"
    assert parse(printable(f'oops, no client here: "GET /\r{forged}"'.encode())) is None


@given(st.binary() | st.text("0123456789/: [](),*#clientrou\x1b\xff").map(str.encode))
def test_no_bytes_upset_it(raw: bytes) -> None:
    assert parse(printable(raw)) is None


@given(st.text(st.characters(codec="utf-8"), max_size=500), st.from_regex(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d", fullmatch=True))
def test_no_message_and_no_time_upset_it(message: str, when: str) -> None:
    found = parse(printable(line(message, when=when)))
    assert found is None or (found.client and isinstance(found.epoch_s, float))
