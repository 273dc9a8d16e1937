"""Hostile text made harmless, and numbers as people read them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer import text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"java", "java"),
        (b"\x1b]0;title\x07", r"\x1b]0;title\x07"),
        (b"caf\xc3\xa9", "café"),
        (b"bad \xff\xfe", r"bad \xff\xfe"),
        ("right\u202eleft", r"right\u202eleft"),
        ("two\nlines\r\t", r"two\x0alines\x0d\x09"),
        ("\U000e0001tag", r"\U000e0001tag"),
    ],
)
def test_what_could_do_harm_becomes_visible(raw: bytes | str, shown: str) -> None:
    assert text.printable(raw) == shown


@given(st.binary() | st.text())
def test_nothing_hidden_is_left_and_twice_is_once(raw: bytes | str) -> None:
    once = text.printable(raw)
    assert not any(unicodedata.category(char)[0] == "C" or unicodedata.category(char) in ("Zl", "Zp") for char in once)
    assert text.printable(once) == once


def test_a_text_is_not_endless() -> None:
    assert len(text.printable(b"x" * 1_000_000)) == text.LONGEST
    once = text.printable(b"\x1b" * 4096)
    assert len(once) == text.LONGEST and text.printable(once) == once


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0 s"), (0.44, "0.4 s"), (43, "43 s"), (125, "2 m 05 s"), (11_520, "3 h 12 m"), (360_000, "4 d 04 h")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


def test_addresses_counts_and_times() -> None:
    assert text.hostport("2001:db8::1", 443) == "[2001:db8::1]:443"
    assert text.count(362708) == "362,708"
    assert text.utc(1_795_000_000_123_456_789) == "2026-11-18T11:06:40.123456Z"
