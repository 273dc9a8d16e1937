"""The filters: what a user may write, what is refused and why, and how the header says them again."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import mapped
from tracer.cli.options import HIGHEST_PORT, Cidr, Filters, PortRange, chosen
from tracer.errors import USAGE, TcptraceError
from tracer.model.connection import address
from tracer.model.selection import Selection

PAST_ANY_PID = 2**22 + 1
Network = IPv4Network | IPv6Network

ports = st.integers(1, HIGHEST_PORT)
ranges = st.tuples(ports, ports).map(lambda ends: range(min(ends), max(ends) + 1))
ipv4_networks = st.builds(lambda ip, bits: IPv4Network((ip, bits), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32))
ipv6_networks = st.builds(
    lambda ip, bits: IPv6Network((ip, bits), strict=False), st.integers(0, 2**128 - 1), st.integers(0, 128)
)
networks = ipv4_networks | ipv6_networks
nearly = st.text("0123456789-–.:/%x \n\0\x1b٣²") | st.text()


def port(text: object) -> range:
    return PortRange().convert(text, None, None)


def cidr(text: object) -> Network:
    return Cidr().convert(text, None, None)


def converted(kind: click.ParamType, text: str) -> Any:
    """What the text stands for, or the words with which it is refused."""
    try:
        return kind.convert(text, None, None)
    except click.BadParameter as error:
        return error.message


def selected(*ranges: range, pids: tuple[int, ...] = (), peers: tuple[Network, ...] = ()) -> Filters:
    return Filters(ranges, Selection(frozenset(pids), peers))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("443", range(443, 444)),
        ("0443", range(443, 444)),
        ("1", range(1, 2)),
        ("65535", range(65535, 65536)),
        ("8000-8100", range(8000, 8101)),
        ("443-443", range(443, 444)),
        ("1-65535", range(1, 65536)),
    ],
)
def test_a_port_or_a_range_with_both_its_ends(text: str, expected: range) -> None:
    assert port(text) == expected


@pytest.mark.parametrize(
    "text", ["", "-", "https", "443-", "-443", "1-2-3", "4 43", "+443", "4_43", "1.5", "0x1bb", "٤٤٣", "²"]
)
def test_what_is_no_port_is_named_with_an_example_of_one(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is neither a port nor a range such as 8000-8100") as raised:
        port(text)
    assert repr(text) in raised.value.message


@pytest.mark.parametrize("text", ["0", "65536", "0-443", "443-65536", "99999999999999999999"])
def test_ports_go_from_1_to_65535(text: str) -> None:
    with pytest.raises(click.BadParameter, match=f"{text} is out of range: ports go from 1 to 65535"):
        port(text)


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="8100-8000 ends before it begins"):
        port("8100-8000")


@pytest.mark.parametrize("text", ["1" * 5000, "1-" + "1" * 5000])
def test_a_number_of_any_length_is_only_out_of_range(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is out of range"):
        port(text)


@given(nearly)
def test_any_text_is_a_range_of_ports_or_refused_in_printable_words(text: str) -> None:
    found = converted(PortRange(), text)
    assert found.isprintable() if isinstance(found, str) else 1 <= found.start < found.stop <= HIGHEST_PORT + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("2001:db8::1/32", "2001:db8::/32"),
    ],
)
def test_an_address_or_the_network_that_it_is_in(text: str, expected: str) -> None:
    assert cidr(text) == ip_network(expected)


@pytest.mark.parametrize(
    "text", ["", "localhost", "10.0.0", "10", "10.0.0.0/33", "10.0.0.0/", "256.0.0.1", "::/129", "1::2::3", " ::1"]
)
def test_what_is_no_network_is_named_with_an_example_of_one(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is neither an address nor a network such as 10\.0\.0\.0/8") as raised:
        cidr(text)
    assert repr(text) in raised.value.message


@given(nearly)
def test_any_text_is_a_network_or_refused_in_printable_words(text: str) -> None:
    found = converted(Cidr(), text)
    assert not isinstance(found, str) or found.isprintable()


@pytest.mark.parametrize("text", ["fe80::1%eth0", "fe80::%\x1b[31m/64"])
def test_a_zone_is_refused_for_the_kernel_has_none_in_an_address(text: str) -> None:
    with pytest.raises(click.BadParameter):
        cidr(text)


@pytest.mark.parametrize("text", ["::ffff:10.0.0.9", "::ffff:10.0.0.0/104"])
def test_a_peer_may_be_written_as_java_prints_it(text: str) -> None:
    assert Selection(peers=(cidr(text),)).wants_peer(address(mapped("10.0.0.9")))
    assert not Selection(peers=(cidr(text),)).wants_peer(address(mapped("11.0.0.9")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
        ("::/0", "::/0"),
        ("::fffe:0:0/95", "::fffe:0:0/95"),
        ("::10.0.0.9", "::10.0.0.9/128"),
    ],
)
def test_only_what_is_all_ipv4_is_taken_for_it(text: str, expected: str) -> None:
    assert cidr(text) == ip_network(expected)


def test_click_may_convert_twice() -> None:
    assert port(range(1, 3)) == range(1, 3)
    assert cidr(IPv4Network("10.0.0.0/8")) == IPv4Network("10.0.0.0/8")
    assert cidr(IPv6Network("::/0")) == IPv6Network("::/0")


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        (selected(), "all ports"),
        (selected(range(443, 444)), "port 443"),
        (selected(range(443, 444), range(8000, 8101)), "port 443, 8000-8100"),
        (selected(pids=(32278, 9)), "pid 9, 32278"),
        (selected(peers=(IPv4Network("10.0.0.0/8"), IPv6Network("2001:db8::/32"))), "peer 10.0.0.0/8, 2001:db8::/32"),
        (
            selected(range(1, 3), pids=(7,), peers=(IPv4Network("10.0.0.1"),)),
            "port 1-2, pid 7, peer 10.0.0.1/32",
        ),
    ],
)
def test_the_header_says_the_filters(filters: Filters, words: str) -> None:
    assert filters.words() == words


@given(st.lists(ranges, max_size=4), st.frozensets(st.integers(1, PAST_ANY_PID), max_size=4), st.lists(networks, max_size=4))
def test_the_words_of_filters_are_what_a_user_would_write(
    ports: list[range], pids: frozenset[int], peers: list[Network]
) -> None:
    words = Filters(tuple(ports), Selection(pids, tuple(peers))).words()
    said: dict[str, list[str]] = {}
    name = ""
    for part in "" if words == "all ports" else words.split(", "):
        *first, value = part.split(" ")
        name = first[0] if first else name
        said.setdefault(name, []).append(value)
    assert words.isprintable()
    assert [port(text) for text in said.get("port", [])] == ports
    assert [int(text) for text in said.get("pid", [])] == sorted(pids)
    assert [cidr(text) for text in said.get("peer", [])] == peers


def test_what_is_chosen_is_kept() -> None:
    peers = (IPv4Network("10.0.0.0/8"),)
    filters = chosen((range(443, 444),), (os.getpid(), 1), peers, True)
    assert filters == Filters((range(443, 444),), Selection(frozenset({1, os.getpid()}), peers, everything=True))
    assert chosen((), (), (), False) == Filters((), Selection())


@pytest.mark.parametrize("pids", [(PAST_ANY_PID,), (1, PAST_ANY_PID), (10**400,)])
def test_a_process_that_does_not_exist_is_told_at_once(pids: tuple[int, ...]) -> None:
    with pytest.raises(TcptraceError, match=f"there is no process {pids[-1]}") as raised:
        chosen((), pids, (), False)
    assert "pgrep" in raised.value.remedy and raised.value.exit_code == USAGE


def test_a_thread_is_no_process() -> None:
    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(threading.get_native_id).result()
        with pytest.raises(
            TcptraceError, match=f"there is no process {thread}: that is a thread of process {os.getpid()}"
        ) as raised:
            chosen((), (thread,), (), False)
    assert f"--pid {os.getpid()}" in raised.value.remedy and raised.value.exit_code == USAGE
