"""The demo's WebSocket: RFC 6455's own samples, frames of every length, and other ends that break off or lie."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.demo import websocket
from tracer.demo.websocket import BINARY, CLOSE, PING, TEXT, ProtocolError

opcodes = st.sampled_from([TEXT, BINARY, CLOSE, PING])


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets that wait for nothing longer than 10 s."""
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(10)
        other.settimeout(10)
        yield one, other


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's and a server's socket."""
    with pair() as both:
        yield both


def received(stream: bytes) -> list[tuple[int, bytes]]:
    """The frames of a stream that then ends."""
    with pair() as (one, other), ThreadPoolExecutor(1) as pool:
        frames = pool.submit(lambda: list(websocket.frames(other)))
        one.sendall(stream)
        one.shutdown(socket.SHUT_WR)
        return frames.result()


def test_the_token_of_the_rfc() -> None:
    assert websocket.accept_token(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    ("stream", "frame"),
    [
        ("81 05 48 65 6c 6c 6f", (TEXT, b"Hello")),
        ("81 85 37 fa 21 3d 7f 9f 4d 51 58", (TEXT, b"Hello")),
        ("89 05 48 65 6c 6c 6f", (PING, b"Hello")),
        ("82 7e 01 00 " + "00" * 256, (BINARY, bytes(256))),
        ("82 7f 00 00 00 00 00 01 00 00" + "00" * 65536, (BINARY, bytes(65536))),
    ],
)
def test_the_frames_of_the_rfc(stream: str, frame: tuple[int, bytes]) -> None:
    assert received(bytes.fromhex(stream)) == [frame]
    if stream.startswith("81 05"):
        assert websocket.frame(*frame, masked=False) == bytes.fromhex(stream)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("length", "head"), [(0, 2), (1, 2), (3, 2), (125, 2), (126, 4), (127, 4), (65535, 4), (65536, 10), (1 << 20, 10)]
)
def test_a_frame_of_any_length_arrives_whole(length: int, head: int, masked: bool) -> None:
    payload = bytes(number % 251 for number in range(length))
    sent = websocket.frame(BINARY, payload, masked=masked)
    assert len(sent) == head + 4 * masked + length
    assert received(sent) == [(BINARY, payload)]


def test_a_mask_hides_the_payload_anew_each_time() -> None:
    payload = b"the same words as before" * 4
    one, other = (websocket.frame(TEXT, payload, masked=True) for _ in range(2))
    assert payload not in one and one != other


@given(st.lists(st.tuples(opcodes, st.binary(max_size=300), st.booleans()), max_size=5))
def test_frames_arrive_in_their_order(sent: list[tuple[int, bytes, bool]]) -> None:
    stream = b"".join(websocket.frame(opcode, payload, masked=masked) for opcode, payload, masked in sent)
    assert received(stream) == [(opcode, payload) for opcode, payload, _ in sent]


@pytest.mark.parametrize("masked", [False, True])
def test_of_a_stream_that_breaks_off_the_whole_frames_count(masked: bool) -> None:
    first, second = (websocket.frame(BINARY, payload, masked=masked) for payload in (b"one", b"another"))
    for length in range(len(first), len(first + second)):
        assert received((first + second)[:length]) == [(BINARY, b"one")]


@pytest.mark.parametrize("head", [b"\x82\x7e", b"\x82\x7e\x01", b"\x82\x7f" + bytes(7), b"\x82\xfe\x01"])
def test_a_length_that_breaks_off_is_no_frame(head: bytes) -> None:
    assert received(head) == []


def test_a_frame_in_pieces_is_refused() -> None:
    with pytest.raises(ProtocolError, match="in pieces"):
        received(b"\x01\x05Hello")


@pytest.mark.parametrize("length", [(1 << 20) + 1, 1 << 63, (1 << 64) - 1])
def test_a_frame_longer_than_any_of_ours_is_refused_before_it_is_read(length: int) -> None:
    with pytest.raises(ProtocolError, match=f"a frame of {length} bytes"):
        received(b"\x82\x7f" + struct.pack("!Q", length))


def test_both_ends_shake_hands_and_no_byte_of_the_first_frame_is_lost(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends

    def serve() -> None:
        websocket.accept(server)
        server.sendall(websocket.frame(TEXT, b"at once", masked=False))

    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(serve)
        websocket.connect(client, "172.28.72.114:8443", "/ws/358/slow/websocket")
        serving.result()
    assert next(websocket.frames(client)) == (TEXT, b"at once")


def test_a_client_asks_as_nginx_expects_it(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    server.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
    with pytest.raises(ProtocolError, match=r"no upgrade to WebSocket: b'HTTP/1\.1 502 Bad Gateway'"):
        websocket.connect(client, "172.28.72.114:8443", "/ws/358/slow/websocket")
    request, *headers = server.recv(4096).decode().split("\r\n")
    assert request == "GET /ws/358/slow/websocket HTTP/1.1"
    assert {"Host: 172.28.72.114:8443", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"} < set(headers)


@pytest.mark.parametrize("token", ["", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"])
def test_a_server_that_answers_another_key_is_refused(ends: tuple[socket.socket, socket.socket], token: str) -> None:
    client, server = ends
    server.sendall(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n{token}\r\n".encode())
    with pytest.raises(ProtocolError, match="no upgrade"):
        websocket.connect(client, "localhost", "/")


def test_header_names_are_told_in_any_case(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    client.sendall(b"GET / HTTP/1.1\r\nSEC-WEBSOCKET-KEY :  dGhlIHNhbXBsZSBub25jZQ== \r\nno colon\r\n\r\n")
    websocket.accept(server)
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n" in client.recv(4096)


def test_who_is_no_websocket_client_is_refused(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with pytest.raises(ProtocolError, match="no WebSocket client"):
        websocket.accept(server)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n", b"x" * 20_000], ids=["nothing", "half", "endless"])
def test_a_handshake_that_breaks_off_or_never_ends_is_refused(ends: tuple[socket.socket, socket.socket], said: bytes) -> None:
    client, server = ends
    client.sendall(said)
    if len(said) < 20_000:
        client.shutdown(socket.SHUT_WR)
    with pytest.raises(ProtocolError, match="broke off"):
        websocket.accept(server)
